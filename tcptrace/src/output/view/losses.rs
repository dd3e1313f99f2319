//! Losses not reported yet, because the output had no room.

use crate::{
    output::record::{Record, Recorder},
    tracker::LossPlace,
};

/// Losses that wait for room in the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PendingLosses {
    /// Events, by [`LossPlace::ALL`].
    events: [u64; LossPlace::ALL.len()],
    pub(super) rows: u64,
    /// Rows that could not wait for the filter.
    pub(super) unjudged: u64,
}

impl PendingLosses {
    pub(super) fn events(&mut self, events: u64, place: LossPlace) {
        let lost = &mut self.events[place as usize];
        *lost = lost.saturating_add(events);
    }

    /// Returns a record for each kind of loss, and starts anew.
    pub fn drain(&mut self, recorder: &Recorder, now_ns: u64) -> Vec<Record> {
        let Self {
            events,
            rows,
            unjudged,
        } = std::mem::take(self);
        let places = LossPlace::ALL.iter().copied().zip(events);
        let mut records: Vec<_> = places
            .filter(|&(_, events)| events > 0)
            .map(|(place, events)| recorder.loss(events, place, now_ns))
            .collect();
        if rows > 0 {
            records.push(recorder.output_loss(rows, now_ns));
        }
        if unjudged > 0 {
            records.push(recorder.filter_loss(unjudged, now_ns));
        }
        records
    }
}
