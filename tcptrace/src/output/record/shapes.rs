//! One shape for each kind of record.

use std::{collections::BTreeMap, fmt, num::NonZeroU32, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_with::skip_serializing_none;
use tcptrace_common::TcpState;

use super::address::{Address, Family};
use crate::tracker::{
    ClosedBy, Completeness, HandshakeSource, LossPlace, Outcome, ProcessSource, Role,
    TimeWaitSource, Verdict,
};

/// The version of the records' shape.
pub const SCHEMA: &str = "tcptrace/1";

/// One line of output.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    pub(super) schema: &'static str,
    /// When, on the events' clock: the wall's may be set back.
    #[serde(skip)]
    pub moment_ns: u64,
    /// When.
    #[serde(serialize_with = "rfc3339")]
    pub time: Timestamp,
    #[serde(flatten)]
    pub(super) host: HostFields,
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
    /// More was learnt of a connection that is over.
    Release(Box<ReleaseRecord>),
    /// Something was lost.
    Loss(LossRecord),
    /// Sums over a while.
    Summary(Box<SummaryRecord>),
}

impl RecordBody {
    /// Whose it is, if it is of one connection or listener.
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
    /// This start of the program: what ended between two of them has no record.
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

/// Where a connection runs between, and whose it is.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
pub struct Identity {
    /// Which connection.
    pub id: Id,
    /// Who opened it; absent for a listener.
    pub role: Option<Role>,
    /// `ipv4` or `ipv6`; an IPv4-mapped address is IPv4.
    pub family: Option<Family>,
    /// This side's address.
    pub local_address: Option<Address>,
    /// This side's port.
    pub local_port: Option<u16>,
    /// The other side's address.
    pub remote_address: Option<Address>,
    /// The other side's port.
    pub remote_port: Option<u16>,
    /// The network namespace's inode number.
    pub netns: Option<u32>,
    /// Its cookie, which no other namespace of this boot has: the number is given out again.
    pub netns_cookie: Option<NonZeroU32>,
    /// The interface that the socket is bound to, as to a link-local address: its name, or its number
    /// where the name is not known.
    pub interface: Option<Arc<str>>,
    /// The socket's user.
    pub uid: Option<u32>,
    /// The id of the socket's cgroup.
    pub cgroup_id: Option<u64>,
    /// That cgroup's path in the v2 hierarchy.
    pub cgroup: Option<Box<str>>,
    /// The container that the path tells.
    pub container_id: Option<Box<str>>,
    /// The Kubernetes pod that it tells.
    pub pod_uid: Option<Box<str>>,
    /// The systemd unit that it tells.
    pub unit: Option<Box<str>>,
    /// The process, in the initial pid namespace.
    pub pid: Option<u32>,
    /// Its name.
    pub comm: Option<String>,
    /// How we know the process.
    pub pid_source: Option<ProcessSource>,
    /// The process was over already, when the connection came in by its listener.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pid_gone: bool,
}

/// A state transition.
#[skip_serializing_none]
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
    pub in_state_us: Option<u64>,
}

/// How a connection was opened.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
pub struct HandshakeFields {
    /// How long the handshake took.
    pub handshake_us: Option<u64>,
    /// Where that value comes from.
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
    /// Whose.
    #[serde(flatten)]
    pub identity: Identity,
    /// How it was opened.
    #[serde(flatten)]
    pub handshake: HandshakeFields,
    /// Smoothed round trip; for a passive open only where it is known to be one.
    pub srtt_us: Option<u32>,
}

/// A connection's whole life.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectionRecord {
    /// Whose.
    #[serde(flatten)]
    pub identity: Identity,
    /// Its first transition.
    #[serde(serialize_with = "rfc3339_option")]
    pub opened_at: Option<Timestamp>,
    /// →ESTABLISHED.
    #[serde(serialize_with = "rfc3339_option")]
    pub established_at: Option<Timestamp>,
    /// →CLOSE; absent when that was lost, and only the next use of the socket told of the end.
    #[serde(serialize_with = "rfc3339_option")]
    pub closed_at: Option<Timestamp>,
    /// Its end was seen; else it was found out that the kernel has it no more.
    pub end_seen: bool,
    /// How it was opened.
    #[serde(flatten)]
    pub handshake: HandshakeFields,
    /// ESTABLISHED until accept() returned it; 0 when accept() came first.
    pub accept_wait_us: Option<u64>,
    /// ESTABLISHED until the first FIN, or →CLOSE without one.
    pub established_us: Option<u64>,
    /// One direction closed and the other open.
    pub half_closed_us: Option<u64>,
    /// The acknowledgement of our FIN until the peer's FIN.
    pub fin_wait2_us: Option<u64>,
    /// Our FIN, after the peer's, until →CLOSE.
    pub last_ack_us: Option<u64>,
    /// The first transition to →CLOSE.
    pub duration_us: Option<u64>,
    /// Whose FIN came first.
    pub closed_by: Option<ClosedBy>,
    /// The state left for CLOSE.
    #[serde(serialize_with = "state")]
    pub last_state: TcpState,
    /// Why it ended.
    pub verdict: Verdict,
    /// It had been established.
    pub established: bool,
    /// The socket's error, by name.
    pub errno: Option<String>,
    /// The socket's error, by number.
    pub errno_number: Option<u16>,
    /// Why the kernel sent a RST, in its own words.
    pub reset_reason: Option<String>,
    /// The peer's FIN was received.
    pub peer_fin: Option<bool>,
    /// It entered TIME_WAIT.
    pub time_wait: Option<bool>,
    /// How we know.
    pub time_wait_source: Option<TimeWaitSource>,
    /// Payload sent, without retransmissions.
    pub bytes_sent: Option<u64>,
    /// Payload received.
    pub bytes_received: Option<u64>,
    /// Segments sent.
    pub segments_sent: Option<u32>,
    /// Segments received.
    pub segments_received: Option<u32>,
    /// Segments sent again.
    pub retransmits: Option<u32>,
    /// Smoothed round trip at the end.
    pub srtt_us: Option<u32>,
    /// How much of it was seen.
    pub completeness: Completeness,
}

impl ConnectionRecord {
    /// Who opened it.
    pub fn role(&self) -> Role {
        self.identity.role.unwrap_or(Role::Unknown)
    }
}

/// What was learnt after a connection's record, which is final.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
pub struct ReleaseRecord {
    /// Whose.
    #[serde(flatten)]
    pub identity: Identity,
    /// Our FIN until the peer's.
    pub half_closed_us: Option<u64>,
    /// When the peer's FIN came.
    #[serde(serialize_with = "rfc3339_option")]
    pub peer_fin_at: Option<Timestamp>,
    /// The acknowledgement of our FIN until the peer's FIN.
    pub fin_wait2_us: Option<u64>,
    /// It entered TIME_WAIT.
    pub time_wait: Option<bool>,
    /// How we know.
    pub time_wait_source: Option<TimeWaitSource>,
    /// How FIN_WAIT2 or TIME_WAIT ended on the timewait socket.
    pub outcome: Outcome,
}

/// Something was lost since the last one.
#[derive(Clone, Debug, Serialize)]
pub struct LossRecord {
    /// How many events, or rows of output.
    pub lost: u64,
    /// Where.
    #[serde(rename = "where")]
    pub place: LostAt,
}

/// Where events, or rows of output, were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum LostAt {
    /// Events.
    Events(LossPlace),
    /// Rows.
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

/// Sums over a while, of the connections that pass the filter.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize)]
pub struct SummaryRecord {
    /// Over how long.
    pub interval_us: u64,
    /// Connections established.
    pub opened: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Established connections that ended.
    pub closed: u64,
    /// Connections open at its end.
    pub open: u64,
    /// Events lost.
    pub lost: u64,
    /// How often each verdict was given.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// Handshakes of which the time is known; those below are of them.
    pub handshakes_measured: u64,
    /// Half took no longer; to three digits.
    pub handshake_p50_us: Option<u64>,
    /// 99 of 100 took no longer; to three digits.
    pub handshake_p99_us: Option<u64>,
    /// The longest.
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
