//! The tracker: takes items in order, and settles records when all that concerns them is known.

use std::{collections::BTreeMap, vec::Drain};

use tcptrace_common::TcpState;

use super::{
    config::{ResetHooks, TrackerConfig},
    connection::{Allocation, Connection},
    connections::Connections,
    copies,
    ended::Ended,
    lifecycle::Step,
    listener::Listener,
    reconcile::Reconciler,
    stats::{Anomaly, Snapshot, TrackerStats},
    time_wait::{
        classify,
        waiting::{Lookup, TimewaitStatus},
    },
    update::Update,
    verdict::{Evidence, verdict},
    vocabulary::{Completeness, Moment, Origin, Role},
    walk::{SocketHolders, WalkEnd},
};
use crate::feed::{
    event::{Body, Event},
    item::{EventKind, EvidenceHook, Item, LossPlace},
};

pub struct Tracker {
    pub(super) sockets: Connections,
    reconciler: Reconciler,
    /// Everything before this moment of the events' clock, nanoseconds, has been reported.
    known_ns: u64,
}

impl Tracker {
    pub fn new(config: TrackerConfig) -> Self {
        Self {
            sockets: Connections::new(config),
            reconciler: Reconciler::default(),
            known_ns: 0,
        }
    }

    /// Takes an item and returns what follows from it.
    pub fn apply(&mut self, item: &Item) -> Drain<'_, Update> {
        match item {
            Item::Event(event) => self.on_event(event),
            Item::Name(name) => self.sockets.names.insert(name),
            &Item::Loss {
                events,
                place,
                kind,
            } => self.on_loss(events, place, kind),
            &Item::Hook {
                witness,
                attached,
                time_ns,
            } => self.sockets.silences.set(witness, attached, time_ns),
            &Item::Time(now_ns) => self.settle(now_ns),
        }
        self.sockets.journal.updates.drain(..)
    }

    fn settle(&mut self, now_ns: u64) {
        self.known_ns = self.known_ns.max(now_ns);
        self.settle_records(now_ns);
        let sockets = &mut self.sockets;
        while let Some(release) = sockets.time_waits.pop_expired(now_ns, &sockets.silences) {
            sockets.journal.push(Update::Released(release));
        }
        sockets.journal.settled += 1;
    }

    fn settle_records(&mut self, now_ns: u64) {
        while let Some(ended) = self.sockets.ended.pop_due(now_ns) {
            self.settle_record(ended);
        }
    }

    /// Settles every record that waits, at shutdown. Hooks that would have told more of them were
    /// not waited for, so that their silence is no evidence.
    pub fn finish(&mut self) -> Drain<'_, Update> {
        self.settle_records(u64::MAX);
        self.sockets.journal.updates.drain(..)
    }

    /// Returns when the next record is due, on the events' clock.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.sockets.ended.next_due_ns()
    }

    /// Returns the connections held, without those that wait for their record.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.sockets.store.iter()
    }

    /// Returns the listening sockets held, in no order.
    pub fn listeners(&self) -> impl Iterator<Item = &Listener> {
        self.sockets.listeners.iter()
    }

    /// Returns the last impossible transition, counted in `TrackerStats::anomalies`.
    pub const fn last_anomaly(&self) -> Option<&Anomaly> {
        self.sockets.journal.anomaly.as_ref()
    }

    /// Returns the counts.
    pub const fn stats(&self) -> &TrackerStats {
        &self.sockets.journal.stats
    }

    /// Returns what is held now, for gauges.
    pub fn snapshot(&self) -> Snapshot {
        let sockets = &self.sockets;
        let mut cells = [[0_u64; TcpState::ALL.len()]; Role::ALL.len()];
        let mut live = 0;
        let mut pending = 0;
        let mut count = |connection: &Connection, state: TcpState| {
            cells[connection.role as usize][usize::from(state.raw()) - 1] += 1;
            if connection.established {
                live += 1;
            } else {
                pending += 1;
            }
        };
        let mut close_wait = BTreeMap::new();
        for connection in sockets.store.iter() {
            count(connection, connection.state);
            if connection.state == TcpState::CloseWait {
                *close_wait.entry(connection.service_port()).or_default() += 1;
            }
        }
        for ended in sockets.ended.iter() {
            count(&ended.connection, TcpState::Close);
        }
        let mut connections = Vec::new();
        for &role in Role::ALL {
            for state in TcpState::ALL {
                let n = cells[role as usize][usize::from(state.raw()) - 1];
                if n > 0 {
                    connections.push((role, state, n));
                }
            }
        }
        Snapshot {
            stats: TrackerStats {
                releases_refused: sockets.time_waits.waiting.refused,
                time_wait_unknown: sockets.journal.stats.time_wait_unknown
                    + sockets.time_waits.waiting.unknown,
                time_waits_evicted: sockets.time_waits.in_time_wait.evicted,
                ..sockets.journal.stats
            },
            connections,
            close_wait,
            live,
            pending,
            listeners: sockets.listeners.len() as u64,
            limit: sockets.store.limit() as u64,
            releases: sockets.time_waits.waiting.len() as u64,
            drift: self.reconciler.drift(),
        }
    }

    fn on_loss(&mut self, events: u64, place: LossPlace, kind: Option<EventKind>) {
        if events == 0 {
            return;
        }
        let sockets = &mut self.sockets;
        // A capture can claim any number.
        sockets.journal.stats.lost = sockets.journal.stats.lost.saturating_add(events);
        sockets.silences.lose(kind, events);
        match kind {
            None | Some(EventKind::Transition | EventKind::Seed) => {
                sockets.journal.mark_broken();
                sockets.listeners.forget_known();
            }
            Some(EventKind::Process) => sockets.listeners.forget_known(),
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
        sockets.journal.push(Update::Lost { events, place });
    }

    fn on_event(&mut self, event: &Event) {
        let at = Origin {
            socket: event.socket,
            cookie: event.cookie,
            time: Moment::new(event.time_ns).unwrap_or(Moment::MIN),
        };
        if let Body::Transition(transition) = event.body {
            self.sockets.journal.stats.transitions += 1;
            // Up to Linux 6.14 a child first has its listener's cookie.
            let step = Step::between(transition.old, transition.new);
            if step == Step::StopListening {
                self.reconciler.recognize_listener(&mut self.sockets, at);
            } else if step != Step::PassiveOpen {
                self.reconciler.recognize_connection(&mut self.sockets, at);
            }
            if transition.new == TcpState::Close {
                self.reconciler.note_closed(at);
            }
        } else {
            self.reconciler.recognize_connection(&mut self.sockets, at);
        }
        if event.recovered && copies::repeats(&self.sockets, at, &event.body) {
            if matches!(event.body, Body::Transition(_)) {
                self.sockets.journal.stats.repeated_transitions += 1;
            } else {
                self.sockets.journal.stats.repeated_resets += 1;
            }
            return;
        }
        match &event.body {
            Body::Transition(transition) => {
                self.sockets.on_transition(at, transition);
            }
            Body::ResetReceived(endpoints) => self.sockets.on_reset_received(at, endpoints),
            Body::ResetSent { endpoints, reason } => {
                self.sockets.on_reset_sent(at, endpoints, *reason);
            }
            Body::Accept {
                endpoints,
                task,
                listener,
                ..
            } => self.sockets.on_accept(at, endpoints, task, *listener),
            &Body::Timewait {
                timewait,
                awaits_fin,
            } => {
                if let Some(connection) = self.sockets.store.get_mut(at.socket) {
                    connection.closing.timewait = Some(Allocation {
                        timewait,
                        awaits_fin,
                    });
                }
            }
            &Body::TimewaitStep { arrived, .. } => {
                let sockets = &mut self.sockets;
                let release = sockets
                    .time_waits
                    .on_arrival(at, arrived, &mut sockets.ended);
                sockets.journal.push_release(release);
            }
            Body::SynackRetransmit(listener) => {
                self.sockets
                    .journal
                    .push(Update::SynackRetransmit(*listener));
            }
            Body::Seed(seed) => self.reconciler.on_seed(&mut self.sockets, at, seed),
            Body::ConnectFailed(failure) => self.sockets.on_connect_failed(at, failure),
            Body::Held(endpoints) => self.reconciler.on_held(&mut self.sockets, at, endpoints),
            Body::Rename(task) => self.sockets.listeners.name_process(task),
            Body::Exit(task) => self.sockets.listeners.exit(task.pid),
        }
    }

    fn settle_record(&mut self, mut ended: Ended) {
        let sockets = &mut self.sockets;
        let (closed_ns, due_ns) = (ended.closed_at.get(), ended.due_ns());
        let connection = &mut ended.connection;
        // A reset that was not seen may be among the lost events, or not be reported yet.
        let heard = connection.followed.heard;
        let silent = |witness, until_ns| {
            until_ns <= self.known_ns && sockets.silences.would_have_seen(witness, heard, until_ns)
        };
        let hooks = ResetHooks {
            received: silent(EvidenceHook::ResetReceived, closed_ns),
            sent: silent(EvidenceHook::ResetSent, due_ns),
        };
        let alloc_seen = silent(EvidenceHook::Timewait, closed_ns);
        let older = sockets
            .journal
            .broken_in
            .is_none_or(|broken_in| connection.followed.met_in < broken_in);
        if connection.completeness == Completeness::Seeded && connection.followed.met {
            let netns = connection.endpoints.and_then(|ends| ends.netns);
            let forgotten =
                sockets.journal.stats.evicted + sockets.journal.stats.evicted_pending > 0;
            if self
                .reconciler
                .had_walked(netns, connection.followed.met_in)
                && !forgotten
            {
                sockets.journal.mark_gap(connection);
            } else if !older {
                connection.completeness = Completeness::Partial;
            }
        }
        if let (TcpState::SynSent, Some(fields)) = (connection.state, ended.fields) {
            // A socket in SYN_SENT can have retransmitted only its SYN.
            connection.handshake.syn_retransmits = Some(fields.retransmits);
        }
        ended.verdict = verdict(&Evidence {
            connection: &ended.connection,
            fields: ended.fields,
            connect: ended.connect,
            reset_after: ended.reset_after,
            hooks,
        });
        ended.time_wait = classify::at_close(&ended, alloc_seen);
        if ended.connection.established {
            sockets.journal.stats.closed += 1;
        } else {
            sockets.journal.stats.failed += 1;
        }
        let followed =
            ended.after.is_some() || sockets.time_waits.waiting.contains(ended.connection.id);
        if ended.connection.established && ended.time_wait.is_none() && !followed {
            sockets.journal.stats.time_wait_unknown += 1;
        }
        let after = ended.after.take();
        sockets.journal.push(Update::Ended(ended));
        sockets.journal.push_release(after.map(|release| *release));
    }

    /// Returns the processes that a search found to hold listeners. They are to be watched: they
    /// may change their names, or exit.
    pub fn take_named(&mut self) -> Vec<u32> {
        self.sockets.listeners.take_named()
    }

    /// A walk over the kernel's sockets begins.
    pub fn begin_walk(&mut self, now_ns: u64, listing: bool) {
        self.reconciler
            .begin_walk(&mut self.sockets, now_ns, listing);
    }

    /// A walk has ended, and all its sockets were taken. Returns what follows from it.
    pub fn end_walk(&mut self, now_ns: u64, end: &WalkEnd) -> Drain<'_, Update> {
        self.reconciler.end_walk(&mut self.sockets, now_ns, end);
        self.sockets.journal.updates.drain(..)
    }

    /// Whether the last walk could not compare some connections.
    pub fn has_uncompared(&self) -> bool {
        self.reconciler.has_uncompared()
    }

    /// Whether there are sockets whose process is not known and may be found in /proc.
    pub fn has_unowned(&self) -> bool {
        self.reconciler.has_unowned()
    }

    /// Takes the result of a search for the processes that hold sockets.
    pub fn learn_owners(&mut self, owners: SocketHolders) {
        self.reconciler.learn_owners(&mut self.sockets, owners);
    }

    /// Returns the next connection to look up in the kernel's table by now: its timewait socket
    /// sends no events. The answer goes to [`Self::on_lookup`].
    pub fn next_lookup(&mut self, now_ns: u64) -> Option<Lookup> {
        self.sockets.time_waits.next_lookup(now_ns)
    }

    /// Takes what the kernel's table says of a connection. Returns what follows from it.
    pub fn on_lookup(&mut self, id: u64, now_ns: u64, looked: TimewaitStatus) -> Option<Update> {
        let release = self.sockets.time_waits.on_lookup(id, now_ns, looked);
        release.map(Update::Released)
    }
}

#[cfg(test)]
impl Tracker {
    pub(super) fn len(&self) -> usize {
        self.sockets.store.len() + self.sockets.ended.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
