//! What the tracker counts and holds.

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
    /// Connections first seen unsynchronized: attempts.
    pub attempts: u64,
    /// Attempts that reached a synchronized state.
    pub established: u64,
    /// Connections first seen synchronized.
    pub seeded: u64,
    /// Synchronized connections that ended.
    pub closed: u64,
    /// Attempts that ended unsynchronized.
    pub failed: u64,
    /// Synchronized connections evicted for lack of room.
    pub evicted: u64,
    /// Attempts evicted for lack of room.
    pub evicted_pending: u64,
    /// Listeners refused for lack of room.
    pub listeners_refused: u64,
    /// Connections marked `gap`: an event's old state was not the state held.
    pub gaps: u64,
    /// Impossible transitions.
    pub anomalies: u64,
    /// Transitions of a program's second copy that the first copy had told already.
    pub repeated_transitions: u64,
    /// Resets of a program's second copy that the first copy had told already.
    pub repeated_resets: u64,
    /// Events reported lost.
    pub lost: u64,
    /// Connections not followed after their record for lack of room.
    pub releases_refused: u64,
    /// Established connections whose TIME_WAIT was never seen to begin or to be skipped.
    pub time_wait_unknown: u64,
    /// Connections in TIME_WAIT dropped for lack of room.
    pub time_waits_evicted: u64,
}

/// What the tracker holds, for gauges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub stats: TrackerStats,
    /// Live connections by role and state, every pair that occurs; those that wait for their record
    /// count as CLOSE.
    pub connections: Vec<(Role, TcpState, u64)>,
    /// Connections in CLOSE_WAIT by the service's port, if that is known.
    pub close_wait: BTreeMap<Option<u16>, u64>,
    /// Live synchronized connections, with those that wait for their record.
    pub live: u64,
    /// Live attempts, with those that wait for their record.
    pub pending: u64,
    /// Listening sockets held.
    pub listeners: u64,
    /// The limit on connections.
    pub limit: u64,
    /// Connections followed after their record.
    pub releases: u64,
    /// What the last comparison with the kernel's table found, if there was one.
    pub drift: Option<Drift>,
}

/// A transition that no kernel path makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anomaly {
    pub time: Moment,
    /// The kernel's address of the socket.
    pub socket: u64,
    pub from: TcpState,
    pub to: TcpState,
    /// The state that the tracker held.
    pub held: Option<TcpState>,
}
