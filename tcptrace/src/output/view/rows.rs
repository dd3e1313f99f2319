//! Rows in order of time: a record is settled later than events meanwhile are reported, so each row
//! waits as long as an earlier one may still come.

use std::collections::BTreeMap;

use crate::{output::record::Record, tracker::GRACE_NS};

/// The most rows that wait; past that the earliest is shown early.
const MOST: usize = 1 << 16;

/// Rows that wait for earlier ones.
#[derive(Default)]
pub(super) struct RowQueue {
    /// By their moment, and then in order of arrival. Boxed, for the tree moves them.
    held: BTreeMap<(u64, u64), Box<Record>>,
    count: u64,
}

impl RowQueue {
    pub(super) fn push(&mut self, record: Record) {
        self.count += 1;
        let moment = (record.moment_ns, self.count);
        self.held.insert(moment, Box::new(record));
    }

    /// Returns when the earliest row is due.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let (first, _) = self.held.first_key_value()?;
        Some(first.0.saturating_add(GRACE_NS))
    }

    /// Returns the next row that no earlier one can precede any more: everything before `known_ns`
    /// is known.
    pub(super) fn next(&mut self, known_ns: u64) -> Option<Box<Record>> {
        let is_due = self.due_ns()? <= known_ns;
        (is_due || self.held.len() > MOST)
            .then(|| self.held.pop_first())
            .flatten()
            .map(|(_, record)| record)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        clock::{ClockReading, WallClock},
        host::Host,
        output::record::Recorder,
        tracker::LossPlace,
    };

    const START: u64 = 1 << 40;

    fn recorder() -> Recorder {
        let host = Host {
            name: None,
            boot_id: None,
            run: String::new(),
        };
        let clock = WallClock::new(ClockReading {
            monotonic_ns: START,
            offset_ns: 0,
        });
        Recorder::new(&host, clock, BTreeMap::new())
    }

    proptest! {
        #[test]
        fn rows_within_the_grace_are_in_order(
            lines in prop::collection::vec((0..GRACE_NS, 0..GRACE_NS / 4), 0..200),
        ) {
            let recorder = recorder();
            let mut order = RowQueue::default();
            let mut now_ns = START;
            let mut shown = Vec::new();
            for (late, step) in &lines {
                now_ns += step;
                order.push(recorder.loss(1, LossPlace::Ring, now_ns - late));
                while let Some(record) = order.next(now_ns) {
                    shown.push(record.moment_ns);
                }
                let due = order.due_ns();
                prop_assert!(due.is_none_or(|due| due > now_ns));
            }
            while let Some(record) = order.next(u64::MAX) {
                shown.push(record.moment_ns);
            }
            prop_assert_eq!(shown.len(), lines.len());
            prop_assert!(shown.is_sorted());
        }
    }

    #[test]
    fn lines_of_one_moment_stay_as_they_came_and_the_bound_holds() {
        let recorder = recorder();
        let mut order = RowQueue::default();
        for number in 0..MOST as u64 + 2 {
            order.push(recorder.loss(number, LossPlace::Ring, START));
        }
        let first: Vec<_> = std::iter::from_fn(|| order.next(START)).collect();
        assert_eq!(first.len(), 2);
        assert_eq!(order.held.len(), MOST);
        let numbers: Vec<_> = order.held.keys().map(|(_, number)| *number).collect();
        assert!(numbers.is_sorted());
    }
}
