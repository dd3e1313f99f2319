//! What is learnt of a connection from its timewait socket, some of it after its record.

use crate::feed::event::{Endpoints, SocketOwner};
use crate::tracker::vocabulary::{Moment, Process, Role};
use crate::tracker::{connection::Connection, listener::Listener, name_table::SocketNames};

/// How it is known whether a connection entered TIME_WAIT, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum TimeWaitSource {
    /// The timewait socket's allocation was seen, or would have been (`inet_twsk_alloc`).
    TwskAlloc,
    /// The kernel's table of sockets.
    SockDiag,
    /// The full socket's flags at →CLOSE: what the kernel was about to do. The allocation can still
    /// fail.
    Flags,
}

impl TimeWaitSource {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whether a connection entered TIME_WAIT, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeWaitEntry {
    pub entered: bool,
    pub source: TimeWaitSource,
}

impl TimeWaitEntry {
    pub(super) const fn entered(source: TimeWaitSource) -> Self {
        Self {
            entered: true,
            source,
        }
    }

    pub(super) const fn not_entered(source: TimeWaitSource) -> Self {
        Self {
            entered: false,
            source,
        }
    }
}

/// How FIN_WAIT2 on a timewait socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum ReleaseOutcome {
    /// The peer's FIN came.
    TimeWait,
    /// The peer sent data or a SYN, and got a RST.
    Refused,
    /// No FIN came within the kernel's longest wait.
    NoFin,
    /// A RST came: the timewait socket is gone, from FIN_WAIT2 or from TIME_WAIT.
    Reset,
    /// A new connection took its place before TIME_WAIT ended.
    Reused,
    /// The socket was gone when it was looked up: ended by a RST, data, or a new connection.
    Gone,
}

impl ReleaseOutcome {
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// The owner of a connection or listener.
#[derive(Clone, Debug)]
pub struct Ownership {
    pub owner: SocketOwner,
    pub named: SocketNames,
    pub process: Option<Process>,
}

impl From<&Connection> for Ownership {
    fn from(connection: &Connection) -> Self {
        Self {
            owner: connection.owner,
            named: connection.named.clone(),
            process: connection.process,
        }
    }
}

impl From<&Listener> for Ownership {
    fn from(listener: &Listener) -> Self {
        Self {
            owner: listener.owner,
            named: listener.named.clone(),
            process: listener.process,
        }
    }
}

/// What was learnt of a connection after its record.
#[derive(Clone, Debug)]
pub struct Release {
    /// The connection's id.
    pub id: u64,
    pub role: Role,
    pub endpoints: Option<Endpoints>,
    pub whose: Ownership,
    pub time: Moment,
    /// When the peer's FIN came, if it came.
    pub peer_fin: Option<Moment>,
    /// How long FIN_WAIT2 lasted, nanoseconds; `None` if its beginning or end was not seen.
    pub fin_wait2_ns: Option<u64>,
    /// From our FIN to the peer's, nanoseconds; `None` if either was not seen.
    pub half_closed_ns: Option<u64>,
    /// `None` if it is not known whether it entered TIME_WAIT.
    pub time_wait: Option<TimeWaitEntry>,
    pub outcome: ReleaseOutcome,
}

impl Release {
    /// Returns the service's port.
    pub fn service_port(&self) -> Option<u16> {
        self.role.service_port(self.endpoints.as_ref())
    }
}
