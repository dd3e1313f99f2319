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
pub struct Record {
    pub(super) schema: &'static str,
    /// When, on the events' clock, nanoseconds: the wall clock may be set back.
    #[serde(skip)]
    pub moment_ns: u64,
    #[serde(serialize_with = "rfc3339")]
    pub time: Timestamp,
    #[serde(flatten)]
    pub(super) host: HostFields,
    #[serde(flatten)]
    pub body: RecordBody,
}

/// The part of a record that differs by kind.
#[derive(Clone, Debug, Serialize)]
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
pub(super) struct HostFields {
    pub(super) host: Option<Arc<str>>,
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
pub struct Identity {
    pub id: Id,
    /// Which side opened it; absent for a listener.
    pub role: Option<Role>,
    pub family: Option<IpFamily>,
    pub local_address: Option<Address>,
    pub local_port: Option<u16>,
    pub remote_address: Option<Address>,
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
    /// The process had exited before the connection came in through its listener.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pid_gone: bool,
}

/// A state transition.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
pub struct TransitionRecord {
    #[serde(flatten)]
    pub identity: Identity,
    #[serde(serialize_with = "state")]
    pub from: TcpState,
    #[serde(serialize_with = "state")]
    pub to: TcpState,
    /// How long the state left was held, if its beginning was seen.
    pub in_state_us: Option<u64>,
}

/// How a connection was opened.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecordedHandshake {
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
pub struct HandshakeRecord {
    #[serde(flatten)]
    pub identity: Identity,
    #[serde(flatten)]
    pub handshake: RecordedHandshake,
    /// Smoothed round-trip time; for a passive open only if it is known to be one.
    pub srtt_us: Option<u32>,
}

/// A connection from its beginning to its end.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectionRecord {
    #[serde(flatten)]
    pub identity: Identity,
    /// The first transition.
    #[serde(serialize_with = "rfc3339_option")]
    pub opened_at: Option<Timestamp>,
    /// →ESTABLISHED.
    #[serde(serialize_with = "rfc3339_option")]
    pub established_at: Option<Timestamp>,
    /// →CLOSE; absent if that was lost and the end was noticed later.
    #[serde(serialize_with = "rfc3339_option")]
    pub closed_at: Option<Timestamp>,
    /// →CLOSE was seen; otherwise the kernel was found to have the connection no more.
    pub end_seen: bool,
    #[serde(flatten)]
    pub handshake: RecordedHandshake,
    /// From ESTABLISHED until accept() returned it; 0 when accept() came first.
    pub accept_wait_us: Option<u64>,
    /// From ESTABLISHED until the first FIN, or →CLOSE without one.
    pub established_us: Option<u64>,
    /// How long one direction was closed and the other open.
    pub half_closed_us: Option<u64>,
    /// From the acknowledgement of our FIN until the peer's FIN.
    pub fin_wait2_us: Option<u64>,
    /// From our FIN, after the peer's, until →CLOSE.
    pub last_ack_us: Option<u64>,
    /// From the first transition to →CLOSE.
    pub duration_us: Option<u64>,
    pub closed_by: Option<ClosedBy>,
    /// The state before CLOSE.
    #[serde(serialize_with = "state")]
    pub last_state: TcpState,
    pub verdict: Verdict,
    pub established: bool,
    /// The name of the errno that ended it.
    pub errno: Option<String>,
    pub errno_number: Option<u16>,
    /// Why the kernel sent a RST: its own name for the reason.
    pub reset_reason: Option<String>,
    /// Whether the peer's FIN was received.
    pub peer_fin: Option<bool>,
    /// Whether it entered TIME_WAIT.
    pub time_wait: Option<bool>,
    /// How that is known.
    pub time_wait_source: Option<TimeWaitSource>,
    /// Payload sent, without retransmissions, bytes.
    pub bytes_sent: Option<u64>,
    /// Payload received, bytes.
    pub bytes_received: Option<u64>,
    pub segments_sent: Option<u32>,
    pub segments_received: Option<u32>,
    /// Segments retransmitted.
    pub retransmits: Option<u32>,
    /// Smoothed round-trip time at the end.
    pub srtt_us: Option<u32>,
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
pub struct ReleaseRecord {
    #[serde(flatten)]
    pub identity: Identity,
    /// From our FIN until the peer's.
    pub half_closed_us: Option<u64>,
    #[serde(serialize_with = "rfc3339_option")]
    pub peer_fin_at: Option<Timestamp>,
    /// From the acknowledgement of our FIN until the peer's FIN.
    pub fin_wait2_us: Option<u64>,
    /// Whether it entered TIME_WAIT.
    pub time_wait: Option<bool>,
    /// How that is known.
    pub time_wait_source: Option<TimeWaitSource>,
    /// How FIN_WAIT2 or TIME_WAIT ended on the timewait socket.
    pub outcome: ReleaseOutcome,
}

/// Events or rows lost since the last such record.
#[derive(Clone, Debug, Serialize)]
pub struct LossRecord {
    pub lost: u64,
    #[serde(rename = "where")]
    pub place: LostAt,
}

/// Where events, or rows of output, were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LostAt {
    Events(LossPlace),
    Rows(RowLoss),
}

/// Why rows of output were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
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
pub struct SummaryRecord {
    pub interval_us: u64,
    pub opened: u64,
    pub failed: u64,
    pub closed: u64,
    /// Connections open at the end of the interval.
    pub open: u64,
    pub lost: u64,
    /// How many connections got each verdict.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Handshakes whose time is known; the quantiles are of these.
    pub handshakes_measured: u64,
    /// The median, to three digits.
    pub handshake_p50_us: Option<u64>,
    /// The 99th percentile, to three digits.
    pub handshake_p99_us: Option<u64>,
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
