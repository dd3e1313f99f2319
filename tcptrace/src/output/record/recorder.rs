//! Makes records from updates.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use jiff::Timestamp;
use tcptrace_common::TcpState;

use super::address::Address;
use super::shapes::{
    ConnectionRecord, HandshakeRecord, HostFields, Id, Identity, LossRecord, LostAt, Record,
    RecordBody, RecordedHandshake, ReleaseRecord, RowLoss, SCHEMA, SummaryRecord, TransitionRecord,
};
use crate::{
    clock::{ClockReading, WallClock},
    feed::event::Endpoints,
    host::Host,
    tracker::{
        Connection, Ended, Listener, LossPlace, Moment, Ownership, Process, Release, Role, errno,
        is_synchronized,
    },
};

/// Makes records from updates.
#[derive(Clone, Debug)]
pub struct Recorder {
    host: HostFields,
    clock: WallClock,
    reset_reasons: BTreeMap<u32, String>,
}

impl Recorder {
    /// A recorder for a host, with its clock and its kernel's names of reset reasons.
    pub fn new(host: &Host, clock: WallClock, reset_reasons: BTreeMap<u32, String>) -> Self {
        Self {
            host: HostFields {
                host: host.name.as_deref().map(Arc::from),
                boot_id: host.boot_id.as_deref().map(Arc::from),
                run_id: host.run.as_str().into(),
            },
            clock,
            reset_reasons,
        }
    }

    pub fn learn_clock(&mut self, reading: ClockReading) {
        self.clock.update(reading);
    }

    fn record(&self, moment_ns: u64, body: RecordBody) -> Record {
        Record {
            schema: SCHEMA,
            body,
            moment_ns,
            time: self.clock.wall(moment_ns),
            host: self.host.clone(),
        }
    }

    fn wall(&self, moment: Moment) -> Timestamp {
        self.clock.wall(moment.get())
    }

    /// Returns the record of a connection's transition.
    pub fn transition(
        &self,
        connection: &Connection,
        (from, to): (TcpState, TcpState),
        time: Moment,
        in_state_ns: Option<u64>,
    ) -> Record {
        self.record(
            time.get(),
            RecordBody::Transition(TransitionRecord {
                identity: self.identity_of(connection),
                from,
                to,
                in_state_us: in_state_ns.map(micros),
            }),
        )
    }

    /// Returns the record of a listener that begins or stops listening.
    pub fn listener(&self, listener: &Listener, began: bool, time: Moment) -> Record {
        let (from, to, held) = if began {
            (TcpState::Close, TcpState::Listen, None)
        } else {
            let held = listener
                .since
                .map(|since| micros(time.get().saturating_sub(since.get())));
            (TcpState::Listen, TcpState::Close, held)
        };
        self.record(
            time.get(),
            RecordBody::Transition(TransitionRecord {
                identity: self.identity(
                    listener.id,
                    None,
                    Some(&listener.endpoints),
                    &listener.into(),
                ),
                from,
                to,
                in_state_us: held,
            }),
        )
    }

    /// Returns the record of a finished handshake.
    pub fn handshake(&self, connection: &Connection) -> Record {
        let time = connection
            .handshake
            .established_at
            .or(connection.state_since);
        self.record(
            time.unwrap_or(Moment::MIN).get(),
            RecordBody::Handshake(HandshakeRecord {
                identity: self.identity_of(connection),
                handshake: handshake_of(connection),
                // With SYN cookies a server's first sample is wrong; then the handshake has no time
                // either.
                srtt_us: connection.handshake.srtt_us.filter(|_| {
                    connection.role != Role::Passive || connection.handshake.took.is_some()
                }),
            }),
        )
    }

    /// Returns the record of an ended connection.
    pub fn connection(&self, ended: &Ended) -> Record {
        let connection = &ended.connection;
        let closed = ended.closed_at.get();
        let since = |moment: Moment, end: u64| micros(end.saturating_sub(moment.get()));
        let fields = ended.fields.as_ref();
        let error = ended.errno();
        let established_end = connection.closing.first_fin.map_or(closed, Moment::get);
        // Without the first FIN of a connection that had one, the end of that phase is unknown.
        let phase_end_seen = connection.closing.first_fin.is_some()
            || (connection.state == TcpState::Established && ended.end_seen);
        let record = ConnectionRecord {
            identity: self.identity_of(connection),
            opened_at: connection.handshake.opened.map(|moment| self.wall(moment)),
            established_at: connection
                .handshake
                .established_at
                .map(|moment| self.wall(moment)),
            closed_at: ended.end_seen.then(|| self.wall(ended.closed_at)),
            end_seen: ended.end_seen,
            handshake: handshake_of(connection),
            accept_wait_us: connection.accept_wait_ns().map(micros),
            established_us: connection
                .handshake
                .established_at
                .filter(|_| phase_end_seen)
                .map(|moment| since(moment, established_end)),
            half_closed_us: ended.half_closed_ns().map(micros),
            fin_wait2_us: ended.fin_wait2_ns().map(micros),
            last_ack_us: ended.last_ack_ns().map(micros),
            duration_us: connection
                .handshake
                .opened
                .filter(|_| ended.end_seen)
                .map(|moment| since(moment, closed)),
            closed_by: ended.closed_by(),
            last_state: connection.state,
            verdict: ended.verdict,
            established: connection.established || is_synchronized(connection.state),
            errno: error.map(errno::name),
            errno_number: error,
            reset_reason: connection
                .resets
                .reason
                .map(|reason| self.reset_reason(reason)),
            time_wait: ended.time_wait.map(|time_wait| time_wait.entered),
            time_wait_source: ended.time_wait.map(|time_wait| time_wait.source),
            peer_fin: ended.peer_fin().filter(|_| connection.established),
            bytes_sent: ended.bytes_sent(),
            bytes_received: fields.map(|fields| fields.bytes_received),
            segments_sent: fields.map(|fields| fields.segments_sent),
            segments_received: fields.map(|fields| fields.segments_received),
            retransmits: fields.map(|fields| fields.retransmits),
            srtt_us: fields
                .map(|fields| fields.srtt_us)
                .filter(|&srtt| srtt != 0 && !connection.is_syn_cookie()),
            completeness: connection.completeness,
        };
        self.record(
            ended.closed_at.get(),
            RecordBody::Connection(Box::new(record)),
        )
    }

    /// Returns the record of what was learnt after a connection's end.
    pub fn release(&self, release: &Release) -> Record {
        self.record(
            release.time.get(),
            RecordBody::Release(Box::new(ReleaseRecord {
                identity: self.identity(
                    release.id,
                    Some(release.role),
                    release.endpoints.as_ref(),
                    &release.whose,
                ),
                half_closed_us: release.half_closed_ns.map(micros),
                peer_fin_at: release.peer_fin.map(|moment| self.wall(moment)),
                fin_wait2_us: release.fin_wait2_ns.map(micros),
                time_wait: release.time_wait.map(|time_wait| time_wait.entered),
                time_wait_source: release.time_wait.map(|time_wait| time_wait.source),
                outcome: release.outcome,
            })),
        )
    }

    /// Returns the kernel's name of a reset reason, or its number if it has none.
    fn reset_reason(&self, reason: u32) -> String {
        self.reset_reasons
            .get(&reason)
            .cloned()
            .unwrap_or_else(|| reason.to_string())
    }

    /// Returns the record of lost events.
    pub fn loss(&self, lost: u64, place: LossPlace, now_ns: u64) -> Record {
        self.loss_at(lost, LostAt::Events(place), now_ns)
    }

    /// Returns the record of dropped rows.
    pub fn output_loss(&self, lost: u64, now_ns: u64) -> Record {
        self.loss_at(lost, LostAt::Rows(RowLoss::Output), now_ns)
    }

    /// Returns the record of rows that could not wait for the filter.
    pub fn filter_loss(&self, lost: u64, now_ns: u64) -> Record {
        self.loss_at(lost, LostAt::Rows(RowLoss::Filter), now_ns)
    }

    /// Returns the record of a summary.
    pub fn summary(&self, summary: SummaryRecord, now_ns: u64) -> Record {
        self.record(now_ns, RecordBody::Summary(Box::new(summary)))
    }

    /// Returns the wall clock's time at a moment of the events' clock.
    pub fn time(&self, now_ns: u64) -> Timestamp {
        self.clock.wall(now_ns)
    }

    fn loss_at(&self, lost: u64, place: LostAt, now_ns: u64) -> Record {
        self.record(now_ns, RecordBody::Loss(LossRecord { lost, place }))
    }

    fn identity_of(&self, connection: &Connection) -> Identity {
        self.identity(
            connection.id,
            Some(connection.role),
            connection.endpoints.as_ref(),
            &connection.into(),
        )
    }

    fn identity(
        &self,
        id: u64,
        role: Option<Role>,
        ends: Option<&Endpoints>,
        whose: &Ownership,
    ) -> Identity {
        // A listener's wildcard address is its address; a connection's is not known yet.
        let known = |address: IpAddr| role.is_none() || !address.is_unspecified();
        let port = |port: u16| (port != 0).then_some(port);
        let Ownership {
            owner,
            named,
            process,
        } = whose;
        let number = ends.and_then(|ends| ends.interface);
        let interface = named
            .interface
            .clone()
            .or_else(|| number.map(|number| number.to_string().into()));
        let cgroup = named.cgroup.as_deref();
        let netns = ends.and_then(|ends| ends.netns);
        Identity {
            id: Id {
                run: Arc::clone(&self.host.run_id),
                number: id,
            },
            role,
            family: ends.map(|ends| ends.local_address.into()),
            local_address: ends
                .map(|ends| ends.local_address)
                .filter(|&address| known(address))
                .map(|address| Address::new(address, interface.as_ref())),
            local_port: ends.and_then(|ends| port(ends.local_port)),
            remote_address: ends
                .map(|ends| ends.remote_address)
                .filter(|address| !address.is_unspecified())
                .map(|address| Address::new(address, interface.as_ref())),
            remote_port: ends.and_then(|ends| port(ends.remote_port)),
            netns: netns.map(|netns| netns.inode),
            netns_cookie: netns.and_then(|netns| netns.cookie),
            interface,
            uid: owner.uid,
            cgroup_id: owner.cgroup,
            cgroup: cgroup.map(|cgroup| cgroup.path.clone()),
            container_id: cgroup.and_then(|cgroup| cgroup.container_id.clone()),
            pod_uid: cgroup.and_then(|cgroup| cgroup.pod_uid.clone()),
            unit: cgroup.and_then(|cgroup| cgroup.unit.clone()),
            pid: process.map(|process| process.pid),
            comm: process.as_ref().map(Process::name),
            pid_source: process.map(|process| process.source),
            pid_gone: process.is_some_and(|process| process.gone),
        }
    }
}

fn handshake_of(connection: &Connection) -> RecordedHandshake {
    let handshake = &connection.handshake;
    RecordedHandshake {
        handshake_us: handshake.took.map(|(took, _)| micros(took)),
        handshake_source: handshake.took.map(|(_, source)| source),
        syn_retransmits: handshake.syn_retransmits,
        deferred: connection.deferred(),
        fast_open: handshake.fast_open,
    }
}

const fn micros(nanos: u64) -> u64 {
    nanos / 1000
}
