//! The kernel's own list of sockets beside what the tracker holds: at the start to learn what was
//! there before, later to find what either side lost.
//!
//! A walk's sockets come as events through the same ring as all others, so that each is in order
//! with its socket's transitions. It begins with [`Tracker::begin_walk`], and once all its events
//! are taken in, [`Tracker::end_walk`] judges.

use std::{collections::BTreeMap, vec::Drain};

use hashbrown::HashSet;
use tcptrace_common::TcpState;

use super::{
    Tracker, Update,
    connection::Connection,
    lifecycle::is_synchronized,
    listeners::Listener,
    terms::{At, Completeness, Moment, Role},
};
use crate::feed::event::{Endpoints, SocketOwner};

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
}

/// What a walk covered.
#[derive(Clone, Debug, Default)]
pub struct WalkEnd {
    /// The network namespaces that were walked through to the end.
    pub namespaces: HashSet<u32>,
    /// Every socket found came through: nothing was lost meanwhile.
    pub complete: bool,
}

/// Where the comparison stands.
#[derive(Debug, Default)]
pub(super) struct Resync {
    /// The number of the walk under way, or of the last one.
    walk: u64,
    /// When the walk under way began.
    began: Option<Moment>,
    /// What it found so far.
    current: Drift,
    /// What the last one found.
    last: Option<Drift>,
    /// The namespaces that were walked through before: what is found there and not held was
    /// lost. Elsewhere it was there before we looked.
    walked: HashSet<u32>,
}

impl Resync {
    pub(super) fn drift(&self) -> Option<Drift> {
        self.last.clone()
    }

    fn found(&mut self, state: TcpState, difference: i64) {
        *self.current.by_state.entry(state).or_default() += difference;
    }
}

impl Tracker {
    /// A walk over the kernel's sockets begins.
    pub fn begin_walk(&mut self, now_ns: u64) {
        self.resync.walk += 1;
        self.resync.began = Moment::new(now_ns);
        self.resync.current = Drift::default();
    }

    /// A walk is over, and all its sockets were taken in. What is held in the namespaces that it
    /// covered, was not found, and has not been spoken of since it began, is gone: its end was
    /// lost. Returns what is to be said of that.
    pub fn end_walk(&mut self, now_ns: u64, end: &WalkEnd) -> Drain<'_, Update> {
        if let Some(began) = self.resync.began.take() {
            self.judge(began, now_ns, end);
        }
        self.updates.drain(..)
    }

    fn judge(&mut self, began: Moment, now_ns: u64, end: &WalkEnd) {
        let time = Moment::new(now_ns).unwrap_or(Moment::MIN);
        if end.complete {
            let walk = self.resync.walk;
            let gone: Vec<(u64, TcpState)> = self
                .store
                .iter()
                .filter(|held| {
                    let settled = held.touched.get().saturating_add(SETTLED_NS);
                    held.walk != walk && settled < began.get()
                })
                .filter(|held| {
                    let netns = held.endpoints.and_then(|ends| ends.netns);
                    netns.is_some_and(|netns| end.namespaces.contains(&netns))
                })
                .map(|held| (held.socket, held.state))
                .collect();
            for (socket, state) in gone {
                self.resync.current.vanished += 1;
                self.resync.found(state, 1);
                if let Some(place) = self.store.find(socket) {
                    self.give_up(place, time);
                }
            }
        }
        let found = std::mem::take(&mut self.resync.current);
        if end.complete {
            self.resync.last = Some(found);
            self.resync.walked.extend(&end.namespaces);
        }
    }

    /// A socket that is there.
    pub(super) fn on_seed(
        &mut self,
        at: At,
        state: TcpState,
        endpoints: &Endpoints,
        owner: &SocketOwner,
    ) {
        match state {
            TcpState::Listen => self.seed_listener(at, endpoints),
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::FinWait1
            | TcpState::FinWait2
            | TcpState::CloseWait
            | TcpState::LastAck
            | TcpState::Closing => self.seed_connection(at, state, endpoints, owner),
            // Not connections of a full socket: the walk passes over them.
            TcpState::TimeWait | TcpState::Close | TcpState::NewSynRecv => {}
        }
    }

    fn seed_listener(&mut self, at: At, endpoints: &Endpoints) {
        if self.listeners.contains(at.socket) {
            return;
        }
        let listener = Listener {
            id: self.take_id(),
            socket: at.socket,
            endpoints: *endpoints,
            // Who called listen() was not seen.
            process: None,
            since: None,
        };
        if !self.listeners.insert(listener) {
            self.stats.listeners_refused += 1;
        }
    }

    fn seed_connection(
        &mut self,
        at: At,
        state: TcpState,
        endpoints: &Endpoints,
        owner: &SocketOwner,
    ) {
        let walk = self.resync.walk;
        if let Some(held) = self.store.get_mut(at.socket) {
            if !held.has_another_peer_than(endpoints) {
                held.walk = walk;
                held.learn_endpoints(endpoints);
                if held.owner == SocketOwner::default() {
                    held.owner = *owner;
                }
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
                return;
            }
            // Both the end of the one and the beginning of the other were lost.
            self.give_up_previous(at);
        }
        self.ended.supersede(at.socket);
        let mut connection = Connection::new(self.take_id(), at.socket, Role::Unknown, state);
        connection.completeness = Completeness::Seeded;
        connection.met_in = self.settled;
        connection.established = is_synchronized(state);
        connection.learn_closer(state, None);
        connection.endpoints = Some(*endpoints);
        connection.owner = *owner;
        connection.touched = at.time;
        connection.walk = walk;
        connection.lost_before = self.stats.lost;
        let walked = endpoints
            .netns
            .is_some_and(|netns| self.resync.walked.contains(&netns));
        if walked {
            self.stats.gaps += connection.mark_gap();
            self.resync.current.unknown += 1;
            self.resync.found(state, -1);
        }
        self.enter(connection);
    }
}
