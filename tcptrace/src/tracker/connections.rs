//! The sockets held, and what each event does to them.

use tcptrace_common::TcpState;

use super::{
    config::TrackerConfig,
    connection::Connection,
    connects::Connects,
    ended::{Ended, EndedQueue},
    evidence::HookCoverage,
    handshake,
    journal::Journal,
    lifecycle::{Step, can_lead_to, is_synchronized},
    listener::Listener,
    listeners::Listeners,
    stats::Anomaly,
    store::{Store, StoreKey},
    time_wait::follow::TimeWaits,
    update::Update,
    vocabulary::{Completeness, Moment, Origin, Process, ProcessSource, Role},
};
use crate::feed::{
    event::{ConnectFailure, Details, Endpoints, SocketOwner, Task, Transition},
    item::EvidenceHook,
};
use crate::tracker::name_table::NameTable;

/// The connections and listeners held, and the connections that wait for their record.
///
/// A socket's address is in at most one of `store` and `listeners`: whatever begins at an address
/// first gives up what was held there. `ended` may hold earlier connections of the same address.
pub(super) struct Connections {
    /// The live connections.
    pub(super) store: Store,
    /// The connections that wait for their record.
    pub(super) ended: EndedQueue,
    /// The listening sockets.
    pub(super) listeners: Listeners,
    /// The connections that have a timewait socket.
    pub(super) time_waits: TimeWaits,
    pub(super) names: NameTable,
    /// When the absence of a hook's event is evidence.
    pub(super) silences: HookCoverage,
    /// What is reported.
    pub(super) journal: Journal,
    /// The number of the current walk over the kernel's sockets, or of the last one.
    pub(super) walk: u64,
    connects: Connects,
    config: TrackerConfig,
}

impl Connections {
    pub(super) fn new(config: TrackerConfig) -> Self {
        Self {
            store: Store::new(config.max_connections),
            ended: EndedQueue::default(),
            listeners: Listeners::new(config.max_listeners),
            time_waits: TimeWaits::new(config.max_releases, config.max_time_waits),
            names: NameTable::default(),
            silences: HookCoverage::new(config.sources),
            journal: Journal::new(),
            walk: 0,
            connects: Connects::default(),
            config,
        }
    }

    pub(super) fn on_reset_sent(&mut self, at: Origin, endpoints: &Endpoints, reason: Option<u32>) {
        let connection = if let Some(connection) = self.store.get_mut(at.socket) {
            connection.resets.sent |= !connection.has_another_peer_than(endpoints);
            Some(connection)
        } else if let Some(ended) = self.ended.get_mut(at.socket, at.time) {
            ended.reset_after |= !ended.connection.has_another_peer_than(endpoints);
            Some(&mut ended.connection)
        } else {
            None
        };
        if let Some(connection) = connection
            && !connection.has_another_peer_than(endpoints)
        {
            connection.resets.reason = connection.resets.reason.or(reason);
        }
        self.journal.push(Update::Reset { sent: true, reason });
    }

    pub(super) fn on_transition(&mut self, at: Origin, transition: &Transition) {
        match Step::between(transition.old, transition.new) {
            Step::ActiveOpen => self.begin(at, Role::Active, transition),
            Step::PassiveOpen => self.begin(at, Role::Passive, transition),
            Step::Listen => self.listen(at, &transition.details),
            Step::StopListening => self.stop_listening(at, &transition.details),
            Step::Impossible => {
                self.journal.stats.anomalies += 1;
                self.journal.anomaly = Some(Anomaly {
                    time: at.time,
                    socket: at.socket,
                    from: transition.old,
                    to: transition.new,
                    held: self.store.get(at.socket).map(|held| held.state),
                });
                // The kernel is right about the state; what the tracker holds is wrong.
                match self.store.find(at.socket) {
                    Some(key) => {
                        if let Some(connection) = self.store.get_by_key(key) {
                            self.journal.mark_gap(connection);
                        }
                        self.advance(at, key, Step::Impossible, transition);
                    }
                    None => self.stray(at, transition),
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
                let key = self.hold(at, transition);
                self.advance(at, key, step, transition);
            }
        }
    }

    fn stray(&mut self, at: Origin, transition: &Transition) {
        let id = self.journal.take_id();
        let mut connection = Connection::new(id, at.socket, Role::Unknown, transition.new);
        connection.completeness = Completeness::Gap;
        connection.add_details(at, &transition.details, &self.listeners);
        connection.learn_names(&self.names);
        self.journal.push(Update::Stray {
            connection,
            from: transition.old,
            to: transition.new,
            time: at.time,
        });
    }

    fn begin(&mut self, at: Origin, role: Role, transition: &Transition) {
        self.give_up_previous(at);
        let mut connection =
            Connection::new(self.journal.take_id(), at.socket, role, transition.new);
        connection.followed.before = transition.old;
        connection.handshake.opened = Some(at.time);
        connection.state_since = Some(at.time);
        connection.followed.touched = at.time;
        connection.followed.heard = Some(self.silences.starting_at(at.time));
        connection.add_details(at, &transition.details, &self.listeners);
        let key = self.enter(connection);
        self.report(key, transition, at.time, None);
    }

    /// Gives up what is held of a socket that begins anew: its end was lost.
    pub(super) fn give_up_previous(&mut self, at: Origin) {
        self.ended.supersede(at.socket);
        if let Some(key) = self.store.find(at.socket) {
            self.give_up(key, at.time);
        }
    }

    /// Ends a connection whose end was lost.
    pub(super) fn give_up(&mut self, key: StoreKey, time: Moment) {
        if let Some(mut connection) = self.store.remove(key) {
            self.journal.mark_gap(&mut connection);
            let socket = connection.socket;
            let mut ended = Ended::new(connection, time, None);
            ended.end_seen = false;
            self.ended.push(ended);
            // Later events are about the next connection.
            self.ended.supersede(socket);
        }
    }

    /// Returns the connection that the event is about; gives up any other held for its socket.
    fn hold(&mut self, at: Origin, transition: &Transition) -> StoreKey {
        let Some(key) = self.store.find(at.socket) else {
            return self.meet(at, transition, Completeness::Seeded);
        };
        let follows = self.store.get_by_key(key).is_some_and(|held| {
            let is_another = transition
                .details
                .endpoints()
                .is_some_and(|ends| held.has_another_peer_than(ends));
            !is_another && can_lead_to(held.state, transition.old)
        });
        if follows {
            return key;
        }
        // The end of one and the beginning of the other were lost.
        self.give_up(key, at.time);
        self.meet(at, transition, Completeness::Gap)
    }

    /// Adds a connection first seen after its handshake: `Gap` if its beginning was lost.
    fn meet(&mut self, at: Origin, transition: &Transition, seen: Completeness) -> StoreKey {
        self.ended.supersede(at.socket);
        let role = if transition.old == TcpState::SynSent {
            // Only connect() leads there.
            Role::Active
        } else {
            Role::Unknown
        };
        let mut connection =
            Connection::new(self.journal.take_id(), at.socket, role, transition.old);
        if seen == Completeness::Gap {
            self.journal.mark_gap(&mut connection);
        } else {
            connection.completeness = seen;
            connection.followed.met = true;
            connection.followed.met_in = self.journal.settled;
        }
        connection.established = is_synchronized(transition.old);
        connection.learn_closer(transition.old, None);
        connection.add_details(at, &transition.details, &self.listeners);
        self.enter(connection)
    }

    pub(super) fn enter(&mut self, mut connection: Connection) -> StoreKey {
        // If it listened, LISTEN→CLOSE was lost.
        self.listeners.remove(connection.socket);
        if connection.established {
            self.journal.stats.seeded += 1;
        } else {
            self.journal.stats.attempts += 1;
        }
        connection.learn_names(&self.names);
        if connection.followed.walk == 0 {
            connection.followed.walk = self.walk;
        }
        self.journal.push(Update::Entered(connection.clone()));
        let (key, evicted) = self.store.insert(connection);
        if let Some(evicted) = evicted {
            self.journal.mark_broken();
            if evicted.established {
                self.journal.stats.evicted += 1;
            } else {
                self.journal.stats.evicted_pending += 1;
            }
            self.journal.push(Update::Evicted(evicted));
        }
        key
    }

    /// Moves a connection to its next state.
    fn advance(&mut self, at: Origin, key: StoreKey, step: Step, transition: &Transition) {
        let Some(connection) = self.store.touch(key) else {
            return;
        };
        let time = at.time;
        connection.followed.touched = time;
        let (old, new) = (transition.old, transition.new);
        if connection.state != old {
            self.journal.mark_gap(connection);
            connection.resume_in(old);
        }
        let in_state_ns = connection
            .state_since
            .map(|since| time.get().saturating_sub(since.get()));
        connection.add_details(at, &transition.details, &self.listeners);
        connection.learn_names(&self.names);
        connection.learn_step(step, time, transition.fin_left);
        if step == Step::Established {
            let fields = transition.details.handshake();
            let now_ns = time.get();
            let syns_seen = self.silences.is_attached(EvidenceHook::Syn, now_ns, now_ns);
            connection.handshake.took = handshake::measure(connection, time, fields, syns_seen);
        }
        connection.learn_closers(transition);
        let established = connection.learn_established(transition);
        self.journal.stats.established += u64::from(established);
        if new == TcpState::Close {
            // The record's phases end with the state that was left.
            connection.state = old;
            if established {
                self.journal.push(Update::Established(connection.clone()));
            }
            self.report(key, transition, time, in_state_ns);
            self.end(at, key, &transition.details);
            return;
        }
        (connection.followed.before, connection.state) = (old, new);
        if new != old {
            connection.state_since = Some(time);
        }
        connection.followed.heard = Some(self.silences.starting_at(time));
        let opened = established.then(|| connection.clone());
        self.report(key, transition, time, in_state_ns);
        if let Some(opened) = opened {
            let release =
                self.time_waits
                    .reuse_endpoints(opened.endpoints.as_ref(), time, &mut self.ended);
            self.journal.push_release(release);
            // accept() came first.
            let accepted = opened.accept_wait_ns().map(|_| opened.clone());
            self.journal.push(Update::Established(opened));
            self.journal.updates.extend(accepted.map(Update::Accepted));
        }
    }

    fn report(
        &mut self,
        key: StoreKey,
        transition: &Transition,
        time: Moment,
        in_state_ns: Option<u64>,
    ) {
        if self.config.transitions
            && let Some(connection) = self.store.get_by_key(key)
        {
            self.journal.push(Update::Transition {
                connection: connection.clone(),
                from: transition.old,
                to: transition.new,
                time,
                in_state_ns,
            });
        }
    }

    fn end(&mut self, at: Origin, key: StoreKey, details: &Details) {
        let Some(connection) = self.store.remove(key) else {
            return;
        };
        let ended = Ended::new(connection, at.time, details.close());
        if ended.failed_in_call() && self.config.sources.connects {
            self.connects.await_result(at, ended.connection.endpoints);
        }
        self.time_waits.follow(&ended, at, &self.silences);
        self.ended.push(ended);
    }

    pub(super) fn on_accept(
        &mut self,
        at: Origin,
        endpoints: &Endpoints,
        task: &Task,
        listener: Option<u64>,
    ) {
        let connection = match self.store.get_mut(at.socket) {
            Some(connection) => connection,
            None => match self.ended.get_mut(at.socket, at.time) {
                Some(ended) => &mut ended.connection,
                None => return,
            },
        };
        if connection.has_another_peer_than(endpoints) || connection.handshake.accepted_at.is_some()
        {
            return;
        }
        connection.handshake.accepted_at = Some(at.time);
        connection.handshake.request.listener = connection.handshake.request.listener.or(listener);
        if connection.role == Role::Unknown {
            // accept() returns nothing else.
            connection.role = Role::Passive;
        }
        if let Some(process) = Process::new(task, ProcessSource::Accept) {
            connection.process = Some(process);
        }
        if connection.accept_wait_ns().is_some() {
            self.journal.push(Update::Accepted(connection.clone()));
        }
    }

    /// CLOSE→LISTEN.
    pub(super) fn listen(&mut self, at: Origin, details: &Details) {
        self.give_up_previous(at);
        let Details::Open {
            endpoints,
            owner,
            task,
            bind,
        } = details
        else {
            return;
        };
        let id = self.journal.take_id();
        let listener = Listener {
            bind: *bind,
            process: Process::new(task, ProcessSource::Listen),
            since: Some(at.time),
            ..Listener::new(id, at, endpoints, *owner, &self.names)
        };
        self.journal.push(Update::Listener {
            listener: listener.clone(),
            began: true,
            time: at.time,
        });
        if !self.listeners.insert(listener) {
            self.journal.stats.listeners_refused += 1;
        }
    }

    /// LISTEN→CLOSE.
    pub(super) fn stop_listening(&mut self, at: Origin, details: &Details) {
        self.give_up_previous(at);
        let listener = match (self.listeners.stop(at.socket), details.endpoints()) {
            (Some(listener), _) => listener,
            // It listened before the trace began.
            (None, Some(endpoints)) => {
                let id = self.journal.take_id();
                Listener::new(id, at, endpoints, SocketOwner::default(), &self.names)
            }
            (None, None) => return,
        };
        self.journal.push(Update::Listener {
            listener,
            began: false,
            time: at.time,
        });
    }

    /// Ends a connect() call that failed inside the call.
    pub(super) fn on_connect_failed(&mut self, at: Origin, failure: &ConnectFailure) {
        if self.connects.is_awaited(at, failure) {
            if let Some(ended) = self.ended.get_mut(at.socket, at.time) {
                ended.connect = Some(*failure);
            }
            return;
        }
        // The socket is in CLOSE: the end of what is still held of it was lost.
        self.give_up_previous(at);
        let id = self.journal.take_id();
        let mut connection = Connection::new(id, at.socket, Role::Active, TcpState::Close);
        // When the call began is not known.
        connection.followed.touched = at.time;
        connection.endpoints = Some(failure.endpoints);
        connection.owner = failure.owner;
        connection.process = Process::new(&failure.task, ProcessSource::Connect);
        connection.learn_names(&self.names);
        self.journal.stats.attempts += 1;
        self.journal.push(Update::Entered(connection.clone()));
        let mut ended = Ended::new(connection, at.time, None);
        ended.connect = Some(*failure);
        self.ended.push(ended);
    }

    /// The peer's RST was acted on (`tcp_receive_reset`).
    pub(super) fn on_reset_received(&mut self, at: Origin, endpoints: &Endpoints) {
        if let Some(connection) = self.store.get_mut(at.socket) {
            connection.resets.received |= !connection.has_another_peer_than(endpoints);
        }
        self.journal.push(Update::Reset {
            sent: false,
            reason: None,
        });
    }
}
