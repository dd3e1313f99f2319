//! The core that knows TCP: events in, what became of connections out.
//!
//! Pure: no clock, no I/O, no aya, no tokio. Time comes in the events. A connection is (socket
//! address, generation): the kernel reuses an address within microseconds, so each
//! CLOSE→SYN_SENT and LISTEN→SYN_RECV begins a new one. What an event does not say is not
//! invented: an event that does not follow from the state held marks its connection `gap`.

mod connection;
mod ended;
mod handshake;
mod lifecycle;
mod listeners;
mod resync;
mod store;
mod timewait;
mod verdict;

use tcptrace_common::TcpState;

pub use self::lifecycle::{Step, is_synchronized};
pub use self::{
    connection::{
        ClosedBy, Completeness, Connection, Ended, HandshakeSource, Moment, Process, ProcessSource,
        Role,
    },
    listeners::Listener,
    resync::{Drift, WalkEnd},
    timewait::{Looked, Lookup, Outcome, Release, TimeWaitSource},
    verdict::{Evidence, ResetHooks, Verdict, errno, verdict},
};
use self::{
    ended::EndedQueue,
    lifecycle::can_lead_to,
    listeners::Listeners,
    resync::Resync,
    store::Store,
    timewait::{Allocation, Releases, Waiting},
};
use crate::event::{
    Body, Details, Endpoints, Event, HandshakeFields, Task, TimewaitArrival, Transition,
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
    /// What the events can show.
    pub sources: Sources,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            max_connections: 1 << 18,
            max_listeners: 1 << 16,
            max_releases: 1 << 16,
            sources: Sources::default(),
        }
    }
}

/// What the tracker has to say, as it happens.
#[derive(Debug)]
pub enum Update<'a> {
    /// A connection entered the tracker: its attempt, or in mid-life.
    Entered(&'a Connection),
    /// A connection changed its state; `connection` is as it is after that.
    Transition {
        /// Whose.
        connection: &'a Connection,
        /// The state left.
        from: TcpState,
        /// The state entered.
        to: TcpState,
        /// When.
        time: Moment,
        /// How long the state left was held, nanoseconds; `None` when its beginning was not seen.
        in_state_ns: Option<u64>,
    },
    /// A connection reached ESTABLISHED (or a later state without it).
    Established(&'a Connection),
    /// accept() returned a connection whose wait for it is known thereby.
    Accepted(&'a Connection),
    /// A connection is over and its grace as well: its one record.
    Ended(&'a Ended),
    /// What was learnt of a connection after its record.
    Released(&'a Release),
    /// A connection was given up for lack of room.
    Evicted(&'a Connection),
    /// The kernel acted on a RST from the peer, or sent one itself.
    Reset {
        /// It was sent.
        sent: bool,
        /// Why, where the kernel tells: `enum sk_rst_reason` of that kernel.
        reason: Option<u32>,
    },
    /// A listener's SYN-ACK was sent again.
    SynackRetransmit(&'a Endpoints),
    /// A socket began or ceased to listen.
    Listener {
        /// Which.
        listener: &'a Listener,
        /// It began; otherwise it ceased.
        began: bool,
        /// When.
        time: Moment,
    },
    /// Events were lost before this point.
    Lost {
        /// How many.
        events: u64,
        /// Where.
        place: LossPlace,
    },
}

/// Where events are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPlace {
    /// The ring was full.
    Ring,
    /// The kernel skipped the program.
    Kernel,
    /// What the ring held was no event.
    Decode,
    /// A capture could not be written as fast as they came.
    Capture,
}

impl LossPlace {
    /// Every place, in their order.
    pub const ALL: [Self; 4] = [Self::Ring, Self::Kernel, Self::Decode, Self::Capture];

    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Kernel => "kernel",
            Self::Decode => "decode",
            Self::Capture => "capture",
        }
    }
}

/// Takes what the tracker has to say.
pub trait Sink {
    /// One update, in the order of events.
    fn update(&mut self, update: Update<'_>);
}

/// Two sinks hear the same.
impl<A: Sink, B: Sink> Sink for (A, B) {
    fn update(&mut self, update: Update<'_>) {
        self.0.update(update.reborrow());
        self.1.update(update);
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn update(&mut self, update: Update<'_>) {
        (**self).update(update);
    }
}

impl Update<'_> {
    fn reborrow(&self) -> Update<'_> {
        match *self {
            Update::Entered(connection) => Update::Entered(connection),
            Update::Transition {
                connection,
                from,
                to,
                time,
                in_state_ns,
            } => Update::Transition {
                connection,
                from,
                to,
                time,
                in_state_ns,
            },
            Update::Established(connection) => Update::Established(connection),
            Update::Accepted(connection) => Update::Accepted(connection),
            Update::Ended(ended) => Update::Ended(ended),
            Update::Released(release) => Update::Released(release),
            Update::Evicted(connection) => Update::Evicted(connection),
            Update::Reset { sent, reason } => Update::Reset { sent, reason },
            Update::SynackRetransmit(listener) => Update::SynackRetransmit(listener),
            Update::Listener {
                listener,
                began,
                time,
            } => Update::Listener {
                listener,
                began,
                time,
            },
            Update::Lost { events, place } => Update::Lost { events, place },
        }
    }
}

/// Counts since the tracker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerStats {
    /// Transitions handled.
    pub transitions: u64,
    /// Connections that entered unsynchronized: attempts.
    pub attempts: u64,
    /// Of those, reached a synchronized state.
    pub established: u64,
    /// Connections that entered already synchronized.
    pub seeded: u64,
    /// Synchronized connections that ended.
    pub closed: u64,
    /// Attempts that ended unsynchronized.
    pub failed: u64,
    /// Synchronized connections given up for lack of room.
    pub evicted: u64,
    /// Attempts given up for lack of room.
    pub evicted_pending: u64,
    /// Listeners not held for lack of room.
    pub listeners_refused: u64,
    /// Connections that an event did not follow from the state held of.
    pub gaps: u64,
    /// Transitions that no kernel path makes.
    pub anomalies: u64,
    /// Events reported lost.
    pub lost: u64,
    /// Connections not followed after their record, for lack of room.
    pub releases_refused: u64,
}

/// What the tracker holds, for gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts since the beginning.
    pub stats: TrackerStats,
    /// Live connections by role and state, every pair that occurs; those that wait for their
    /// record are in CLOSE.
    pub connections: Vec<(Role, TcpState, u64)>,
    /// Live synchronized connections, those that wait for their record included.
    pub live: u64,
    /// Live attempts, those that wait for their record included.
    pub pending: u64,
    /// Listening sockets held.
    pub listeners: u64,
    /// The bound on connections.
    pub limit: u64,
    /// Connections followed after their record.
    pub releases: u64,
    /// What the last comparison with the kernel's own table found, where there was one.
    pub drift: Option<Drift>,
}

/// Which socket an event speaks of, and when.
#[derive(Clone, Copy)]
struct At {
    socket: u64,
    cookie: Option<u64>,
    time: Moment,
}

impl Role {
    const fn index(self) -> usize {
        match self {
            Self::Active => 0,
            Self::Passive => 1,
            Self::Simultaneous => 2,
            Self::Unknown => 3,
        }
    }
}

/// The tracker.
pub struct Tracker {
    store: Store,
    ended: EndedQueue,
    listeners: Listeners,
    releases: Releases,
    resync: Resync,
    sources: Sources,
    next_id: u64,
    stats: TrackerStats,
}

impl Tracker {
    /// An empty tracker.
    #[must_use]
    pub fn new(config: TrackerConfig) -> Self {
        Self {
            store: Store::new(config.max_connections),
            ended: EndedQueue::default(),
            listeners: Listeners::new(config.max_listeners),
            releases: Releases::new(config.max_releases),
            resync: Resync::default(),
            sources: config.sources,
            next_id: 1,
            stats: TrackerStats::default(),
        }
    }

    /// Takes one event in.
    pub fn on_event(&mut self, event: &Event, sink: &mut impl Sink) {
        // What was due before must not depend on whether somebody looked at the clock meanwhile.
        self.on_tick(event.time_ns, sink);
        let at = At {
            socket: event.socket,
            cookie: event.cookie,
            time: Moment::new(event.time_ns).unwrap_or(Moment::MIN),
        };
        match &event.body {
            Body::Transition(transition) => {
                self.stats.transitions += 1;
                self.on_transition(at, transition, sink);
            }
            Body::ResetReceived(_) => {
                if let Some(connection) = self.store.get_mut(at.socket) {
                    connection.reset_received = true;
                }
                sink.update(Update::Reset {
                    sent: false,
                    reason: None,
                });
            }
            &Body::ResetSent { reason, .. } => {
                let connection = if let Some(connection) = self.store.get_mut(at.socket) {
                    connection.reset_sent = true;
                    Some(connection)
                } else if let Some(ended) = self.ended.get_mut(at.socket) {
                    ended.reset_after = true;
                    Some(&mut ended.connection)
                } else {
                    None
                };
                if let Some(connection) = connection {
                    connection.reset_reason = connection.reset_reason.or(reason);
                }
                sink.update(Update::Reset { sent: true, reason });
            }
            Body::Accept {
                endpoints, task, ..
            } => self.on_accept(at, endpoints, task, sink),
            &Body::Timewait {
                timewait,
                awaits_fin,
            } => {
                if let Some(connection) = self.store.get_mut(at.socket) {
                    connection.timewait = Some(Allocation {
                        timewait,
                        awaits_fin,
                    });
                }
            }
            &Body::TimewaitStep { arrived, .. } => self.on_timewait(at, arrived, sink),
            Body::SynackRetransmit(listener) => sink.update(Update::SynackRetransmit(listener)),
            Body::Seed {
                state,
                endpoints,
                owner,
            } => self.on_seed(at, *state, endpoints, owner, sink),
        }
    }

    /// Time has passed, though nothing happened: writes the records that are due. `now_ns` is of
    /// the events' clock.
    pub fn on_tick(&mut self, now_ns: u64, sink: &mut impl Sink) {
        while let Some(ended) = self.ended.pop_due(now_ns) {
            self.write(ended, sink);
        }
        while let Some((waiting, certain)) = self.releases.pop_expired(now_ns, self.stats.lost) {
            if certain && self.sources.timewait_process {
                let time = Moment::new(now_ns).unwrap_or(Moment::MIN);
                let source = TimeWaitSource::TwskAlloc;
                let release = waiting.released(time, Outcome::NoFin, None, source);
                sink.update(Update::Released(&release));
            }
        }
    }

    /// The tracker stops: every record that waits is written now.
    pub fn finish(&mut self, sink: &mut impl Sink) {
        while let Some(ended) = self.ended.pop_due(u64::MAX) {
            self.write(ended, sink);
        }
    }

    /// When the next record is due, on the events' clock.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<u64> {
        self.ended.next_due_ns()
    }

    /// `events` were lost since the last call, at `place`.
    pub fn on_loss(&mut self, events: u64, place: LossPlace, sink: &mut impl Sink) {
        if events > 0 {
            self.stats.lost += events;
            sink.update(Update::Lost { events, place });
        }
    }

    /// What is held now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut cells = [[0_u64; TcpState::ALL.len()]; Role::ALL.len()];
        let mut live = 0;
        let mut pending = 0;
        let mut count = |connection: &Connection, state: TcpState| {
            cells[connection.role.index()][usize::from(state.raw()) - 1] += 1;
            if connection.established {
                live += 1;
            } else {
                pending += 1;
            }
        };
        for connection in self.store.iter() {
            count(connection, connection.state);
        }
        for ended in self.ended.iter() {
            count(&ended.connection, TcpState::Close);
        }
        let mut connections = Vec::new();
        for role in Role::ALL {
            for state in TcpState::ALL {
                let n = cells[role.index()][usize::from(state.raw()) - 1];
                if n > 0 {
                    connections.push((role, state, n));
                }
            }
        }
        Snapshot {
            stats: TrackerStats {
                releases_refused: self.releases.refused,
                ..self.stats
            },
            connections,
            live,
            pending,
            listeners: self.listeners.len() as u64,
            limit: self.store.limit() as u64,
            releases: self.releases.len() as u64,
            drift: self.resync.drift(),
        }
    }

    /// Every connection held, those that wait for their record not included.
    pub fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.store.iter()
    }

    /// Connections held, those that wait for their record included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.store.len() + self.ended.len()
    }

    /// Nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn on_transition(&mut self, at: At, transition: &Transition, sink: &mut impl Sink) {
        let At { socket, time, .. } = at;
        match Step::of(transition.old, transition.new) {
            Step::ActiveOpen => self.begin(at, Role::Active, transition, sink),
            Step::PassiveOpen => self.begin(at, Role::Passive, transition, sink),
            Step::Listen => {
                self.give_up_previous(socket, time, sink);
                self.listen(socket, time, &transition.details, sink);
            }
            Step::StopListening => {
                self.give_up_previous(socket, time, sink);
                if let Some(listener) = self.listeners.remove(socket) {
                    sink.update(Update::Listener {
                        listener: &listener,
                        began: false,
                        time,
                    });
                }
            }
            Step::Impossible => {
                self.stats.anomalies += 1;
                // The kernel is right about where it is; what is held of it is not.
                if let Some(connection) = self.store.get_mut(socket) {
                    self.stats.gaps += connection.mark_gap();
                    self.advance(at, Step::Impossible, transition, sink);
                }
            }
            step @ (Step::SynsCrossed
            | Step::Established
            | Step::LocalFin
            | Step::RemoteFin
            | Step::FinAcknowledged
            | Step::FinsCrossed
            | Step::SecondFin
            | Step::Close
            | Step::Again) => {
                self.hold(socket, time, transition, sink);
                self.advance(at, step, transition, sink);
            }
        }
    }

    fn listen(&mut self, socket: u64, time: Moment, details: &Details, sink: &mut impl Sink) {
        let Details::Open {
            endpoints, task, ..
        } = details
        else {
            return;
        };
        let listener = Listener {
            id: self.take_id(),
            socket,
            endpoints: *endpoints,
            process: Process::new(task, ProcessSource::Listen),
            since: Some(time),
        };
        sink.update(Update::Listener {
            listener: &listener,
            began: true,
            time,
        });
        if !self.listeners.insert(listener) {
            self.stats.listeners_refused += 1;
        }
    }

    fn begin(&mut self, at: At, role: Role, transition: &Transition, sink: &mut impl Sink) {
        let At { socket, time, .. } = at;
        self.give_up_previous(socket, time, sink);
        let mut connection = Connection::new(self.take_id(), socket, role, transition.new);
        connection.opened = Some(time);
        connection.state_since = Some(time);
        connection.touched = time;
        connection.lost_before = self.stats.lost;
        learn_details(&mut connection, &transition.details, &self.listeners);
        self.enter(connection, sink);
        self.report(socket, transition, time, None, sink);
    }

    /// A socket that begins anew cannot still hold what it held: the end of that was lost.
    fn give_up_previous(&mut self, socket: u64, time: Moment, sink: &mut impl Sink) {
        self.write_waiting(socket, sink);
        if let Some(mut connection) = self.store.remove(socket) {
            self.stats.gaps += connection.mark_gap();
            let mut ended = Ended::new(connection, time, None);
            ended.end_seen = false;
            self.write(ended, sink);
        }
    }

    /// Sees to it that what is held of a socket is the connection that the event speaks of.
    fn hold(&mut self, socket: u64, time: Moment, transition: &Transition, sink: &mut impl Sink) {
        let Some(held) = self.store.get_mut(socket) else {
            self.meet(socket, transition, self.stats.lost > 0, sink);
            return;
        };
        let is_another = transition
            .details
            .endpoints()
            .is_some_and(|ends| held.has_another_peer_than(ends));
        if is_another || !can_lead_to(held.state, transition.old) {
            // Both the end of the one and the beginning of the other were lost.
            self.give_up_previous(socket, time, sink);
            self.meet(socket, transition, true, sink);
        }
    }

    /// A connection is met in mid-life: its beginning was `lost`, or it was there before we
    /// looked.
    fn meet(&mut self, socket: u64, transition: &Transition, lost: bool, sink: &mut impl Sink) {
        self.write_waiting(socket, sink);
        let mut connection = Connection::new(self.take_id(), socket, Role::Unknown, transition.old);
        if lost {
            self.stats.gaps += connection.mark_gap();
        } else {
            connection.completeness = Completeness::Seeded;
        }
        connection.lost_before = u64::MAX;
        connection.established = is_synchronized(transition.old);
        connection.learn_closer(transition.old);
        learn_details(&mut connection, &transition.details, &self.listeners);
        self.enter(connection, sink);
    }

    fn enter(&mut self, connection: Connection, sink: &mut impl Sink) {
        // If it listened, LISTEN→CLOSE was lost.
        self.listeners.remove(connection.socket);
        if connection.established {
            self.stats.seeded += 1;
        } else {
            self.stats.attempts += 1;
        }
        sink.update(Update::Entered(&connection));
        if let Some(evicted) = self.store.insert(connection) {
            if evicted.established {
                self.stats.evicted += 1;
            } else {
                self.stats.evicted_pending += 1;
            }
            sink.update(Update::Evicted(&evicted));
        }
    }

    /// A connection that is held moves on.
    fn advance(&mut self, at: At, step: Step, transition: &Transition, sink: &mut impl Sink) {
        let At { socket, time, .. } = at;
        let Some(connection) = self.store.touch(socket) else {
            return;
        };
        connection.touched = time;
        let (old, new) = (transition.old, transition.new);
        if connection.state != old {
            self.stats.gaps += connection.mark_gap();
            connection.state_since = None;
            connection.lost_before = u64::MAX;
            connection.learn_closer(old);
            if old == TcpState::SynRecv && connection.role == Role::Active {
                // Either the SYNs crossed, or it is the child of a listener and another one.
                connection.role = Role::Unknown;
            }
        }
        let in_state_ns = connection
            .state_since
            .map(|since| time.get().saturating_sub(since.get()));
        learn_details(connection, &transition.details, &self.listeners);
        learn_step(connection, step, time);
        if step == Step::Established {
            let fields = handshake_fields(&transition.details);
            connection.handshake = handshake::measure(connection, time, fields, self.sources.syns);
        }
        connection.learn_closer(new);
        let established = (is_synchronized(old) || is_synchronized(new)) && !connection.established;
        connection.established |= established;
        self.stats.established += u64::from(established);
        if new == TcpState::Close {
            // The record's phases are cut by the state that was left.
            connection.state = old;
            if established {
                sink.update(Update::Established(connection));
            }
            self.report(socket, transition, time, in_state_ns, sink);
            self.end(at, &transition.details);
        } else {
            connection.state = new;
            if new != old {
                connection.state_since = Some(time);
            }
            connection.lost_before = self.stats.lost;
            self.report(socket, transition, time, in_state_ns, sink);
            if established && let Some(connection) = self.store.get_mut(socket) {
                sink.update(Update::Established(connection));
                if connection.accept_wait_ns().is_some() {
                    // accept() came first.
                    sink.update(Update::Accepted(connection));
                }
            }
        }
    }

    fn report(
        &mut self,
        socket: u64,
        transition: &Transition,
        time: Moment,
        in_state_ns: Option<u64>,
        sink: &mut impl Sink,
    ) {
        if let Some(connection) = self.store.get_mut(socket) {
            sink.update(Update::Transition {
                connection,
                from: transition.old,
                to: transition.new,
                time,
                in_state_ns,
            });
        }
    }

    fn end(&mut self, at: At, details: &Details) {
        let fields = match details {
            Details::Close { fields, .. } => *fields,
            Details::Open { .. }
            | Details::PassiveOpen { .. }
            | Details::Established { .. }
            | Details::Step
            | Details::Release { .. } => None,
        };
        let Some(connection) = self.store.remove(at.socket) else {
            return;
        };
        let ended = Ended::new(connection, at.time, fields);
        self.follow(&ended, at);
        self.ended.push(ended);
    }

    /// A connection that waits for the peer's FIN on a timewait socket is followed there.
    fn follow(&mut self, ended: &Ended, at: At) {
        let connection = &ended.connection;
        let timewait = match connection.timewait {
            Some(Allocation {
                timewait: Some(timewait),
                awaits_fin: true,
            }) => self.sources.timewait_process.then_some(timewait),
            Some(_) => return,
            None if self.sources.timewait && connection.lost_before == self.stats.lost => return,
            None if ended
                .fields
                .is_some_and(|fields| !fields.peer_fin && ended.may_be_swapped(&fields)) =>
            {
                None
            }
            None => return,
        };
        // Whoever had this address is gone, and the kernel did not tell how.
        let _forgotten = timewait.and_then(|timewait| self.releases.take_timewait(timewait));
        self.releases.insert(Waiting::new(
            connection,
            at.time,
            at.cookie,
            timewait,
            self.stats.lost,
        ));
    }

    fn on_accept(&mut self, at: At, endpoints: &Endpoints, task: &Task, sink: &mut impl Sink) {
        let connection = match self.store.get_mut(at.socket) {
            Some(connection) => connection,
            None => match self.ended.get_mut(at.socket) {
                Some(ended) => &mut ended.connection,
                None => return,
            },
        };
        if connection.has_another_peer_than(endpoints) || connection.accepted_at.is_some() {
            return;
        }
        connection.accepted_at = Some(at.time);
        if connection.role == Role::Unknown {
            // Nothing else comes out of accept().
            connection.role = Role::Passive;
        }
        if !task.kernel
            && let Some(process) = Process::new(task, ProcessSource::Accept)
        {
            connection.process = Some(process);
        }
        if connection.accept_wait_ns().is_some() {
            sink.update(Update::Accepted(connection));
        }
    }

    /// Something came to a timewait socket in FIN_WAIT2.
    fn on_timewait(&mut self, at: At, arrived: TimewaitArrival, sink: &mut impl Sink) {
        let Some(waiting) = self.releases.take_timewait(at.socket) else {
            return;
        };
        let (outcome, peer_fin) = match arrived {
            TimewaitArrival::Fin => (Outcome::TimeWait, Some(at.time)),
            TimewaitArrival::Refused => (Outcome::Refused, None),
        };
        if let Some(ended) = self.ended.get_mut(waiting.socket)
            && ended.connection.id == waiting.id
        {
            // Its record is not written yet, and can say it itself.
            match arrived {
                TimewaitArrival::Fin => {
                    ended.late_fin = Some(at.time);
                    return;
                }
                TimewaitArrival::Refused => {
                    if let Some(ended) = self.ended.take(waiting.socket) {
                        self.write(ended, sink);
                    }
                }
            }
        }
        let release = waiting.released(at.time, outcome, peer_fin, TimeWaitSource::TwskAlloc);
        sink.update(Update::Released(&release));
    }

    /// The next connection to be looked up in the kernel's table by now, for its timewait socket
    /// tells nothing of itself; the answer goes to [`Self::on_lookup`].
    pub fn next_lookup(&mut self, now_ns: u64) -> Option<Lookup> {
        self.releases.next_lookup(now_ns)
    }

    /// What the kernel's table says of a connection.
    pub fn on_lookup(&mut self, id: u64, now_ns: u64, looked: Looked, sink: &mut impl Sink) {
        let (outcome, since_ns) = match looked {
            Looked::FinWait2 | Looked::Unknown => {
                self.releases.look_again(id);
                return;
            }
            Looked::TimeWait { since_ns } => (Outcome::TimeWait, since_ns),
            Looked::Gone => (Outcome::Gone, None),
        };
        let Some(waiting) = self.releases.take(id) else {
            return;
        };
        let peer_fin = since_ns
            .and_then(|since| Moment::new(now_ns.saturating_sub(since)))
            // The kernel tells it in jiffies.
            .map(|fin| fin.max(waiting.closed_at()));
        let time = Moment::new(now_ns).unwrap_or(Moment::MIN);
        let release = waiting.released(time, outcome, peer_fin, TimeWaitSource::SockDiag);
        sink.update(Update::Released(&release));
    }

    /// Writes what waits under a socket's address: a new generation of it begins.
    fn write_waiting(&mut self, socket: u64, sink: &mut impl Sink) {
        if let Some(ended) = self.ended.take(socket) {
            self.write(ended, sink);
        }
    }

    fn write(&mut self, mut ended: Ended, sink: &mut impl Sink) {
        // A reset that was not seen may be among what was lost.
        let all_seen = ended.connection.lost_before == self.stats.lost;
        ended.verdict = verdict(&Evidence {
            connection: &ended.connection,
            fields: ended.fields,
            reset_after: ended.reset_after,
            hooks: if all_seen {
                self.sources.resets
            } else {
                ResetHooks::default()
            },
        });
        ended.time_wait = timewait::at_close(&ended, self.sources.timewait && all_seen);
        if ended.connection.established {
            self.stats.closed += 1;
        } else {
            self.stats.failed += 1;
        }
        sink.update(Update::Ended(&ended));
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }
}

/// What a step means for the connection's phases.
fn learn_step(connection: &mut Connection, step: Step, time: Moment) {
    match step {
        Step::SynsCrossed => connection.role = Role::Simultaneous,
        Step::Established => connection.established_at = Some(time),
        Step::FinAcknowledged => connection.fin_acked = Some(time),
        Step::LocalFin | Step::RemoteFin => connection.first_fin = Some(time),
        Step::SecondFin | Step::FinsCrossed => connection.second_fin = Some(time),
        Step::ActiveOpen
        | Step::PassiveOpen
        | Step::Listen
        | Step::StopListening
        | Step::Close
        | Step::Again
        | Step::Impossible => {}
    }
}

/// What a finished handshake left, where the transition is one.
const fn handshake_fields(details: &Details) -> Option<&HandshakeFields> {
    match details {
        Details::Established {
            handshake: Some(fields),
            ..
        } => Some(fields),
        Details::Established {
            handshake: None, ..
        }
        | Details::Open { .. }
        | Details::PassiveOpen { .. }
        | Details::Step
        | Details::Release { .. }
        | Details::Close { .. } => None,
    }
}

/// What came with a transition: identity, process, what the handshake left.
fn learn_details(connection: &mut Connection, details: &Details, listeners: &Listeners) {
    match details {
        Details::Open {
            endpoints,
            owner,
            task,
        } => {
            connection.endpoints = Some(*endpoints);
            connection.owner = *owner;
            connection.process = Process::new(task, ProcessSource::Connect);
        }
        Details::PassiveOpen {
            endpoints,
            owner,
            request,
        } => {
            connection.endpoints = Some(*endpoints);
            connection.owner = *owner;
            connection.request = *request;
            connection.fast_open = request.seen.map(|seen| seen.fast_open);
        }
        Details::Established {
            endpoints,
            handshake,
        } => {
            connection.learn_endpoints(endpoints);
            connection.syn_retransmits = handshake.map(|fields| fields.retransmits);
            connection.handshake_srtt_us = handshake
                .map(|fields| fields.srtt_us)
                .filter(|&srtt| srtt != 0);
            match connection.role {
                Role::Passive => {
                    // A child without data in its SYN is none of Fast Open, but for listeners
                    // that take those too.
                    if handshake.is_some_and(|fields| fields.syn_data) {
                        connection.fast_open = Some(true);
                    }
                    if connection.accepted_at.is_none() {
                        connection.process = listeners.process_at(endpoints);
                    }
                }
                Role::Active | Role::Simultaneous => {
                    connection.fast_open = handshake.map(|fields| fields.syn_data);
                }
                Role::Unknown => {}
            }
        }
        Details::Step => {}
        Details::Release { task } => {
            if connection.process.is_none() && !task.kernel {
                connection.process = Process::new(task, ProcessSource::Close);
            }
        }
        Details::Close { endpoints, .. } => connection.learn_endpoints(endpoints),
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
