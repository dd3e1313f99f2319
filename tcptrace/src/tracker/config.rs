//! How the tracker is set up.

use crate::feed::item::EvidenceHook;

/// How long an ended connection waits for late events before its record is settled, nanoseconds of
/// event time. `tcp_send_reset` follows →CLOSE by microseconds.
pub const GRACE_NS: u64 = 50_000_000;

/// Which resets the hooks can see: only then is their absence evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetHooks {
    /// `tcp_receive_reset` is attached.
    pub received: bool,
    /// `tcp_send_reset` is attached.
    pub sent: bool,
}

/// Which hooks are attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    pub resets: ResetHooks,
    /// sock_ops sees SYNs.
    pub syns: bool,
    /// `inet_twsk_alloc` is attached.
    pub timewait: bool,
    /// `tcp_timewait_state_process` is attached.
    pub timewait_process: bool,
    /// Results of connect() calls that fail inside the call are seen.
    pub connects: bool,
}

impl Sources {
    /// Whether the hook is attached.
    pub const fn has(self, witness: EvidenceHook) -> bool {
        match witness {
            EvidenceHook::ResetReceived => self.resets.received,
            EvidenceHook::ResetSent => self.resets.sent,
            EvidenceHook::Syn => self.syns,
            EvidenceHook::Timewait => self.timewait,
            EvidenceHook::TimewaitStep => self.timewait_process,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct TrackerConfig {
    /// The most connections held, without those that wait for their record.
    pub max_connections: usize,
    /// The most listening sockets held.
    pub max_listeners: usize,
    /// The most connections followed after their record, until the peer's FIN.
    pub max_releases: usize,
    /// The most connections followed in TIME_WAIT; past that the oldest is dropped.
    pub max_time_waits: usize,
    pub sources: Sources,
    /// Reports every transition as an update.
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
