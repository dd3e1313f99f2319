//! What the tracker counts and holds, for gauges and counters.

use std::collections::BTreeMap;

use tcptrace_common::TcpState;

use super::{
    vocabulary::{Moment, Role},
    walk::Drift,
};

/// Counts since the tracker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackerStats {
    /// Transitions handled.
    pub transitions: u64,
    /// Connections that entered unsynchronized: attempts.
    pub attempts: u64,
    /// Of those, reached a synchronized state.
    pub established: u64,
    /// Connections that entered already synchronized.
    pub seeded: u64,
    /// Synchronized connections that ended.
    pub closed: u64,
    /// Attempts that ended unsynchronized.
    pub failed: u64,
    /// Synchronized connections given up for lack of room.
    pub evicted: u64,
    /// Attempts given up for lack of room.
    pub evicted_pending: u64,
    /// Listeners not held for lack of room.
    pub listeners_refused: u64,
    /// Connections marked `gap`: an event's old state was not the state held.
    pub gaps: u64,
    /// Transitions that no kernel path makes.
    pub anomalies: u64,
    /// Transitions of a program's second copy that repeated what the first had told.
    pub repeated_transitions: u64,
    /// As `repeated_transitions`, of resets.
    pub repeated_resets: u64,
    /// Events reported lost.
    pub lost: u64,
    /// Connections not followed after their record, for lack of room.
    pub releases_refused: u64,
    /// Established connections of which it was never seen whether they entered TIME_WAIT.
    pub time_wait_unknown: u64,
    /// Connections in TIME_WAIT given up for lack of room.
    pub time_waits_evicted: u64,
}

/// What the tracker holds, for gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Counts since the beginning.
    pub stats: TrackerStats,
    /// Live connections by role and state, every pair that occurs; those that wait for their
    /// record are in CLOSE.
    pub connections: Vec<(Role, TcpState, u64)>,
    /// Connections in CLOSE_WAIT by the service's port, where that is known.
    pub close_wait: BTreeMap<Option<u16>, u64>,
    /// Live synchronized connections, those that wait for their record included.
    pub live: u64,
    /// Live attempts, those that wait for their record included.
    pub pending: u64,
    /// Listening sockets held.
    pub listeners: u64,
    /// The bound on connections.
    pub limit: u64,
    /// Connections followed after their record.
    pub releases: u64,
    /// What the last comparison with the kernel's own table found, where there was one.
    pub drift: Option<Drift>,
}

/// A transition that no kernel path makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomaly {
    /// When.
    pub time: Moment,
    /// The kernel's address of the socket.
    pub socket: u64,
    /// The state left.
    pub from: TcpState,
    /// The state entered.
    pub to: TcpState,
    /// The state that was held of it.
    pub held: Option<TcpState>,
}
