//! The vocabulary of a connection: moment, role, sources, completeness.

use std::num::NonZeroU64;

use crate::feed::event::{Endpoints, Task};

/// A moment: CLOCK_MONOTONIC, nanoseconds. `Option<Moment>` is no larger.
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Role {
    /// connect() here.
    Active,
    /// listen() here.
    Passive,
    /// Both at once (RFC 9293 §3.5, figure 7).
    Simultaneous,
    /// The connection was open before the trace, or the event that would tell was lost.
    Unknown,
}

impl Role {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the service's port: the local one for a passive open, the peer's for an active one.
    pub(super) fn service_port(self, ends: Option<&Endpoints>) -> Option<u16> {
        let ends = ends?;
        let port = match self {
            Self::Active => ends.remote_port,
            Self::Passive => ends.local_port,
            Self::Simultaneous | Self::Unknown => 0,
        };
        (port != 0).then_some(port)
    }

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whose FIN or RST came first.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::IntoStaticStr, serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ClosedBy {
    /// This host.
    Local,
    /// The peer.
    Remote,
    /// The FINs crossed.
    Simultaneous,
}

impl ClosedBy {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize, Default)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Completeness {
    /// Every transition was seen.
    #[default]
    Full,
    /// The connection existed before the trace.
    Seeded,
    /// Events of it were lost.
    Gap,
    /// The connection was first seen after its handshake, when events had been lost or connections
    /// evicted: it may be older than the trace, or one of those.
    Partial,
}

impl Completeness {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How a connection's process is known, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ProcessSource {
    /// It called connect().
    Connect,
    /// It called accept().
    Accept,
    /// It called listen() on the socket through which the connection came in.
    Listen,
    /// It closed the connection.
    Close,
    /// It is the only process that listens where the connection came in; that it was this listener
    /// is not proven.
    Address,
    /// It holds the socket, and started first of all that do: found in /proc, for a socket from
    /// before the trace.
    Proc,
}

impl ProcessSource {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The process of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The thread group id, in the initial pid namespace.
    pub pid: u32,
    /// NUL-padded.
    pub comm: [u8; 16],
    pub source: ProcessSource,
    /// The process has exited, while others still hold its listener.
    pub gone: bool,
}

impl Process {
    /// Returns the task of an event, except the idle task and kernel threads: those own nothing.
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

    /// Returns the name, with invalid UTF-8 replaced.
    pub fn name(&self) -> String {
        String::from_utf8_lossy(self.name_bytes()).into_owned()
    }

    /// Returns the name as the kernel has it.
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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum HandshakeSource {
    /// SYN_SENT→ESTABLISHED: from connect() to the SYN-ACK.
    SynSent,
    /// From the first SYN-ACK, by the kernel's own timestamp, to its ACK.
    Synack,
    /// From the SYN, as sock_ops saw it, to the ACK of the SYN-ACK.
    SockOps,
    /// The kernel's first round-trip sample, if it is the handshake's.
    Srtt,
}

impl HandshakeSource {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Which socket an event is about, and when.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub(super) socket: u64,
    pub(super) cookie: Option<u64>,
    pub(super) time: Moment,
}
