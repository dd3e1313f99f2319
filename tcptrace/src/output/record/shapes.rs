//! The shape of each kind of record.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_with::skip_serializing_none;
use tcptrace_common::TcpState;

use super::address::{Address, IpFamily};
use crate::tracker::{
    ClosedBy, Completeness, HandshakeSource, LossPlace, ProcessSource, ReleaseOutcome, Role,
    TimeWaitSource, Verdict,
};

pub const SCHEMA: &str = "tcptrace/1";

/// One line of output.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Record {
    /// `tcptrace/1`.
    pub(super) schema: &'static str,
    /// When, on the events' clock, nanoseconds: the wall clock may be set back.
    #[serde(skip)]
    pub moment_ns: u64,
    /// When it happened.
    #[serde(serialize_with = "rfc3339")]
    #[cfg_attr(test, schemars(with = "Timestamp"))]
    pub time: Timestamp,
    #[serde(flatten)]
    pub(super) host: HostFields,
    #[serde(flatten)]
    pub body: RecordBody,
}

/// The part of a record that differs by kind.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum RecordBody {
    Transition(TransitionRecord),
    Handshake(HandshakeRecord),
    /// A connection ended.
    Connection(Box<ConnectionRecord>),
    /// More was learnt of an ended connection.
    Release(Box<ReleaseRecord>),
    /// Events or rows were lost.
    Loss(LossRecord),
    /// Sums over an interval.
    Summary(Box<SummaryRecord>),
}

impl RecordBody {
    /// Returns the connection or listener that the record is about.
    pub fn identity(&self) -> Option<&Identity> {
        match self {
            Self::Transition(body) => Some(&body.identity),
            Self::Handshake(body) => Some(&body.identity),
            Self::Connection(body) => Some(&body.identity),
            Self::Release(body) => Some(&body.identity),
            Self::Loss(_) | Self::Summary(_) => None,
        }
    }
}

#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct HostFields {
    /// The host name.
    pub(super) host: Option<Arc<str>>,
    /// The boot of the host (`/proc/sys/kernel/random/boot_id`).
    pub(super) boot_id: Option<Arc<str>>,
    /// The start of the program: connections that ended between two starts have no record.
    pub(super) run_id: Arc<str>,
}

/// A connection's id, unique across restarts of the program and of the host.
#[derive(Clone, Debug, Default)]
pub struct Id {
    pub(super) run: Arc<str>,
    pub(super) number: u64,
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.run, self.number)
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The endpoints and the owner of a connection or listener.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Identity {
    /// The connection or listener, unique across restarts and hosts. Records of one connection
    /// share it.
    #[cfg_attr(test, schemars(with = "String"))]
    pub id: Id,
    /// Which side opened it; absent for a listener.
    pub role: Option<Role>,
    /// The family of both addresses; IPv4-mapped addresses are IPv4.
    pub family: Option<IpFamily>,
    /// The address of this host; a link-local one has its interface: `fe80::2%eth0`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub local_address: Option<Address>,
    /// The port of this host, absent before it is chosen.
    pub local_port: Option<u16>,
    /// The address of the peer; a link-local one has its interface: `fe80::2%eth0`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub remote_address: Option<Address>,
    /// The port of the peer.
    pub remote_port: Option<u16>,
    /// The network namespace's inode number.
    pub netns: Option<u32>,
    /// The namespace's cookie, never reused within a boot: inode numbers are.
    pub netns_cookie: Option<NonZeroU32>,
    /// The interface that the socket is bound to, as for a link-local address: its name, or its
    /// number if the name is not known.
    pub interface: Option<Arc<str>>,
    /// The user that owns the socket.
    pub uid: Option<u32>,
    /// The id of the cgroup that the socket was made in.
    pub cgroup_id: Option<u64>,
    /// The path of the socket's cgroup in the v2 hierarchy.
    pub cgroup: Option<Box<str>>,
    /// The container named by the path.
    pub container_id: Option<Box<str>>,
    /// The Kubernetes pod named by the path.
    pub pod_uid: Option<Box<str>>,
    /// The systemd unit named by the path.
    pub unit: Option<Box<str>>,
    /// The process id, in the initial pid namespace.
    pub pid: Option<u32>,
    /// The process's name.
    pub comm: Option<String>,
    /// How the process is known.
    pub pid_source: Option<ProcessSource>,
    /// True if the process had exited before the connection came in through its listener; absent
    /// otherwise.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pid_gone: bool,
}

/// A state transition.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TransitionRecord {
    #[serde(flatten)]
    pub identity: Identity,
    /// The state left.
    #[serde(serialize_with = "state")]
    #[cfg_attr(test, schemars(schema_with = "super::schema::state"))]
    pub from: TcpState,
    /// The state entered.
    #[serde(serialize_with = "state")]
    #[cfg_attr(test, schemars(schema_with = "super::schema::state"))]
    pub to: TcpState,
    /// How long the state left was held, if its beginning was seen.
    pub in_state_us: Option<u64>,
}

/// How a connection was opened.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RecordedHandshake {
    /// How long the handshake took, SYN retransmits included.
    pub handshake_us: Option<u64>,
    /// Where `handshake_us` comes from.
    pub handshake_source: Option<HandshakeSource>,
    /// SYN (active) or SYN-ACK (passive) retransmits.
    pub syn_retransmits: Option<u32>,
    /// TCP_DEFER_ACCEPT: the handshake ends only when data arrives, and has no time.
    pub deferred: Option<bool>,
    /// TCP Fast Open: the SYN carried data that was accepted.
    pub fast_open: Option<bool>,
}

/// A finished handshake.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HandshakeRecord {
    #[serde(flatten)]
    pub identity: Identity,
    #[serde(flatten)]
    pub handshake: RecordedHandshake,
    /// Smoothed round-trip time; for a passive open only if it is a measured one.
    pub srtt_us: Option<u32>,
}

/// A connection from its beginning to its end.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ConnectionRecord {
    #[serde(flatten)]
    pub identity: Identity,
    /// When its first transition was seen.
    #[serde(serialize_with = "rfc3339_option")]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    pub opened_at: Option<Timestamp>,
    /// When it became ESTABLISHED.
    #[serde(serialize_with = "rfc3339_option")]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    pub established_at: Option<Timestamp>,
    /// When it entered CLOSE; absent if that was lost and the end was noticed later.
    #[serde(serialize_with = "rfc3339_option")]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    pub closed_at: Option<Timestamp>,
    /// Whether its end was seen; otherwise the kernel was found to have it no longer.
    pub end_seen: bool,
    #[serde(flatten)]
    pub handshake: RecordedHandshake,
    /// From ESTABLISHED until accept() returned it; 0 when accept() came first.
    pub accept_wait_us: Option<u64>,
    /// From ESTABLISHED until the first FIN, or until CLOSE without one.
    pub established_us: Option<u64>,
    /// How long one direction was closed and the other open.
    pub half_closed_us: Option<u64>,
    /// From the acknowledgement of our FIN until the peer's FIN.
    pub fin_wait2_us: Option<u64>,
    /// From our FIN, after the peer's, until CLOSE.
    pub last_ack_us: Option<u64>,
    /// From the first transition to CLOSE.
    pub duration_us: Option<u64>,
    /// Whose FIN came first; without a FIN, whose RST or abort ended it.
    pub closed_by: Option<ClosedBy>,
    /// The state before CLOSE.
    #[serde(serialize_with = "state")]
    #[cfg_attr(test, schemars(schema_with = "super::schema::state"))]
    pub last_state: TcpState,
    /// Why it ended.
    pub verdict: Verdict,
    /// Whether it was ever established.
    pub established: bool,
    /// The name of the errno that ended it.
    pub errno: Option<String>,
    /// The number of `errno`.
    pub errno_number: Option<u16>,
    /// Why the kernel sent a RST: its own name for the reason.
    pub reset_reason: Option<String>,
    /// Whether the peer's FIN was received.
    pub peer_fin: Option<bool>,
    /// Whether it entered TIME_WAIT.
    pub time_wait: Option<bool>,
    /// How `time_wait` is known.
    pub time_wait_source: Option<TimeWaitSource>,
    /// Payload sent, without retransmissions, bytes.
    pub bytes_sent: Option<u64>,
    /// Payload received, bytes.
    pub bytes_received: Option<u64>,
    /// Segments sent, with SYNs, FINs and bare ACKs.
    pub segments_sent: Option<u32>,
    /// Segments received, with SYNs, FINs and bare ACKs.
    pub segments_received: Option<u32>,
    /// Segments retransmitted.
    pub retransmits: Option<u32>,
    /// Smoothed round-trip time at the end.
    pub srtt_us: Option<u32>,
    /// How much of it was seen.
    pub completeness: Completeness,
}

impl ConnectionRecord {
    pub fn role(&self) -> Role {
        self.identity.role.unwrap_or(Role::Unknown)
    }
}

/// What was learnt after a connection's record, which is never changed.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReleaseRecord {
    #[serde(flatten)]
    pub identity: Identity,
    /// From our FIN until the peer's.
    pub half_closed_us: Option<u64>,
    /// When the peer's FIN came.
    #[serde(serialize_with = "rfc3339_option")]
    #[cfg_attr(test, schemars(with = "Option<Timestamp>"))]
    pub peer_fin_at: Option<Timestamp>,
    /// From the acknowledgement of our FIN until the peer's FIN.
    pub fin_wait2_us: Option<u64>,
    /// Whether it entered TIME_WAIT.
    pub time_wait: Option<bool>,
    /// How `time_wait` is known.
    pub time_wait_source: Option<TimeWaitSource>,
    /// How FIN_WAIT2 or TIME_WAIT ended on the timewait socket.
    pub outcome: ReleaseOutcome,
}

/// Events or rows lost since the last such record.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LossRecord {
    /// How many.
    pub lost: u64,
    /// Where they were lost.
    #[serde(rename = "where")]
    pub place: LostAt,
}

/// Where events, or rows of output, were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum LostAt {
    Events(LossPlace),
    Rows(RowLoss),
}

/// Why rows of output were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum RowLoss {
    /// The reader was too slow.
    Output,
    /// Too many rows waited for what the filter asks about.
    Filter,
}

/// Sums over an interval, of the connections that pass the filter.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SummaryRecord {
    /// The length of the interval.
    pub interval_us: u64,
    /// Connections established.
    pub opened: u64,
    /// Connections that ended before they were established.
    pub failed: u64,
    /// Established connections that ended.
    pub closed: u64,
    /// Connections open at the end of the interval.
    pub open: u64,
    /// Events lost.
    pub lost: u64,
    /// How many connections got each verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Handshakes whose time is known; the quantiles are of these.
    pub handshakes_measured: u64,
    /// The median, to three digits.
    pub handshake_p50_us: Option<u64>,
    /// The 99th percentile, to three digits.
    pub handshake_p99_us: Option<u64>,
    /// The longest of them.
    pub handshake_max_us: Option<u64>,
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

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn state<S: Serializer>(state: &TcpState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}
