//! The words for what is known of a connection: moment, role, source, completeness.

use std::num::NonZeroU64;

use crate::feed::event::{Endpoints, Task};

/// A moment: CLOCK_MONOTONIC, nanoseconds. Its absence takes no room.
pub type Moment = NonZeroU64;

/// Which side opened the connection, seen from this host.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::IntoStaticStr,
    strum::VariantArray,
    serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// connect() here.
    Active,
    /// listen() here.
    Passive,
    /// Both at once (RFC 9293 §3.5, figure 7).
    Simultaneous,
    /// It was open before we looked, or the event that would tell was lost.
    Unknown,
}

impl Role {
    /// Every value, in order.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// The port that the service is known by: ours for a passive open, the peer's for an active.
    pub(super) fn service_port(self, ends: Option<&Endpoints>) -> Option<u16> {
        let ends = ends?;
        let port = match self {
            Self::Active => ends.remote_port,
            Self::Passive => ends.local_port,
            Self::Simultaneous | Self::Unknown => 0,
        };
        (port != 0).then_some(port)
    }

    /// As printed and as a label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whose FIN (or RST) came first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ClosedBy {
    /// This host's.
    Local,
    /// The peer's.
    Remote,
    /// The FINs crossed.
    Simultaneous,
}

impl ClosedBy {
    /// As printed and as a label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How much of the connection was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize, Default)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// From its first transition on, without a hole.
    #[default]
    Full,
    /// It was there before we looked.
    Seeded,
    /// Events of it were lost.
    Gap,
    /// It was met in mid-life, when events had been lost or connections given up: it may be older
    /// than the trace, or one of those.
    Partial,
}

impl Completeness {
    /// As printed.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How we know whose connection it is, from the strongest to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ProcessSource {
    /// It called connect().
    Connect,
    /// It called accept().
    Accept,
    /// It called listen() on the socket that the connection came in by.
    Listen,
    /// It closed the connection.
    Close,
    /// It is the only one that listens where the connection came in; that it came in by that
    /// listener is not proven.
    Address,
    /// It holds the socket, and of all who do it began first: found in /proc, for a socket that
    /// was there before.
    Proc,
}

impl ProcessSource {
    /// As printed.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The thread group, in the initial pid namespace.
    pub pid: u32,
    /// NUL-padded.
    pub comm: [u8; 16],
    /// How we know.
    pub source: ProcessSource,
    /// It was over already, as the process of a listener that others still hold.
    pub gone: bool,
}

impl Process {
    /// The task of an event, unless it is the idle task or another one of the kernel's own: those own
    /// nothing.
    pub(super) fn new(task: &Task, source: ProcessSource) -> Option<Self> {
        (task.pid != 0 && !task.kernel).then_some(Self {
            pid: task.pid,
            comm: task.comm,
            source,
            gone: false,
        })
    }

    pub(super) const fn by(self, source: ProcessSource) -> Self {
        Self { source, ..self }
    }

    /// The name, with what is not UTF-8 replaced.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.name_bytes()).into_owned()
    }

    /// The name as the kernel has it.
    pub fn name_bytes(&self) -> &[u8] {
        let end = self.comm.iter().position(|&byte| byte == 0);
        &self.comm[..end.unwrap_or(self.comm.len())]
    }
}

/// Where a handshake's time comes from.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray, serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum HandshakeSource {
    /// SYN_SENT→ESTABLISHED: connect() to the SYN-ACK.
    SynSent,
    /// The first SYN-ACK, by the kernel's own time stamp, to its ACK.
    Synack,
    /// The SYN, as sock_ops saw it, to the SYN-ACK's ACK.
    SockOps,
    /// The kernel's first sample of the round trip, where it is that of the handshake.
    Srtt,
}

impl HandshakeSource {
    /// Every value, in order.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As printed and as a label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Which socket an event speaks of, and when.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) socket: u64,
    pub(super) cookie: Option<u64>,
    pub(super) time: Moment,
}
