//! Records: what every output shows, in the one shape that DESIGN calls `tcptrace/1`.
//!
//! A field that is absent is not known. Times are RFC 3339 with nanoseconds; durations end in
//! `_us` and are integers. Nothing here decides anything: it copies what the tracker says.

use std::{net::IpAddr, sync::Arc};

use jiff::Timestamp;
use nix::errno::Errno;
use serde::{Serialize, Serializer};
use tcptrace_common::TcpState;

use crate::{
    clock::{ClockReading, WallClock},
    event::Endpoints,
    host::Host,
    tracker::{
        Completeness, Connection, Ended, Listener, LossPlace, Moment, Process, Role, Verdict,
        is_synchronized,
    },
};

/// The version of the records' shape.
pub const SCHEMA: &str = "tcptrace/1";

/// One line of output.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    schema: &'static str,
    /// When.
    #[serde(serialize_with = "rfc3339")]
    pub time: Timestamp,
    #[serde(flatten)]
    host: HostFields,
    /// What it tells of.
    #[serde(flatten)]
    pub body: RecordBody,
}

/// What a record tells of.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RecordBody {
    /// A connection or a listener changed its state.
    Transition(TransitionRecord),
    /// A connection was established.
    Handshake(HandshakeRecord),
    /// A connection is over.
    Connection(Box<ConnectionRecord>),
    /// Something was lost.
    Loss(LossRecord),
}

#[derive(Clone, Debug, Serialize)]
struct HostFields {
    host: Arc<str>,
    boot_id: Arc<str>,
}

/// A connection's id, unique across restarts of the program and of the host.
#[derive(Clone, Debug)]
pub struct Id {
    run: Arc<str>,
    number: u64,
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}-{}", self.run, self.number))
    }
}

/// Where a connection runs between, and whose it is.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Which connection.
    pub id: Id,
    /// Who opened it; absent for a listener.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "role")]
    pub role: Option<Role>,
    /// `ipv4` or `ipv6`; an IPv4-mapped address is IPv4.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    /// This side's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_address: Option<IpAddr>,
    /// This side's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// The other side's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_address: Option<IpAddr>,
    /// The other side's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// The network namespace's inode number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<u32>,
    /// The process, in the initial pid namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comm: Option<String>,
    /// How we know the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_source: Option<&'static str>,
}

/// A state transition.
#[derive(Clone, Debug, Serialize)]
pub struct TransitionRecord {
    /// Whose.
    #[serde(flatten)]
    pub identity: Identity,
    /// The state left.
    #[serde(serialize_with = "state")]
    pub from: TcpState,
    /// The state entered.
    #[serde(serialize_with = "state")]
    pub to: TcpState,
    /// How long the state left was held, where its beginning was seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_state_us: Option<u64>,
}

/// A finished handshake.
#[derive(Clone, Debug, Serialize)]
pub struct HandshakeRecord {
    /// Whose.
    #[serde(flatten)]
    pub identity: Identity,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_us: Option<u64>,
    /// How we know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_source: Option<&'static str>,
    /// SYN (active) or SYN-ACK (passive) retransmits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syn_retransmits: Option<u32>,
    /// Smoothed round trip; absent for a passive open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srtt_us: Option<u32>,
}

/// A connection's whole life.
#[derive(Clone, Debug, Serialize)]
pub struct ConnectionRecord {
    /// Whose.
    #[serde(flatten)]
    pub identity: Identity,
    /// The socket's user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The id of the socket's cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_id: Option<u64>,
    /// Its first transition.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "rfc3339_option"
    )]
    pub opened_at: Option<Timestamp>,
    /// →ESTABLISHED.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "rfc3339_option"
    )]
    pub established_at: Option<Timestamp>,
    /// →CLOSE; absent when that was lost, and only the next use of the socket told of the end.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "rfc3339_option"
    )]
    pub closed_at: Option<Timestamp>,
    /// How long the handshake took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_us: Option<u64>,
    /// How we know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshake_source: Option<&'static str>,
    /// SYN (active) or SYN-ACK (passive) retransmits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syn_retransmits: Option<u32>,
    /// ESTABLISHED until the first FIN, or →CLOSE without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub established_us: Option<u64>,
    /// One direction closed and the other open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub half_closed_us: Option<u64>,
    /// The first transition to →CLOSE.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    /// Whose FIN came first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<&'static str>,
    /// The state left for CLOSE.
    #[serde(serialize_with = "state")]
    pub last_state: TcpState,
    /// Why it ended.
    #[serde(serialize_with = "verdict")]
    pub verdict: Verdict,
    /// It had been established.
    pub established: bool,
    /// The socket's error, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<String>,
    /// The socket's error, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno_number: Option<u16>,
    /// The peer's FIN was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_fin: Option<bool>,
    /// Payload sent, without retransmissions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_sent: Option<u64>,
    /// Payload received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_received: Option<u64>,
    /// Segments sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_sent: Option<u32>,
    /// Segments received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub segments_received: Option<u32>,
    /// Segments sent again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retransmits: Option<u32>,
    /// Smoothed round trip at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srtt_us: Option<u32>,
    /// How much of it was seen.
    #[serde(serialize_with = "completeness")]
    pub completeness: Completeness,
}

/// Something was lost since the last one.
#[derive(Clone, Debug, Serialize)]
pub struct LossRecord {
    /// How many events, or rows of output.
    pub lost: u64,
    /// `ring`, `decode` or `output`.
    #[serde(rename = "where")]
    pub place: &'static str,
}

/// Makes records of what the tracker says.
#[derive(Clone, Debug)]
pub struct Recorder {
    host: HostFields,
    run: Arc<str>,
    clock: WallClock,
}

impl Recorder {
    /// For a host, with its clock.
    #[must_use]
    pub fn new(host: &Host, clock: WallClock) -> Self {
        Self {
            host: HostFields {
                host: host.name.as_str().into(),
                boot_id: host.boot_id.as_str().into(),
            },
            run: host.run.as_str().into(),
            clock,
        }
    }

    /// Takes a reading of the clocks in.
    pub fn learn_clock(&mut self, reading: ClockReading) {
        self.clock.learn(reading);
    }

    fn record(&self, time: Timestamp, body: RecordBody) -> Record {
        Record {
            schema: SCHEMA,
            body,
            time,
            host: self.host.clone(),
        }
    }

    fn wall(&self, moment: Moment) -> Timestamp {
        self.clock.wall(moment.get())
    }

    /// A connection's transition.
    #[must_use]
    pub fn transition(
        &self,
        connection: &Connection,
        (from, to): (TcpState, TcpState),
        time: Moment,
        in_state_ns: Option<u64>,
    ) -> Record {
        self.record(
            self.wall(time),
            RecordBody::Transition(TransitionRecord {
                identity: self.identity_of(connection),
                from,
                to,
                in_state_us: in_state_ns.map(micros),
            }),
        )
    }

    /// A listener's beginning or end.
    #[must_use]
    pub fn listener(&self, listener: &Listener, began: bool, time: Moment) -> Record {
        let (from, to, held) = if began {
            (TcpState::Close, TcpState::Listen, None)
        } else {
            let held = time.get().saturating_sub(listener.since.get());
            (TcpState::Listen, TcpState::Close, Some(micros(held)))
        };
        self.record(
            self.wall(time),
            RecordBody::Transition(TransitionRecord {
                identity: self.identity(
                    listener.id,
                    None,
                    Some(&listener.endpoints),
                    listener.process.as_ref(),
                ),
                from,
                to,
                in_state_us: held,
            }),
        )
    }

    /// A connection's handshake is over.
    #[must_use]
    pub fn handshake(&self, connection: &Connection) -> Record {
        let time = connection.established_at.or(connection.state_since);
        self.record(
            self.wall(time.unwrap_or(Moment::MIN)),
            RecordBody::Handshake(HandshakeRecord {
                identity: self.identity_of(connection),
                handshake_us: connection.handshake.map(|(took, _)| micros(took)),
                handshake_source: connection.handshake.map(|(_, source)| source.name()),
                syn_retransmits: connection.syn_retransmits,
                // With SYN cookies a server's first sample is garbage, and nothing here tells that
                // they were used.
                srtt_us: connection
                    .handshake_srtt_us
                    .filter(|_| connection.role != Role::Passive),
            }),
        )
    }

    /// A connection is over.
    #[must_use]
    pub fn connection(&self, ended: &Ended) -> Record {
        let connection = &ended.connection;
        let closed = ended.closed_at.get();
        let since = |moment: Moment, end: u64| micros(end.saturating_sub(moment.get()));
        let fields = ended.fields.as_ref();
        let error = fields
            .map(|fields| fields.error)
            .filter(|&error| error != 0);
        let established_end = connection.first_fin.map_or(closed, Moment::get);
        // Without the first FIN of a connection that had one, the end of that phase is not known.
        let phase_end_seen =
            connection.first_fin.is_some() || (connection.closed_by.is_none() && ended.end_seen);
        let record = ConnectionRecord {
            identity: self.identity_of(connection),
            uid: connection.owner.uid,
            cgroup_id: connection.owner.cgroup,
            opened_at: connection.opened.map(|moment| self.wall(moment)),
            established_at: connection.established_at.map(|moment| self.wall(moment)),
            closed_at: ended.end_seen.then(|| self.wall(ended.closed_at)),
            handshake_us: connection.handshake.map(|(took, _)| micros(took)),
            handshake_source: connection.handshake.map(|(_, source)| source.name()),
            syn_retransmits: connection.syn_retransmits,
            established_us: connection
                .established_at
                .filter(|_| phase_end_seen)
                .map(|moment| since(moment, established_end)),
            half_closed_us: ended.half_closed_ns().map(micros),
            duration_us: connection
                .opened
                .filter(|_| ended.end_seen)
                .map(|moment| since(moment, closed)),
            closed_by: ended.closed_by().map(crate::tracker::ClosedBy::name),
            last_state: connection.state,
            verdict: ended.verdict,
            established: connection.established || is_synchronized(connection.state),
            errno: error.map(|error| format!("{:?}", Errno::from_raw(error.into()))),
            errno_number: error,
            peer_fin: ended.peer_fin().filter(|_| connection.established),
            bytes_sent: fields.map(|fields| fields.bytes_sent),
            bytes_received: fields.map(|fields| fields.bytes_received),
            segments_sent: fields.map(|fields| fields.segments_sent),
            segments_received: fields.map(|fields| fields.segments_received),
            retransmits: fields.map(|fields| fields.retransmits),
            srtt_us: fields
                .map(|fields| fields.srtt_us)
                .filter(|&srtt| srtt != 0),
            completeness: connection.completeness,
        };
        self.record(
            self.wall(ended.closed_at),
            RecordBody::Connection(Box::new(record)),
        )
    }

    /// Events were lost.
    #[must_use]
    pub fn loss(&self, lost: u64, place: LossPlace, now_ns: u64) -> Record {
        self.loss_at(lost, place.name(), now_ns)
    }

    /// Rows of output were dropped.
    #[must_use]
    pub fn output_loss(&self, lost: u64, now_ns: u64) -> Record {
        self.loss_at(lost, "output", now_ns)
    }

    fn loss_at(&self, lost: u64, place: &'static str, now_ns: u64) -> Record {
        self.record(
            self.clock.wall(now_ns),
            RecordBody::Loss(LossRecord { lost, place }),
        )
    }

    fn identity_of(&self, connection: &Connection) -> Identity {
        self.identity(
            connection.id,
            Some(connection.role),
            connection.endpoints.as_ref(),
            connection.process.as_ref(),
        )
    }

    fn identity(
        &self,
        id: u64,
        role: Option<Role>,
        ends: Option<&Endpoints>,
        process: Option<&Process>,
    ) -> Identity {
        // A listener's wildcard address is its address; a connection's is one not known yet.
        let known = |address: IpAddr| role.is_none() || !address.is_unspecified();
        let port = |port: u16| (port != 0).then_some(port);
        Identity {
            id: Id {
                run: Arc::clone(&self.run),
                number: id,
            },
            role,
            family: ends.map(|ends| family(ends.local_address)),
            local_address: ends
                .map(|ends| ends.local_address)
                .filter(|&address| known(address)),
            local_port: ends.and_then(|ends| port(ends.local_port)),
            remote_address: ends
                .map(|ends| ends.remote_address)
                .filter(|address| !address.is_unspecified()),
            remote_port: ends.and_then(|ends| port(ends.remote_port)),
            netns: ends.and_then(|ends| ends.netns),
            pid: process.map(|process| process.pid),
            comm: process.map(Process::name),
            pid_source: process.map(|process| process.source.name()),
        }
    }
}

/// As in records.
#[must_use]
pub const fn family(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "ipv4",
        IpAddr::V6(_) => "ipv6",
    }
}

const fn micros(nanos: u64) -> u64 {
    nanos / 1000
}

fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.9}"))
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn rfc3339_option<S: Serializer>(
    time: &Option<Timestamp>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::ref_option, reason = "serde calls it so")]
fn role<S: Serializer>(role: &Option<Role>, serializer: S) -> Result<S::Ok, S::Error> {
    match role {
        Some(role) => serializer.serialize_str(role.name()),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn state<S: Serializer>(state: &TcpState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn verdict<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn completeness<S: Serializer>(value: &Completeness, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(value.name())
}
