//! One walk over the kernel's sockets, on a thread of its own.

use std::{
    collections::BTreeSet,
    io,
    sync::mpsc::{Receiver, Sender, channel},
};

use caps::Capability;
use hashbrown::HashSet;
use parking_lot::Mutex;

use crate::{
    feed::{
        event::{Endpoints, NetnsId, Seed, SocketOwner},
        name::Name,
    },
    host::{
        name_finder::interfaces_here,
        netns::{self, Namespace},
    },
    privileges::{self, capabilities},
    probe::SocketWalk,
    sock_diag::{Diag, DiagFamily, DiagSocket},
    tracker::ListedSocket,
};

/// Walks requested at a time: each is an open file, of which a process has few.
const BATCH: usize = 32;

/// The result of a walk.
#[derive(Default)]
pub(super) struct WalkOutcome {
    pub(super) namespaces: HashSet<NetnsId>,
    /// What sock_diag listed; `None` when the sockets came through the ring.
    pub(super) listed: Option<Vec<ListedSocket>>,
    /// Some of the listed sockets are missing.
    pub(super) torn: bool,
    pub(super) interfaces: Vec<Name>,
    /// The sockets held by processes of other namespaces were walked too.
    pub(super) held: bool,
    /// What went wrong, each once.
    pub(super) errors: BTreeSet<String>,
}

/// A request of the thread.
pub(super) enum WalkRequest {
    /// This many walks over the sockets of a namespace.
    Walks(usize),
    /// A walk over the files of all processes.
    Held,
    /// Permission to continue: what it found so far may have filled half the ring.
    Room,
}

/// The thread's requests to the tracer.
struct WalkRequests {
    wanted: Sender<WalkRequest>,
    walks: Receiver<Result<Vec<SocketWalk>, String>>,
    /// How many sockets come between two requests for room.
    piece: usize,
}

impl WalkRequests {
    fn request(&self, wanted: WalkRequest) -> Result<Vec<SocketWalk>, String> {
        let gone = |()| "the tracer ends";
        self.wanted.send(wanted).map_err(|_| gone(()))?;
        self.walks.recv().map_err(|_| gone(()))?
    }

    fn run(&self, walk: SocketWalk) -> Result<(), String> {
        walk.run(self.piece, || self.request(WalkRequest::Room).map(drop))
    }
}

/// A walk in progress, on its thread.
pub(super) struct Walk {
    pub(super) wanted: Receiver<WalkRequest>,
    pub(super) walks: Sender<Result<Vec<SocketWalk>, String>>,
    /// The walk waits for room in the ring.
    pub(super) waits: bool,
    pub(super) outcome: Receiver<WalkOutcome>,
    /// Sockets of walks lost before it began.
    pub(super) lost_before: u64,
}

/// Starts the thread of a walk.
///
/// `lost_sockets` is how many sockets of walks were lost before, and `piece` how many sockets come
/// between two requests for room in the ring. With `uncompared` the files of all processes are
/// walked too.
pub(super) fn start(
    listing: bool,
    uncompared: bool,
    lost_sockets: u64,
    piece: usize,
) -> Result<Walk, String> {
    let (wanted_to, wanted) = channel();
    let (walks, walks_from) = channel();
    let (outcome_to, outcome) = channel();
    privileges::spawn("survey", move || {
        let outcome = if listing {
            list_all()
        } else {
            let requests = WalkRequests {
                wanted: wanted_to,
                walks: walks_from,
                piece,
            };
            walk_all(requests, uncompared)
        };
        // The receiver may be gone at any moment: then there is nothing to do.
        let _sent = outcome_to.send(outcome);
    })
    .map_err(|error| format!("starting its thread: {error}"))?;
    Ok(Walk {
        wanted,
        walks,
        waits: false,
        outcome,
        lost_before: lost_sockets,
    })
}

/// Notes what the search for namespaces could not look at. Returns whether it was made.
fn note_search(found: &io::Result<usize>, outcome: &mut WalkOutcome) -> bool {
    let why = match found {
        Ok(0) => return true,
        Ok(_) if capabilities::holds(Capability::CAP_SYS_PTRACE) => {
            "some network namespaces cannot be looked at".to_owned()
        }
        Ok(_) => {
            "the network namespaces of processes cannot be looked at, which takes CAP_SYS_PTRACE"
                .to_owned()
        }
        Err(error) => format!("looking for network namespaces: {error}"),
    };
    outcome.errors.insert(why);
    found.is_ok()
}

/// Runs a walk with the iterator. One namespace is open at a time.
fn walk_all(requests: WalkRequests, uncompared: bool) -> WalkOutcome {
    let mut outcome = WalkOutcome::default();
    let mut walks = Vec::new();
    // Threads that enter namespaces send requests too, one at a time.
    let requests = Mutex::new(requests);
    let ask = |wanted| requests.lock().request(wanted);
    let mut next = || -> Result<SocketWalk, String> {
        if walks.is_empty() {
            walks = ask(WalkRequest::Walks(BATCH))?;
        }
        walks.pop().ok_or_else(|| "there is no walk".to_owned())
    };
    let found = netns::find(|namespace| {
        match next().and_then(|walk| walk_one(&namespace, walk, &requests)) {
            Ok(interfaces) => {
                outcome.namespaces.insert(namespace.id);
                outcome.interfaces.extend(interfaces);
            }
            Err(why) => {
                outcome.errors.insert(why);
            }
        }
    });
    if note_search(&found, &mut outcome) && uncompared {
        // After the namespaces: one that is held by a process by now was found before.
        let walked = ask(WalkRequest::Held).and_then(|walks| {
            walks
                .into_iter()
                .try_for_each(|walk| requests.lock().run(walk))
        });
        match walked {
            Ok(()) => outcome.held = true,
            Err(why) => {
                outcome
                    .errors
                    .insert(format!("sockets by their files: {why}"));
            }
        }
    }
    outcome
}

/// Runs a walk without an iterator: sock_diag lists all sockets, and gives each a cookie.
fn list_all() -> WalkOutcome {
    let mut outcome = WalkOutcome::default();
    let mut listed = Vec::new();
    let found = netns::find(|namespace| {
        let list = || {
            let whole = list_one(namespace.id, &mut listed)?;
            Ok((whole, interfaces_here(namespace.id)))
        };
        let outcome_here = namespace
            .enter(list)
            .map_err(|error| format!("entering a network namespace: {error}"))
            .and_then(|listed: Result<_, String>| listed);
        match outcome_here {
            Ok((whole, interfaces)) => {
                outcome.namespaces.insert(namespace.id);
                outcome.interfaces.extend(interfaces);
                outcome.torn |= !whole;
            }
            Err(why) => {
                outcome.errors.insert(why);
            }
        }
    });
    note_search(&found, &mut outcome);
    outcome.listed = Some(listed);
    outcome
}

/// Lists the sockets of the calling thread's namespace; returns `false` when some are missing.
fn list_one(netns: NetnsId, listed: &mut Vec<ListedSocket>) -> Result<bool, String> {
    let mut diag = Diag::here().map_err(|error| error.to_string())?;
    let mut whole = true;
    for family in [DiagFamily::V4, DiagFamily::V6] {
        let outcome = diag
            .dump(family, u32::MAX, |socket| {
                if !socket.is_minisocket() {
                    listed.push(to_listed(&socket, netns));
                }
            })
            .map_err(|error| error.to_string())?;
        whole &= outcome.is_complete();
    }
    Ok(whole)
}

fn to_listed(socket: &DiagSocket, netns: NetnsId) -> ListedSocket {
    ListedSocket {
        cookie: socket.cookie,
        seed: Seed {
            state: socket.state,
            endpoints: Endpoints {
                local_address: socket.tuple.local_address.to_canonical(),
                remote_address: socket.tuple.remote_address.to_canonical(),
                local_port: socket.tuple.local_port,
                remote_port: socket.tuple.remote_port,
                netns: Some(netns),
                interface: Some(socket.tuple.interface).filter(|&interface| interface != 0),
            },
            owner: SocketOwner {
                uid: socket.uid,
                cgroup: socket.cgroup,
            },
            inode: Some(socket.inode.into()).filter(|&inode| inode != 0),
            // sock_diag does not tell SO_REUSEPORT.
            bind: None,
        },
    }
}

fn walk_one(
    namespace: &Namespace,
    walk: SocketWalk,
    requests: &Mutex<WalkRequests>,
) -> Result<Vec<Name>, String> {
    let netns = namespace.id;
    namespace
        .enter(|| requests.lock().run(walk).map(|()| interfaces_here(netns)))
        .map_err(|error| format!("entering a network namespace: {error}"))?
}
