//! What is learnt of a connection on its timewait socket, some of it after its record.

use crate::feed::event::{Endpoints, SocketOwner};
use crate::tracker::vocabulary::{Moment, Process, Role};
use crate::tracker::{connection::Connection, listener::Listener, names::Named};

/// How it is known whether a connection entered TIME_WAIT, from the strongest to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum TimeWaitSource {
    /// The timewait socket's allocation was seen, or would have been (`inet_twsk_alloc`).
    TwskAlloc,
    /// The kernel's table of sockets told.
    SockDiag,
    /// The full socket's last flags: what the kernel meant to do. The allocation can fail.
    Flags,
}

impl TimeWaitSource {
    /// As printed.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How FIN_WAIT2 on a timewait socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, serde::Serialize)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The peer's FIN came.
    TimeWait,
    /// The peer sent data, or a SYN, and got a RST.
    Refused,
    /// No FIN came within the longest time that the kernel waits.
    NoFin,
    /// A RST came: the timewait socket is gone, from FIN_WAIT2 or from TIME_WAIT.
    Reset,
    /// A new connection took its place before TIME_WAIT was over.
    Reused,
    /// The socket was gone when it was looked up: a RST, data, or a new connection ended it.
    Gone,
}

impl Outcome {
    /// As printed.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Whose a connection or a listener is.
#[derive(Clone, Debug)]
pub struct Whose {
    /// Its user and its cgroup.
    pub owner: SocketOwner,
    /// What of it is known by name.
    pub named: Named,
    /// Its process.
    pub process: Option<Process>,
}

impl From<&Connection> for Whose {
    fn from(connection: &Connection) -> Self {
        Self {
            owner: connection.owner,
            named: connection.named.clone(),
            process: connection.process,
        }
    }
}

impl From<&Listener> for Whose {
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
    /// The connection's.
    pub id: u64,
    /// The connection's.
    pub role: Role,
    /// The connection's.
    pub endpoints: Option<Endpoints>,
    /// The connection's.
    pub whose: Whose,
    /// When it was learnt.
    pub time: Moment,
    /// The peer's FIN came.
    pub peer_fin: Option<Moment>,
    /// How long FIN_WAIT2 lasted, nanoseconds; `None` when its beginning or end was not seen.
    pub fin_wait2_ns: Option<u64>,
    /// From our FIN to the peer's, nanoseconds; `None` when either was not seen.
    pub half_closed_ns: Option<u64>,
    /// It entered TIME_WAIT, or did not, and how we know.
    pub time_wait: Option<(bool, TimeWaitSource)>,
    /// What happened.
    pub outcome: Outcome,
}

impl Release {
    /// The port that the service is known by, as a connection has it.
    pub fn service_port(&self) -> Option<u16> {
        self.role.service_port(self.endpoints.as_ref())
    }
}
