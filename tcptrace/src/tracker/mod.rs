//! The core that knows TCP: items in, what became of connections out.
//!
//! Pure: no clock, no I/O, no aya, no tokio. A connection is (socket address, generation): the
//! kernel reuses an address within microseconds, so each CLOSE→SYN_SENT and LISTEN→SYN_RECV
//! begins a new one. What an event does not say is not invented: an event whose old state is not
//! the state held marks its connection `gap`.
//!
//! [`Tracker::take`] takes an item and returns what follows from it. A record needs to know what was
//! lost as well, so records are written for an [`Item::Time`] alone: inside a batch of events
//! nobody knows yet what is missing.

mod connection;
mod connects;
mod consumer;
mod ended;
mod engine;
mod evidence;
mod handshake;
mod lifecycle;
mod listeners;
mod names;
mod reconcile;
mod stats;
mod store;
mod time_wait;
mod update;
mod verdict;
mod vocabulary;

use std::vec::Drain;

use tcptrace_common::TcpState;

pub use self::lifecycle::{Step, is_synchronized};
pub use self::{
    connection::Connection,
    consumer::Consumer,
    ended::Ended,
    listeners::Listener,
    stats::{Snapshot, TrackerStats},
    update::Update,
    verdict::{Evidence, ResetHooks, Verdict, errno, verdict},
};
use self::{
    connects::Connects, ended::EndedQueue, evidence::Silences, listeners::Listeners, names::Names,
    store::Store,
};
#[cfg(test)]
pub use self::{reconcile::Drift, time_wait::release::TimeWaitSource, vocabulary::ProcessSource};
pub use crate::feed::item::{EventKind, Item, LossPlace, Witness};
use crate::tracker::reconcile::Resync;
pub use crate::tracker::time_wait::{
    release::{Release, Whose},
    waiting::{Looked, Lookup},
};
use crate::tracker::time_wait::{residents::TimeWaits, waiting::Releases};
pub use crate::tracker::{
    reconcile::{Listed, Owners, WalkEnd},
    vocabulary::{ClosedBy, Completeness, HandshakeSource, Moment, Process, Role},
};

/// How long a connection that is over waits for what may still be said of it, nanoseconds of
/// event time. `tcp_send_reset` follows →CLOSE by microseconds.
pub const GRACE_NS: u64 = 50_000_000;

/// What the events can show: which hooks are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Which resets can be seen.
    pub resets: ResetHooks,
    /// sock_ops watches SYNs.
    pub syns: bool,
    /// Allocations of timewait sockets are seen.
    pub timewait: bool,
    /// What comes to timewait sockets is seen.
    pub timewait_process: bool,
    /// The results of connect() are seen where it fails inside the call.
    pub connects: bool,
}

impl Sources {
    /// A hook is among them.
    pub const fn has(self, witness: Witness) -> bool {
        match witness {
            Witness::ResetReceived => self.resets.received,
            Witness::ResetSent => self.resets.sent,
            Witness::Syn => self.syns,
            Witness::Timewait => self.timewait,
            Witness::TimewaitStep => self.timewait_process,
        }
    }
}

/// How the tracker is set up.
#[derive(Clone, Copy, Debug)]
pub struct TrackerConfig {
    /// Connections held at most, those waiting for their record not counted.
    pub max_connections: usize,
    /// Listening sockets held at most.
    pub max_listeners: usize,
    /// Connections followed at most after their record, until the peer's FIN.
    pub max_releases: usize,
    /// Connections in TIME_WAIT whose end is watched for at most; the oldest goes first.
    pub max_time_waits: usize,
    /// What the events can show.
    pub sources: Sources,
    /// Every transition is an update of its own.
    pub transitions: bool,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            max_connections: 1 << 18,
            max_listeners: 1 << 16,
            max_releases: 1 << 16,
            max_time_waits: 1 << 14,
            sources: Sources::default(),
            transitions: true,
        }
    }
}

/// A transition that no kernel path makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// When.
    pub time: Moment,
    /// The kernel's address of the socket.
    pub socket: u64,
    /// The state left.
    pub from: TcpState,
    /// The state entered.
    pub to: TcpState,
    /// The state that was held of it.
    pub held: Option<TcpState>,
}

/// The tracker.
pub struct Tracker {
    store: Store,
    ended: EndedQueue,
    listeners: Listeners,
    releases: Releases,
    time_waits: TimeWaits,
    resync: Resync,
    names: Names,
    silences: Silences,
    connects: Connects,
    config: TrackerConfig,
    next_id: u64,
    stats: TrackerStats,
    /// The last transition that no kernel path makes.
    anomaly: Option<Anomaly>,
    /// What was not returned yet.
    updates: Vec<Update>,
    /// How often it has settled.
    settled: u64,
    /// All that happened before this moment of the events' clock, nanoseconds, was told.
    known_ns: u64,
    /// `settled` when for the first time events were lost or a connection was given up: who is
    /// met in mid-life from then on need not have been there before.
    broken_in: Option<u64>,
}

impl Tracker {
    /// An empty tracker.
    pub fn new(config: TrackerConfig) -> Self {
        Self {
            store: Store::new(config.max_connections),
            ended: EndedQueue::default(),
            listeners: Listeners::new(config.max_listeners),
            releases: Releases::new(config.max_releases),
            time_waits: TimeWaits::new(config.max_time_waits),
            resync: Resync::default(),
            names: Names::default(),
            silences: Silences::new(config.sources),
            connects: Connects::default(),
            config,
            next_id: 1,
            stats: TrackerStats::default(),
            anomaly: None,
            updates: Vec::new(),
            settled: 0,
            known_ns: 0,
            broken_in: None,
        }
    }

    /// Takes an item and returns what is to be said of it.
    pub fn take(&mut self, item: &Item) -> Drain<'_, Update> {
        match item {
            Item::Event(event) => self.on_event(event),
            Item::Name(name) => self.names.learn(name),
            &Item::Loss {
                events,
                place,
                kind,
            } => self.on_loss(events, place, kind),
            &Item::Hook {
                witness,
                attached,
                time_ns,
            } => self.silences.set(witness, attached, time_ns),
            &Item::Time(now_ns) => self.settle(now_ns),
        }
        self.updates.drain(..)
    }

    /// Writes the records that are due.
    fn settle(&mut self, now_ns: u64) {
        self.known_ns = self.known_ns.max(now_ns);
        while let Some(ended) = self.ended.pop_due(now_ns) {
            self.write(ended);
        }
        self.expire_releases(now_ns);
        self.settled += 1;
    }

    /// The tracker stops: every record that waits is written now. What could still have followed
    /// its end was not seen to be absent.
    pub fn finish(&mut self) -> Drain<'_, Update> {
        while let Some(ended) = self.ended.pop_due(u64::MAX) {
            self.write(ended);
        }
        self.updates.drain(..)
    }

    /// When the next record is due, on the events' clock.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.ended.next_due_ns()
    }

    /// Every connection held, those that wait for their record not included.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.store.iter()
    }

    /// Connections held, those that wait for their record included.
    pub fn len(&self) -> usize {
        self.store.len() + self.ended.len()
    }

    /// Nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The last transition that no kernel path makes, of `TrackerStats::anomalies`.
    pub const fn last_anomaly(&self) -> Option<&Anomaly> {
        self.anomaly.as_ref()
    }

    /// What is counted.
    pub const fn stats(&self) -> &TrackerStats {
        &self.stats
    }

    fn on_loss(&mut self, events: u64, place: LossPlace, kind: Option<EventKind>) {
        if events == 0 {
            return;
        }
        // A capture can claim anything.
        self.stats.lost = self.stats.lost.saturating_add(events);
        self.silences.lose(kind, events);
        match kind {
            None | Some(EventKind::Transition | EventKind::Seed) => {
                self.broken_in.get_or_insert(self.settled);
                self.listeners.forget_known();
            }
            Some(EventKind::Process) => self.listeners.forget_known(),
            Some(
                EventKind::Reset
                | EventKind::Accept
                | EventKind::Timewait
                | EventKind::SynackRetransmit
                | EventKind::Connect
                | EventKind::Cgroup
                | EventKind::Handshake,
            ) => {}
        }
        self.updates.push(Update::Lost { events, place });
    }

    fn write(&mut self, mut ended: Ended) {
        let (closed_ns, due_ns) = (ended.closed_at.get(), ended.due_ns());
        let connection = &mut ended.connection;
        // A reset that was not seen may be among what was lost, or not be told yet.
        let heard = connection.heard;
        let silent = |witness, until_ns| {
            until_ns <= self.known_ns && self.silences.speak_of(witness, heard, until_ns)
        };
        let hooks = ResetHooks {
            received: silent(Witness::ResetReceived, closed_ns),
            sent: silent(Witness::ResetSent, due_ns),
        };
        let alloc_seen = silent(Witness::Timewait, closed_ns);
        let older = self
            .broken_in
            .is_none_or(|broken_in| connection.met_in < broken_in);
        if connection.completeness == Completeness::Seeded && connection.met {
            let netns = connection.endpoints.and_then(|ends| ends.netns);
            let forgotten = self.stats.evicted + self.stats.evicted_pending > 0;
            if self.resync.had_walked(netns, connection.met_in) && !forgotten {
                self.stats.gaps += connection.mark_gap();
            } else if !older {
                connection.completeness = Completeness::Partial;
            }
        }
        if let (TcpState::SynSent, Some(fields)) = (connection.state, ended.fields) {
            // All that a socket in SYN_SENT can have sent again is its SYN.
            connection.syn_retransmits = Some(fields.retransmits);
        }
        ended.verdict = verdict(&Evidence {
            connection: &ended.connection,
            fields: ended.fields,
            connect: ended.connect,
            reset_after: ended.reset_after,
            hooks,
        });
        ended.time_wait = time_wait::classify::at_close(&ended, alloc_seen);
        if ended.connection.established {
            self.stats.closed += 1;
        } else {
            self.stats.failed += 1;
        }
        let followed = ended.after.is_some() || self.releases.contains(ended.connection.id);
        if ended.connection.established && ended.time_wait.is_none() && !followed {
            self.stats.time_wait_unknown += 1;
        }
        let after = ended.after.take();
        self.updates.push(Update::Ended(ended));
        self.updates
            .extend(after.map(|release| Update::Released(*release)));
    }

    /// Processes that were found to hold listeners, and that are to be watched: they may change their
    /// names, or end.
    pub fn take_named(&mut self) -> Vec<u32> {
        self.listeners.take_named()
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
