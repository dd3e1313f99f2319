//! The kernel's own list of sockets beside what the tracker holds: at the start to learn what was
//! there before, later to find what either side lost.
//!
//! A walk's sockets come as events through the same ring as all others, so that each is in order
//! with its socket's transitions. It begins with [`Tracker::begin_walk`], and once all its events
//! are taken in, [`Tracker::end_walk`] judges.

use std::{collections::BTreeMap, vec::Drain};

use hashbrown::{HashMap, HashSet};
use tcptrace_common::TcpState;

use super::{
    Tracker, Update, connection::Connection, lifecycle::is_synchronized, listeners::Listener,
};
use crate::feed::event::{Endpoints, NetnsId, Seed, SocketOwner};
use crate::tracker::vocabulary::{At, Completeness, Moment, Process, ProcessSource, Role};

/// How long the kernel goes on with an orphan at most, by its default settings: `tcp_retries2` and
/// `tcp_orphan_retries`. Until then it keeps its network namespace.
const LONGEST_ORPHAN_NS: u64 = 1_200_000_000_000;

/// How long a connection may live on in a namespace that nobody holds: one whose application has closed
/// it holds the namespace itself.
const fn outlives_namespace_ns(state: TcpState) -> u64 {
    match state {
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => {
            LONGEST_ORPHAN_NS
        }
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::CloseWait
        | TcpState::Listen
        | TcpState::NewSynRecv => 0,
    }
}

/// A socket whose last event is younger than this is not judged by a walk: one that was just made
/// may not be listed yet, and before Linux 6.1 the walk does not wait for a transition under way.
const SETTLED_NS: u64 = 1_000_000_000;

/// What a walk found, by state: connections that the tracker held and the kernel did not, less
/// those that the kernel had and the tracker did not. All of them were mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// By the state held, or the state found.
    pub by_state: BTreeMap<TcpState, i64>,
    /// Connections that the tracker held and the kernel did not.
    pub vanished: u64,
    /// Connections that the kernel had and the tracker did not.
    pub unknown: u64,
    /// Connections held in another state than the kernel's.
    pub moved: u64,
    /// Connections that could not be compared: their namespace was not walked through, and is not known
    /// to be gone.
    pub uncompared: u64,
}

/// What a walk covered.
#[derive(Clone, Debug, Default)]
pub struct WalkEnd {
    /// The network namespaces that were walked through to the end.
    pub namespaces: HashSet<NetnsId>,
    /// The sockets that processes hold elsewhere were told of too ([`Body::Held`](crate::feed::event::Body)).
    pub held: bool,
    /// Every socket found came through: nothing was lost meanwhile.
    pub complete: bool,
    /// The sockets themselves, where they did not come through the ring.
    pub listed: Option<Vec<Listed>>,
}

/// A socket as sock_diag lists it: it has a cookie, and no address that we could know it by.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// `skc_cookie`, which its events tell from now on.
    pub cookie: u64,
    /// What it was.
    pub seed: Seed,
}

/// Who holds which sockets, as a search found it.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// When the search began.
    pub began_ns: u64,
    /// Process id and name, by the inode of the socket's file.
    pub by_inode: HashMap<u64, (u32, [u8; 16])>,
}

/// A socket that nobody is known to have opened.
#[derive(Debug)]
struct Unowned {
    id: u64,
    socket: u64,
    found: Moment,
}

/// Where the comparison stands.
#[derive(Debug, Default)]
pub(super) struct Resync {
    /// The number of the walk under way, or of the last one.
    pub(super) walk: u64,
    /// When the walk under way began.
    began: Option<Moment>,
    /// How much had been lost by then.
    lost: u64,
    /// Of a walk that lists: the cookies of sockets that went to CLOSE since it began.
    closed: Option<HashSet<u64>>,
    /// There are sockets that are known by their cookies only. Those stand in the place of the
    /// address, which no cookie can be: the kernel counts them from 1 on.
    has_listed: bool,
    /// What it found so far.
    current: Drift,
    /// What the last one found.
    last: Option<Drift>,
    /// The namespaces that were walked through before, and when the tracker had how often settled: what is
    /// found or met there later and is not held was lost. Elsewhere it was there before we looked.
    walked: HashMap<NetnsId, u64>,
    /// The namespaces of which a process elsewhere was found to hold a socket, by the walk under way.
    held: HashSet<NetnsId>,
    /// By the inode of its file.
    unowned: HashMap<u64, Unowned>,
    /// What the last search found, until the end of a walk.
    owners: Owners,
}

impl Resync {
    /// What is met there then, in mid-life, was there when the namespace was walked through.
    pub(super) fn had_walked(&self, netns: Option<NetnsId>, met_in: u64) -> bool {
        let walked = netns.and_then(|netns| self.walked.get(&netns));
        walked.is_some_and(|&walked| walked <= met_in)
    }

    pub(super) fn drift(&self) -> Option<Drift> {
        self.last.clone()
    }

    fn found(&mut self, state: TcpState, difference: i64) {
        *self.current.by_state.entry(state).or_default() += difference;
    }
}

impl Tracker {
    /// A walk over the kernel's sockets begins.
    pub fn begin_walk(&mut self, now_ns: u64, listing: bool) {
        self.resync.closed = listing.then(HashSet::new);
        self.resync.walk += 1;
        self.resync.began = Moment::new(now_ns);
        self.resync.lost = self.stats.lost;
        self.resync.current = Drift::default();
        self.resync.held.clear();
    }

    /// A walk is over, and all its sockets were taken in. What is held in the namespaces that it
    /// covered, was not found, and has not been spoken of since it began, is gone: its end was
    /// lost. So it is in a namespace that is gone itself. Returns what is to be said of that.
    pub fn end_walk(&mut self, now_ns: u64, end: &WalkEnd) -> Drain<'_, Update> {
        if let Some(began) = self.resync.began.take() {
            if let Some(listed) = &end.listed {
                self.take_listed(began, listed);
            }
            self.judge(began, now_ns, end);
        }
        self.resync.closed = None;
        self.updates.drain(..)
    }

    /// Nothing is held of a namespace that the walk did not come through.
    fn sees_all(&self, end: &WalkEnd) -> bool {
        let of_connections = self.store.iter().filter_map(|held| held.endpoints?.netns);
        let of_listeners = self
            .listeners
            .iter()
            .filter_map(|held| held.endpoints.netns);
        of_connections
            .chain(of_listeners)
            .all(|netns| end.namespaces.contains(&netns))
    }

    /// A namespace is gone: a walk found none such, and no process that holds a socket of it.
    fn is_gone(&self, netns: NetnsId, end: &WalkEnd) -> bool {
        let is_it = |other: &NetnsId| other.may_be(netns);
        end.held && !end.namespaces.iter().any(is_it) && !self.resync.held.iter().any(is_it)
    }

    /// A process elsewhere holds a socket.
    pub(super) fn on_held(&mut self, at: At, endpoints: &Endpoints) {
        let walk = self.resync.walk;
        self.resync.held.extend(endpoints.netns);
        if let Some(held) = self.store.get_mut(at.socket) {
            held.walk = walk;
        }
        self.listeners.found(at.socket, walk);
    }

    /// The last walk could not compare some connections.
    pub fn has_uncompared(&self) -> bool {
        let last = self.resync.last.as_ref();
        last.is_some_and(|drift| drift.uncompared > 0)
    }

    fn judge(&mut self, began: Moment, now_ns: u64, end: &WalkEnd) {
        let time = Moment::new(now_ns).unwrap_or(Moment::MIN);
        if end.complete {
            // A list may pass over one whose neighbours come and go.
            let walk = self.resync.walk - u64::from(end.listed.is_some());
            // Of whom no more than a step was seen, nobody knows where it was.
            let sees_all = self.sees_all(end);
            let mut gone = Vec::new();
            for held in self.store.iter() {
                let quiet_ns = began.get().saturating_sub(held.touched.get());
                if held.walk >= walk || quiet_ns <= SETTLED_NS {
                    continue;
                }
                let netns = held.endpoints.and_then(|ends| ends.netns);
                let is_gone = netns.map_or(sees_all, |netns| {
                    end.namespaces.contains(&netns)
                        || (self.is_gone(netns, end)
                            && outlives_namespace_ns(held.state) < quiet_ns)
                });
                if is_gone {
                    gone.push((held.socket, held.state));
                } else {
                    self.resync.current.uncompared += 1;
                }
            }
            let listeners: Vec<u64> = self
                .listeners
                .iter()
                .filter(|held| {
                    let settled = held
                        .since
                        .is_none_or(|since| since.get().saturating_add(SETTLED_NS) < began.get());
                    let netns = held.endpoints.netns;
                    held.walk < walk
                        && settled
                        && netns.is_some_and(|netns| {
                            end.namespaces.contains(&netns) || self.is_gone(netns, end)
                        })
                })
                .map(|held| held.socket)
                .collect();
            for socket in listeners {
                self.listeners.remove(socket);
            }
            for (socket, state) in gone {
                self.resync.current.vanished += 1;
                self.resync.found(state, 1);
                if let Some(place) = self.store.find(socket) {
                    self.give_up(place, time);
                }
            }
        }
        self.resync.owners = Owners::default();
        let found = std::mem::take(&mut self.resync.current);
        if end.complete {
            self.resync.last = Some(found);
            if self.resync.lost == self.stats.lost {
                self.listeners.know(&end.namespaces);
            }
            let walked = &mut self.resync.walked;
            walked.retain(|netns, _| end.namespaces.contains(netns));
            for &netns in &end.namespaces {
                walked.entry(netns).or_insert(self.settled);
            }
        }
    }

    /// Takes in a list of sockets, once all events before its end are.
    fn take_listed(&mut self, began: Moment, listed: &[Listed]) {
        let held: HashMap<Endpoints, u64> = self
            .store
            .iter()
            .filter_map(|held| Some((held.endpoints?, held.socket)))
            .collect();
        let listening: HashSet<Endpoints> = self
            .listeners
            .iter()
            .map(|listener| listener.endpoints)
            .collect();
        let places = listed
            .iter()
            .filter(|one| one.seed.state == TcpState::Listen)
            .map(|one| one.seed.endpoints)
            .collect();
        self.listeners.found_at(&places, self.resync.walk);
        let closed = self.resync.closed.take().unwrap_or_default();
        // Listeners first: they tell who is passive.
        let listeners = |wanted: bool| {
            let is_one = move |one: &&Listed| (one.seed.state == TcpState::Listen) == wanted;
            listed.iter().filter(is_one)
        };
        for one in listeners(true).chain(listeners(false)) {
            let known = match one.seed.state {
                TcpState::Listen if listening.contains(&one.seed.endpoints) => continue,
                // Requests, and connects whose port is not known yet: both are soon over.
                TcpState::SynSent | TcpState::SynRecv => continue,
                TcpState::Listen
                | TcpState::Established
                | TcpState::FinWait1
                | TcpState::FinWait2
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
                | TcpState::LastAck
                | TcpState::Closing
                | TcpState::NewSynRecv => held.get(&one.seed.endpoints).copied(),
            };
            if known.is_none() && closed.contains(&one.cookie) {
                continue;
            }
            self.resync.has_listed |= known.is_none();
            let at = At {
                socket: known.unwrap_or(one.cookie),
                cookie: Some(one.cookie),
                time: began,
            };
            self.on_seed(at, &one.seed);
        }
    }

    /// An event speaks of a socket that is known by its cookie only: from now on it has its address.
    pub(super) fn recognize(&mut self, at: At, stops_listening: bool) {
        let Some(cookie) = at.cookie.filter(|_| self.resync.has_listed) else {
            return;
        };
        if stops_listening {
            self.listeners.rename(cookie, at.socket);
        } else if self.store.get(at.socket).is_none() {
            self.store.rename(cookie, at.socket);
        }
    }

    /// A socket went to CLOSE.
    pub(super) fn note_closed(&mut self, at: At) {
        if let (Some(closed), Some(cookie)) = (&mut self.resync.closed, at.cookie) {
            closed.insert(cookie);
        }
    }

    /// A socket that is there.
    pub(super) fn on_seed(&mut self, at: At, seed: &Seed) {
        let &Seed {
            state,
            ref endpoints,
            ref owner,
            inode,
            ..
        } = seed;
        let id = match state {
            TcpState::Listen => self.seed_listener(at, seed),
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Closing => self.seed_connection(at, state, endpoints, owner),
            // Not connections of a full socket: the walk passes over them.
            TcpState::TimeWait | TcpState::Close | TcpState::NewSynRecv => None,
        };
        if let (Some(id), Some(inode)) = (id, inode) {
            if let Some(&(pid, comm)) = self.resync.owners.by_inode.get(&inode) {
                self.name(at.socket, id, proc(pid, comm));
                return;
            }
            let unowned = Unowned {
                id,
                socket: at.socket,
                found: at.time,
            };
            self.resync.unowned.insert(inode, unowned);
        }
    }

    /// Names the process of a socket that is still the same.
    fn name(&mut self, socket: u64, id: u64, process: Process) {
        if let Some(held) = self.store.get_mut(socket)
            && held.id == id
        {
            held.process.get_or_insert(process);
        }
        if self.listeners.is(socket, id) {
            self.listeners.name(socket, process);
        }
    }

    /// There are sockets that nobody is known to have opened, and somebody may hold.
    pub fn has_unowned(&self) -> bool {
        !self.resync.unowned.is_empty()
    }

    /// Takes in who holds the sockets that nobody is known to have opened. Those that were found before the
    /// search began, and that it did not find, nobody holds.
    pub fn learn_owners(&mut self, owners: Owners) {
        let unowned = std::mem::take(&mut self.resync.unowned);
        for (inode, socket) in unowned {
            let Some(&(pid, comm)) = owners.by_inode.get(&inode) else {
                if socket.found.get() >= owners.began_ns {
                    self.resync.unowned.insert(inode, socket);
                }
                continue;
            };
            let process = proc(pid, comm);
            self.name(socket.socket, socket.id, process);
        }
        self.resync.owners = owners;
    }

    /// Answers the id of a listener that was not known.
    fn seed_listener(&mut self, at: At, seed: &Seed) -> Option<u64> {
        if self.listeners.found(at.socket, self.resync.walk) {
            return None;
        }
        let listener = Listener {
            id: self.take_id(),
            socket: at.socket,
            endpoints: seed.endpoints,
            owner: seed.owner,
            named: self.names.of(&seed.owner, &seed.endpoints),
            cookie: at.cookie,
            bind: seed.bind,
            // Who called listen() was not seen.
            process: None,
            since: None,
            walk: self.resync.walk,
        };
        let id = listener.id;
        if !self.listeners.insert(listener) {
            self.stats.listeners_refused += 1;
            return None;
        }
        Some(id)
    }

    /// Answers the id of a connection that was not known.
    fn seed_connection(
        &mut self,
        at: At,
        state: TcpState,
        endpoints: &Endpoints,
        owner: &SocketOwner,
    ) -> Option<u64> {
        let walk = self.resync.walk;
        if let Some(held) = self.store.get_mut(at.socket) {
            if !held.has_another_peer_than(endpoints) {
                held.walk = walk;
                held.learn_endpoints(endpoints);
                if held.owner == SocketOwner::default() {
                    held.owner = *owner;
                }
                held.learn_names(&self.names);
                let settled = at.time.get().saturating_sub(held.touched.get()) > SETTLED_NS;
                if held.state != state && settled {
                    let was = held.state;
                    self.stats.gaps += held.mark_gap();
                    held.state = state;
                    held.state_since = None;
                    held.learn_closer(state, None);
                    self.resync.current.moved += 1;
                    self.resync.found(was, 1);
                    self.resync.found(state, -1);
                }
                return None;
            }
            // Both the end of the one and the beginning of the other were lost.
            self.give_up_previous(at);
        }
        self.ended.supersede(at.socket);
        let role = match state {
            // Only connect() leads there.
            TcpState::SynSent => Role::Active,
            // Whoever connects from a port is not listening there, but for some who share it.
            TcpState::Established
            | TcpState::SynRecv
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::TimeWait
            | TcpState::Close
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Listen
            | TcpState::Closing
            | TcpState::NewSynRecv => {
                if self.listeners.is_at(endpoints) {
                    Role::Passive
                } else {
                    Role::Unknown
                }
            }
        };
        let mut connection = Connection::new(self.take_id(), at.socket, role, state);
        connection.completeness = Completeness::Seeded;
        connection.met_in = self.settled;
        connection.established = is_synchronized(state);
        connection.learn_closer(state, None);
        connection.endpoints = Some(*endpoints);
        connection.owner = *owner;
        connection.touched = at.time;
        connection.walk = walk;
        connection.heard = Some(self.silences.heard(at.time));
        let walked = endpoints
            .netns
            .is_some_and(|netns| self.resync.walked.contains_key(&netns));
        if walked {
            self.stats.gaps += connection.mark_gap();
            self.resync.current.unknown += 1;
            self.resync.found(state, -1);
        }
        let id = connection.id;
        self.enter(connection);
        Some(id)
    }
}

/// Who holds a socket.
const fn proc(pid: u32, comm: [u8; 16]) -> Process {
    Process {
        pid,
        comm,
        source: ProcessSource::Proc,
        gone: false,
    }
}
