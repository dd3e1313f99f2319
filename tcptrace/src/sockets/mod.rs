//! Walks over the kernel's sockets in every network namespace that can be found: at the start to
//! learn what was there before, and on a slow timer to compare.
//!
//! The walk runs on a thread of its own while the ring is being drained: its sockets come through
//! the ring like any other event.

pub mod levels;
pub mod lookups;
pub mod owners;

use std::{
    collections::BTreeSet,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, TryRecvError, channel},
    },
    thread,
    time::Duration,
};

use hashbrown::HashSet;

use crate::{
    feed::{
        event::{Endpoints, NetnsId, Seed, SocketOwner},
        names::Name,
    },
    host::{
        names::interfaces_here,
        netns::{self, Namespace},
    },
    probe::{Hook, Probe, SocketWalk, Source},
    sock_diag::{Diag, DiagSocket, Family},
    tracker::{Listed, WalkEnd},
};

/// After a walk that lost sockets, or that failed.
const RETRY: Duration = Duration::from_secs(5);
/// From a loss to the walk that mends it: a walk does not judge what it finds in motion, and more may be
/// lost at once.
const AFTER_LOSS: Duration = Duration::from_millis(1_500);
/// How often as long as the last walk took there is none for a loss: who goes on losing events is not to be
/// kept busy with walks as well.
const REST: u64 = 19;
/// Walks asked for at a time: each is an open file, of which a process has few.
const BATCH: usize = 32;

/// What the thread did.
#[derive(Default)]
struct Outcome {
    namespaces: HashSet<NetnsId>,
    /// What sock_diag listed; `None` when the sockets came through the ring.
    listed: Option<Vec<Listed>>,
    /// Some of what sock_diag listed is missing.
    torn: bool,
    /// The interfaces of each namespace.
    interfaces: Vec<Name>,
    /// The sockets that processes hold in other namespaces than their own were told of.
    held: bool,
    /// What went wrong, each once.
    errors: BTreeSet<String>,
}

/// What the thread asks for.
enum Wanted {
    /// So many walks over the sockets of a namespace.
    Walks(usize),
    /// One over the files of all processes.
    Held,
    /// To go on: what it found so far may have filled half the ring.
    Room,
}

/// The thread's end of the conversation.
struct Asking {
    wanted: Sender<Wanted>,
    walks: Receiver<Result<Vec<SocketWalk>, String>>,
    /// Sockets between two times that it asks for room.
    piece: usize,
}

impl Asking {
    fn ask(&self, wanted: Wanted) -> Result<Vec<SocketWalk>, String> {
        let gone = |()| "the tracer ends";
        self.wanted.send(wanted).map_err(|_| gone(()))?;
        self.walks.recv().map_err(|_| gone(()))?
    }

    fn run(&self, walk: SocketWalk) -> Result<(), String> {
        walk.run(self.piece, || self.ask(Wanted::Room).map(drop))
    }
}

/// A walk under way, on its thread.
struct Walk {
    /// So many walks are wanted.
    wanted: Receiver<Wanted>,
    walks: Sender<Result<Vec<SocketWalk>, String>>,
    /// It waits for room in the ring.
    waits: bool,
    outcome: Receiver<Outcome>,
    /// The sockets that had been lost when it began.
    lost_before: u64,
}

/// Where it stands.
enum State {
    /// The next one is due then.
    Waiting(u64),
    Walking(Walk),
    /// It is over, but what it found may still be in the ring.
    Draining(Outcome, u64),
}

/// What the tracker has to be told.
#[derive(Debug)]
pub enum Step {
    /// A walk begins; its sockets come through the ring, or in a list at its end.
    Begins {
        /// In a list.
        listing: bool,
    },
    /// It is over, and all its sockets were taken from the ring.
    ///
    /// With it the names of the interfaces in each namespace.
    Ends(WalkEnd, Vec<Name>),
}

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub now_ns: u64,
    /// The ring was found empty just now.
    pub emptied: bool,
    /// Transitions lost so far.
    pub lost: u64,
    /// Sockets of walks lost so far.
    pub lost_sockets: u64,
    /// The last walk could not compare some connections: their namespaces were not found.
    pub uncompared: bool,
}

/// Begins walks when they are due, and tells when they are over.
pub struct Survey {
    state: State,
    /// The kernel has no iterator over sockets that can be used.
    listing: bool,
    /// Between two walks; `None` when none is wanted but at the start and after losses.
    interval: Option<Duration>,
    /// Transitions lost before the last walk began, or since and a walk is due for them.
    lost: u64,
    /// When the last walk began.
    began_ns: u64,
    /// No walk is made for a loss before.
    rests_until_ns: u64,
    /// Complained of already.
    said: BTreeSet<String>,
}

impl Survey {
    /// The first walk is due at once.
    pub fn new(probe: &Probe, interval: Option<Duration>) -> Self {
        let due = if probe.is_attached(Hook::Sockets) {
            0
        } else {
            u64::MAX
        };
        Self {
            state: State::Waiting(due),
            listing: probe.source(Hook::Sockets) == Some(Source::SockDiag),
            interval,
            lost: 0,
            began_ns: 0,
            rests_until_ns: 0,
            said: BTreeSet::new(),
        }
    }

    /// The last walk could not compare some connections: another one, which looks for their namespaces too, is
    /// made soon.
    pub fn hurry(&mut self, now_ns: u64) {
        if let State::Waiting(due) = &mut self.state
            && !self.listing
        {
            *due = (*due).min(after(now_ns, RETRY).max(self.rests_until_ns));
        }
    }

    /// A walk is under way.
    pub const fn is_walking(&self) -> bool {
        !matches!(self.state, State::Waiting(_))
    }

    /// When the next walk is due.
    pub const fn due_ns(&self) -> Option<u64> {
        match self.state {
            State::Waiting(due) => Some(due),
            State::Walking(_) | State::Draining(..) => None,
        }
    }

    /// Goes on, if it can.
    pub fn poll(&mut self, probe: &mut Probe, at: Moment) -> Option<Step> {
        match &mut self.state {
            // It is never due.
            State::Waiting(u64::MAX) if !probe.is_attached(Hook::Sockets) => None,
            State::Waiting(due) => {
                if at.lost > self.lost {
                    self.lost = at.lost;
                    let soon = after(at.now_ns, AFTER_LOSS).max(self.rests_until_ns);
                    *due = (*due).min(soon);
                }
                if at.now_ns < *due {
                    return None;
                }
                match start(at, self.listing, probe.piece()) {
                    Ok(walk) => {
                        self.began_ns = at.now_ns;
                        self.state = State::Walking(walk);
                        Some(Step::Begins {
                            listing: self.listing,
                        })
                    }
                    Err(why) => {
                        self.complain(&why);
                        self.state = State::Waiting(after(at.now_ns, RETRY));
                        None
                    }
                }
            }
            State::Walking(walk) => {
                // An empty ring has room for a piece, and for what happens meanwhile as well.
                if walk.waits && at.emptied {
                    walk.waits = false;
                    let _sent = walk.walks.send(Ok(Vec::new()));
                }
                if let Ok(wanted) = walk.wanted.try_recv() {
                    let walks = match wanted {
                        Wanted::Walks(count) => Some((0..count).map(|_| probe.walk()).collect()),
                        Wanted::Held => Some(probe.walk_files().map(|walk| vec![walk])),
                        Wanted::Room => None,
                    };
                    // If the thread died, its outcome says so.
                    match walks {
                        Some(walks) => drop(walk.walks.send(walks)),
                        None => walk.waits = true,
                    }
                }
                let outcome = match walk.outcome.try_recv() {
                    Err(TryRecvError::Empty) => return None,
                    Ok(outcome) => outcome,
                    Err(TryRecvError::Disconnected) => Outcome {
                        errors: BTreeSet::from(["the thread died".to_owned()]),
                        ..Outcome::default()
                    },
                };
                self.state = State::Draining(outcome, walk.lost_before);
                None
            }
            State::Draining(..) if !at.emptied => None,
            State::Draining(outcome, lost_before) => {
                let complete = *lost_before == at.lost_sockets && !outcome.torn;
                let listed = outcome.listed.take();
                let namespaces = std::mem::take(&mut outcome.namespaces);
                let interfaces = std::mem::take(&mut outcome.interfaces);
                let (held, torn) = (outcome.held, outcome.torn);
                for why in std::mem::take(&mut outcome.errors) {
                    self.complain(&why);
                }
                if !complete && !torn {
                    self.complain("the ring was too small for them beside what happened meanwhile: give a larger --ring-size");
                }
                let took = at.now_ns.saturating_sub(self.began_ns);
                self.rests_until_ns = at.now_ns.saturating_add(took.saturating_mul(REST));
                let rest = if complete && !namespaces.is_empty() {
                    self.interval
                } else {
                    Some(RETRY)
                };
                self.state = State::Waiting(rest.map_or(u64::MAX, |rest| after(at.now_ns, rest)));
                let end = WalkEnd {
                    namespaces,
                    held,
                    complete,
                    listed,
                };
                Some(Step::Ends(end, interfaces))
            }
        }
    }

    fn complain(&mut self, why: &str) {
        if self.said.len() < 100 && self.said.insert(why.to_owned()) {
            tracing::warn!("the sockets that are there could not all be listed: {why}");
        }
    }
}

fn after(now_ns: u64, rest: Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX))
}

fn start(at: Moment, listing: bool, piece: usize) -> Result<Walk, String> {
    let (wanted_to, wanted) = channel();
    let (walks, walks_from) = channel();
    let (outcome_to, outcome) = channel();
    thread::Builder::new()
        .name("survey".to_owned())
        .spawn(move || {
            let outcome = if listing {
                list_all()
            } else {
                let asking = Asking {
                    wanted: wanted_to,
                    walks: walks_from,
                    piece,
                };
                walk_all(asking, at.uncompared)
            };
            // Whoever started it may be gone at any moment: then there is nothing to do.
            let _sent = outcome_to.send(outcome);
        })
        .map_err(|error| format!("starting its thread: {error}"))?;
    Ok(Walk {
        wanted,
        walks,
        waits: false,
        outcome,
        lost_before: at.lost_sockets,
    })
}

/// The thread. One namespace is open at a time.
fn walk_all(asking: Asking, uncompared: bool) -> Outcome {
    let mut outcome = Outcome::default();
    let mut walks = Vec::new();
    // Threads that enter namespaces ask too, one at a time.
    let asking = Mutex::new(asking);
    let ask = |wanted| lock(&asking).ask(wanted);
    let mut next = || -> Result<SocketWalk, String> {
        if walks.is_empty() {
            walks = ask(Wanted::Walks(BATCH))?;
        }
        walks.pop().ok_or_else(|| "there is no walk".to_owned())
    };
    let found = netns::find(|namespace| {
        match next().and_then(|walk| walk_one(&namespace, walk, &asking)) {
            Ok(interfaces) => {
                outcome.namespaces.insert(namespace.id);
                outcome.interfaces.extend(interfaces);
            }
            Err(why) => {
                outcome.errors.insert(why);
            }
        }
    });
    if let Err(error) = found {
        let why = format!("looking for network namespaces: {error}");
        outcome.errors.insert(why);
    } else if uncompared {
        // Later than the namespaces: one that is held by a process then was found before.
        let walked = ask(Wanted::Held).and_then(|walks| {
            walks
                .into_iter()
                .try_for_each(|walk| lock(&asking).run(walk))
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

fn lock(asking: &Mutex<Asking>) -> MutexGuard<'_, Asking> {
    asking.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread where there is no iterator: all sockets as sock_diag lists them, which gives each a
/// cookie.
fn list_all() -> Outcome {
    let mut outcome = Outcome::default();
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
    if let Err(error) = found {
        let why = format!("looking for network namespaces: {error}");
        outcome.errors.insert(why);
    }
    outcome.listed = Some(listed);
    outcome
}

/// Lists the sockets of the thread's namespace; `false` when some are missing.
fn list_one(netns: NetnsId, listed: &mut Vec<Listed>) -> Result<bool, String> {
    let mut diag = Diag::here().map_err(|error| error.to_string())?;
    let mut whole = true;
    for family in [Family::V4, Family::V6] {
        let outcome = diag
            .dump(family, u32::MAX, |socket| {
                if !socket.is_minisocket() {
                    listed.push(to_listed(&socket, netns));
                }
            })
            .map_err(|error| error.to_string())?;
        whole &= !outcome.overrun && !outcome.interrupted && outcome.malformed == 0;
    }
    Ok(whole)
}

fn to_listed(socket: &DiagSocket, netns: NetnsId) -> Listed {
    Listed {
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
            // sock_diag does not tell of SO_REUSEPORT.
            bind: None,
        },
    }
}

fn walk_one(
    namespace: &Namespace,
    walk: SocketWalk,
    asking: &Mutex<Asking>,
) -> Result<Vec<Name>, String> {
    let netns = namespace.id;
    namespace
        .enter(|| lock(asking).run(walk).map(|()| interfaces_here(netns)))
        .map_err(|error| format!("entering a network namespace: {error}"))?
}
