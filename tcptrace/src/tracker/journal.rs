//! What the tracker reports: the updates not yet returned, the counts, and the ids given out.

use super::{
    connection::Connection,
    stats::{Anomaly, TrackerStats},
    time_wait::release::Release,
    update::Update,
};

/// The tracker's report, written to by each of its parts.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) updates: Vec<Update>,
    pub(super) stats: TrackerStats,
    pub(super) anomaly: Option<Anomaly>,
    /// How many times the tracker has settled.
    pub(super) settled: u64,
    /// `settled` when events were first lost or a connection first evicted. A connection first
    /// seen after that, in the middle of its life, may be newer than the trace.
    pub(super) broken_in: Option<u64>,
    next_id: u64,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self {
            updates: Vec::new(),
            stats: TrackerStats::default(),
            anomaly: None,
            settled: 0,
            broken_in: None,
            next_id: 1,
        }
    }

    pub(super) fn push(&mut self, update: Update) {
        self.updates.push(update);
    }

    /// Adds a release whose record is written already.
    pub(super) fn push_release(&mut self, release: Option<Release>) {
        self.updates.extend(release.map(Update::Released));
    }

    /// Returns an id not given out before, unique among connections and listeners.
    pub(super) fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Marks a connection `gap`, and counts it once.
    pub(super) fn mark_gap(&mut self, connection: &mut Connection) {
        self.stats.gaps += connection.mark_gap();
    }

    /// Events were lost or a connection was evicted.
    pub(super) fn mark_broken(&mut self) {
        self.broken_in.get_or_insert(self.settled);
    }
}
