//! How the tracker is set up.

use crate::feed::item::Witness;

/// How long a connection that is over waits for what may still be said of it, nanoseconds of
/// event time. `tcp_send_reset` follows →CLOSE by microseconds.
pub const GRACE_NS: u64 = 50_000_000;

/// Which resets could have been seen: whether their absence says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetHooks {
    /// `tcp_receive_reset` is attached.
    pub received: bool,
    /// `tcp_send_reset` is attached.
    pub sent: bool,
}

/// What the events can show: which hooks are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Which resets can be seen.
    pub resets: ResetHooks,
    /// sock_ops watches SYNs.
    pub syns: bool,
    /// Allocations of timewait sockets are seen.
    pub timewait: bool,
    /// What comes to timewait sockets is seen.
    pub timewait_process: bool,
    /// The results of connect() are seen where it fails inside the call.
    pub connects: bool,
}

impl Sources {
    /// A hook is among them.
    pub const fn has(self, witness: Witness) -> bool {
        match witness {
            Witness::ResetReceived => self.resets.received,
            Witness::ResetSent => self.resets.sent,
            Witness::Syn => self.syns,
            Witness::Timewait => self.timewait,
            Witness::TimewaitStep => self.timewait_process,
        }
    }
}

/// How the tracker is set up.
#[derive(Clone, Copy, Debug)]
pub struct TrackerConfig {
    /// Connections held at most, those waiting for their record not counted.
    pub max_connections: usize,
    /// Listening sockets held at most.
    pub max_listeners: usize,
    /// Connections followed at most after their record, until the peer's FIN.
    pub max_releases: usize,
    /// Connections in TIME_WAIT whose end is watched for at most; the oldest goes first.
    pub max_time_waits: usize,
    /// What the events can show.
    pub sources: Sources,
    /// Every transition is an update of its own.
    pub transitions: bool,
}

impl Default for TrackerConfig {
    fn default() -> Self {
        Self {
            max_connections: 1 << 18,
            max_listeners: 1 << 16,
            max_releases: 1 << 16,
            max_time_waits: 1 << 14,
            sources: Sources::default(),
            transitions: true,
        }
    }
}
