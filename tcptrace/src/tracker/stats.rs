//! What the tracker counts and holds, for gauges and counters.

use std::collections::BTreeMap;

use tcptrace_common::TcpState;

use super::{Tracker, connection::Connection};
use crate::tracker::{reconcile::Drift, vocabulary::Role};

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

impl Tracker {
    /// What is held now.
    pub fn snapshot(&self) -> Snapshot {
        let mut cells = [[0_u64; TcpState::ALL.len()]; Role::ALL.len()];
        let mut live = 0;
        let mut pending = 0;
        let mut count = |connection: &Connection, state: TcpState| {
            cells[connection.role.index()][usize::from(state.raw()) - 1] += 1;
            if connection.established {
                live += 1;
            } else {
                pending += 1;
            }
        };
        let mut close_wait = BTreeMap::new();
        for connection in self.store.iter() {
            count(connection, connection.state);
            if connection.state == TcpState::CloseWait {
                *close_wait.entry(connection.service_port()).or_default() += 1;
            }
        }
        for ended in self.ended.iter() {
            count(&ended.connection, TcpState::Close);
        }
        let mut connections = Vec::new();
        for role in Role::ALL {
            for state in TcpState::ALL {
                let n = cells[role.index()][usize::from(state.raw()) - 1];
                if n > 0 {
                    connections.push((role, state, n));
                }
            }
        }
        Snapshot {
            stats: TrackerStats {
                releases_refused: self.releases.refused,
                time_wait_unknown: self.stats.time_wait_unknown + self.releases.unknown,
                time_waits_evicted: self.time_waits.evicted,
                ..self.stats
            },
            connections,
            close_wait,
            live,
            pending,
            listeners: self.listeners.len() as u64,
            limit: self.store.limit() as u64,
            releases: self.releases.len() as u64,
            drift: self.resync.drift(),
        }
    }
}
