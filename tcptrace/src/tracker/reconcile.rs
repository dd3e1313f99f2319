//! Compares the tracker with the kernel's own list of sockets: at the start to learn what exists
//! already, later to find what either side lost.
//!
//! A walk's sockets arrive as events through the same ring as all others, in order with their
//! transitions. A walk begins with [`Reconciler::begin_walk`]; once all its events were taken,
//! [`Reconciler::end_walk`] compares.

use hashbrown::{HashMap, HashSet};
use tcptrace_common::TcpState;

use super::{
    connection::Connection,
    connections::Connections,
    lifecycle::is_synchronized,
    listener::Listener,
    vocabulary::{Completeness, Moment, Origin, Process, Role},
    walk::{Drift, ListedSocket, SocketHolders, WalkEnd},
};
use crate::feed::event::{Endpoints, NetnsId, Seed, SocketOwner};
use crate::tracker::without_process::{SocketWithoutProcess, SocketsWithoutProcess};

/// The longest time the kernel keeps an orphan, by its default settings: `tcp_retries2` and
/// `tcp_orphan_retries`. Until then it keeps its network namespace.
const LONGEST_ORPHAN_NS: u64 = 1_200_000_000_000;

/// How long a connection may live on in a namespace that no process holds: an orphan holds the
/// namespace itself.
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

/// A walk does not judge a socket whose last event is younger than this: a new one may not be
/// listed yet, and before Linux 6.1 the walk does not wait for a transition in progress.
const SETTLED_NS: u64 = 1_000_000_000;

/// The state of the comparison.
#[derive(Debug, Default)]
pub(super) struct Reconciler {
    /// When the current walk began.
    began: Option<Moment>,
    /// How many events had been lost by then.
    lost: u64,
    /// Of a walk that lists: the cookies of sockets that went to CLOSE since it began.
    closed: Option<HashSet<u64>>,
    /// Some sockets are known by their cookie only. It is used in place of the address, which it
    /// can never equal: the kernel counts cookies from 1.
    has_listed: bool,
    /// What the current walk has found so far.
    current: Drift,
    /// What the last walk found.
    last: Option<Drift>,
    /// The namespaces already walked, and how many times the tracker had settled then. A socket
    /// found there later that is not held was lost; elsewhere it existed before the trace.
    walked: HashMap<NetnsId, u64>,
    /// The namespaces in which the current walk found a socket held by a process of another
    /// namespace.
    held: HashSet<NetnsId>,
    unowned: SocketsWithoutProcess,
}

impl Reconciler {
    /// Whether the namespace had been walked when a connection was first seen there.
    pub(super) fn had_walked(&self, netns: Option<NetnsId>, met_in: u64) -> bool {
        let walked = netns.and_then(|netns| self.walked.get(&netns));
        walked.is_some_and(|&walked| walked <= met_in)
    }

    pub(super) fn drift(&self) -> Option<Drift> {
        self.last.clone()
    }

    fn count(&mut self, state: TcpState, difference: i64) {
        *self.current.by_state.entry(state).or_default() += difference;
    }

    pub(super) fn begin_walk(&mut self, sockets: &mut Connections, now_ns: u64, listing: bool) {
        sockets.walk += 1;
        self.closed = listing.then(HashSet::new);
        self.began = Moment::new(now_ns);
        self.lost = sockets.journal.stats.lost;
        self.current = Drift::default();
        self.held.clear();
    }

    /// A walk has ended, and all its sockets were taken. A socket held in a namespace that it
    /// covered, which it did not find and no event has mentioned since it began, is gone: its end
    /// was lost. The same holds in a namespace that is gone itself.
    pub(super) fn end_walk(&mut self, sockets: &mut Connections, now_ns: u64, end: &WalkEnd) {
        if let Some(began) = self.began.take() {
            if let Some(listed) = &end.listed {
                self.take_listed(sockets, began, listed);
            }
            if end.complete {
                self.give_up_missing(sockets, began, now_ns, end);
            }
            self.finish(sockets, end);
        }
        self.closed = None;
    }

    /// A namespace is gone: the walk did not find it, and no process holds a socket of it.
    fn is_gone(&self, netns: NetnsId, end: &WalkEnd) -> bool {
        let is_it = |other: &NetnsId| other.may_be(netns);
        end.held && !end.namespaces.iter().any(is_it) && !self.held.iter().any(is_it)
    }

    /// A process of another namespace holds a socket.
    pub(super) fn on_held(&mut self, sockets: &mut Connections, at: Origin, endpoints: &Endpoints) {
        self.held.extend(endpoints.netns);
        if let Some(held) = sockets.store.get_mut(at.socket) {
            held.followed.walk = sockets.walk;
        }
        sockets.listeners.mark_found(at.socket, sockets.walk);
    }

    pub(super) fn has_uncompared(&self) -> bool {
        let last = self.last.as_ref();
        last.is_some_and(|drift| drift.uncompared > 0)
    }

    /// Gives up the connections and listeners that a complete walk did not find.
    fn give_up_missing(
        &mut self,
        sockets: &mut Connections,
        began: Moment,
        now_ns: u64,
        end: &WalkEnd,
    ) {
        let time = Moment::new(now_ns).unwrap_or(Moment::MIN);
        // A list may pass over a socket whose neighbours come and go.
        let walk = sockets.walk - u64::from(end.listed.is_some());
        // A connection seen only by a STEP event has no known namespace.
        let covers_all = covers_all(sockets, end);
        let mut gone = Vec::new();
        for held in sockets.store.iter() {
            let quiet_ns = began.get().saturating_sub(held.followed.touched.get());
            if held.followed.walk >= walk || quiet_ns <= SETTLED_NS {
                continue;
            }
            let netns = held.endpoints.and_then(|ends| ends.netns);
            let is_gone = netns.map_or(covers_all, |netns| {
                end.namespaces.contains(&netns)
                    || (self.is_gone(netns, end) && outlives_namespace_ns(held.state) < quiet_ns)
            });
            if is_gone {
                gone.push((held.socket, held.state));
            } else {
                self.current.uncompared += 1;
            }
        }
        let listeners: Vec<u64> = sockets
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
            sockets.listeners.remove(socket);
        }
        for (socket, state) in gone {
            self.current.vanished += 1;
            self.count(state, 1);
            if let Some(key) = sockets.store.find(socket) {
                sockets.give_up(key, time);
            }
        }
    }

    /// Publishes what a walk found, and remembers what it covered.
    fn finish(&mut self, sockets: &mut Connections, end: &WalkEnd) {
        self.unowned.forget_search();
        let found = std::mem::take(&mut self.current);
        if !end.complete {
            return;
        }
        self.last = Some(found);
        if self.lost == sockets.journal.stats.lost {
            sockets.listeners.mark_known(&end.namespaces);
        }
        self.walked
            .retain(|netns, _| end.namespaces.contains(netns));
        for &netns in &end.namespaces {
            self.walked.entry(netns).or_insert(sockets.journal.settled);
        }
    }

    /// Takes a list of sockets, once all events before its end were taken.
    fn take_listed(&mut self, sockets: &mut Connections, began: Moment, listed: &[ListedSocket]) {
        let held: HashMap<Endpoints, u64> = sockets
            .store
            .iter()
            .filter_map(|held| Some((held.endpoints?, held.socket)))
            .collect();
        let listening: HashSet<Endpoints> = sockets
            .listeners
            .iter()
            .map(|listener| listener.endpoints)
            .collect();
        let (listeners, connections): (Vec<&ListedSocket>, Vec<&ListedSocket>) = listed
            .iter()
            .partition(|one| one.seed.state == TcpState::Listen);
        let found = listeners.iter().map(|one| one.seed.endpoints).collect();
        sockets.listeners.mark_found_at(&found, sockets.walk);
        let closed = self.closed.take().unwrap_or_default();
        // Listeners first: they tell which connections are passive.
        for one in listeners.into_iter().chain(connections) {
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
            self.has_listed |= known.is_none();
            let at = Origin {
                socket: known.unwrap_or(one.cookie),
                cookie: Some(one.cookie),
                time: began,
            };
            self.on_seed(sockets, at, &one.seed);
        }
    }

    /// An event of a connection that was known by its cookie only: from now on it has its address.
    pub(super) fn recognize_connection(&self, sockets: &mut Connections, at: Origin) {
        if let Some(cookie) = at.cookie.filter(|_| self.has_listed)
            && sockets.store.get(at.socket).is_none()
        {
            sockets.store.rename(cookie, at.socket);
        }
    }

    /// The same for a listener.
    pub(super) fn recognize_listener(&self, sockets: &mut Connections, at: Origin) {
        if let Some(cookie) = at.cookie.filter(|_| self.has_listed) {
            sockets.listeners.rename(cookie, at.socket);
        }
    }

    pub(super) fn note_closed(&mut self, at: Origin) {
        if let (Some(closed), Some(cookie)) = (&mut self.closed, at.cookie) {
            closed.insert(cookie);
        }
    }

    /// A socket that a walk found.
    pub(super) fn on_seed(&mut self, sockets: &mut Connections, at: Origin, seed: &Seed) {
        let id = match seed.state {
            TcpState::Listen => seed_listener(sockets, at, seed),
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Closing => self.seed_connection(sockets, at, seed),
            // Not connections of a full socket: the walk passes over them.
            TcpState::TimeWait | TcpState::Close | TcpState::NewSynRecv => None,
        };
        if let (Some(id), Some(inode)) = (id, seed.inode) {
            let socket = SocketWithoutProcess {
                id,
                socket: at.socket,
                found: at.time,
            };
            if let Some(process) = self.unowned.find(inode, socket) {
                name_process(sockets, at.socket, id, process);
            }
        }
    }

    pub(super) fn has_unowned(&self) -> bool {
        !self.unowned.is_empty()
    }

    pub(super) fn learn_owners(&mut self, sockets: &mut Connections, owners: SocketHolders) {
        for (socket, process) in self.unowned.resolve(owners) {
            name_process(sockets, socket.socket, socket.id, process);
        }
    }

    /// Returns the id of a connection that was not held.
    fn seed_connection(
        &mut self,
        sockets: &mut Connections,
        at: Origin,
        seed: &Seed,
    ) -> Option<u64> {
        let &Seed {
            state,
            ref endpoints,
            ref owner,
            ..
        } = seed;
        if let Some(held) = sockets.store.get_mut(at.socket) {
            if !held.has_another_peer_than(endpoints) {
                held.followed.walk = sockets.walk;
                held.learn_endpoints(endpoints);
                if held.owner == SocketOwner::default() {
                    held.owner = *owner;
                }
                held.learn_names(&sockets.names);
                let settled =
                    at.time.get().saturating_sub(held.followed.touched.get()) > SETTLED_NS;
                if held.state != state && settled {
                    let was = held.state;
                    sockets.journal.mark_gap(held);
                    held.state = state;
                    held.state_since = None;
                    held.learn_closer(state, None);
                    self.current.moved += 1;
                    self.count(was, 1);
                    self.count(state, -1);
                }
                return None;
            }
            // Both the end of the one and the beginning of the other were lost.
            sockets.give_up_previous(at);
        }
        sockets.ended.supersede(at.socket);
        let role = match state {
            // Only connect() leads there.
            TcpState::SynSent => Role::Active,
            // A process that connects from a port rarely listens on it as well.
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
                if sockets.listeners.is_at(endpoints) {
                    Role::Passive
                } else {
                    Role::Unknown
                }
            }
        };
        let journal = &mut sockets.journal;
        let mut connection = Connection::new(journal.take_id(), at.socket, role, state);
        connection.completeness = Completeness::Seeded;
        connection.followed.met_in = journal.settled;
        connection.established = is_synchronized(state);
        connection.learn_closer(state, None);
        connection.endpoints = Some(*endpoints);
        connection.owner = *owner;
        connection.followed.touched = at.time;
        connection.followed.walk = sockets.walk;
        connection.followed.heard = Some(sockets.silences.starting_at(at.time));
        let walked = endpoints
            .netns
            .is_some_and(|netns| self.walked.contains_key(&netns));
        if walked {
            journal.mark_gap(&mut connection);
            self.current.unknown += 1;
            self.count(state, -1);
        }
        let id = connection.id;
        sockets.enter(connection);
        Some(id)
    }
}

/// Whether everything held is in a namespace that the walk covered.
fn covers_all(sockets: &Connections, end: &WalkEnd) -> bool {
    let connections = sockets.store.iter();
    let of_connections = connections.filter_map(|held| held.endpoints?.netns);
    let listeners = sockets.listeners.iter();
    let of_listeners = listeners.filter_map(|held| held.endpoints.netns);
    of_connections
        .chain(of_listeners)
        .all(|netns| end.namespaces.contains(&netns))
}

/// Names the process of a socket, if it is still the same socket.
fn name_process(sockets: &mut Connections, socket: u64, id: u64, process: Process) {
    if let Some(held) = sockets.store.get_mut(socket)
        && held.id == id
    {
        held.process.get_or_insert(process);
    }
    if sockets.listeners.has(socket, id) {
        sockets.listeners.set_process(socket, process);
    }
}

/// Returns the id of a listener that was not held.
fn seed_listener(sockets: &mut Connections, at: Origin, seed: &Seed) -> Option<u64> {
    if sockets.listeners.mark_found(at.socket, sockets.walk) {
        return None;
    }
    let id = sockets.journal.take_id();
    let listener = Listener {
        bind: seed.bind,
        walk: sockets.walk,
        ..Listener::new(id, at, &seed.endpoints, seed.owner, &sockets.names)
    };
    if !sockets.listeners.insert(listener) {
        sockets.journal.stats.listeners_refused += 1;
        return None;
    }
    Some(id)
}
