//! Sums over an interval: how many connections opened, failed and closed, and how long handshakes
//! took.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{output::record::SummaryRecord, tracker::Ended};

/// Longer handshakes count as this long in the quantiles: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// The sums until the next summary.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// When the interval began, nanoseconds of the events' clock.
    since_ns: u64,
    opened: u64,
    failed: u64,
    closed: u64,
    verdicts: BTreeMap<&'static str, u64>,
    /// Microseconds, to three digits; created with the first handshake.
    handshakes: Option<Histogram<u64>>,
    longest_us: Option<u64>,
    pub(super) lost: u64,
}

impl Tally {
    pub(super) fn since(now_ns: u64) -> Self {
        Self {
            since_ns: now_ns,
            ..Self::default()
        }
    }

    /// A connection was established; its handshake took this long, if that is known.
    pub(super) fn open(&mut self, handshake_us: Option<u64>) {
        self.opened += 1;
        let Some(micros) = handshake_us else {
            return;
        };
        self.longest_us = self.longest_us.max(Some(micros));
        if self.handshakes.is_none() {
            self.handshakes = Histogram::new_with_bounds(1, LONGEST_US, 3).ok();
        }
        if let Some(histogram) = &mut self.handshakes {
            histogram.saturating_record(micros);
        }
    }

    pub(super) fn end(&mut self, ended: &Ended) {
        if ended.connection.established {
            self.closed += 1;
        } else {
            self.failed += 1;
        }
        *self.verdicts.entry(ended.verdict.name()).or_default() += 1;
    }

    /// Whether nothing happened and no time passed.
    pub(super) fn is_empty(&self, now_ns: u64) -> bool {
        let happened = self.opened + self.failed + self.closed + self.lost;
        happened == 0 && now_ns <= self.since_ns
    }

    /// Returns the sums at `now_ns`, when so many connections are open.
    pub(super) fn summary(&self, now_ns: u64, open: u64) -> SummaryRecord {
        let handshakes = self.handshakes.as_ref();
        // A bucket's value stands for all that share its first three digits.
        let quantile = |quantile| {
            Some(
                handshakes?
                    .value_at_quantile(quantile)
                    .min(self.longest_us?),
            )
        };
        SummaryRecord {
            interval_us: now_ns.saturating_sub(self.since_ns) / 1_000,
            opened: self.opened,
            failed: self.failed,
            closed: self.closed,
            open,
            lost: self.lost,
            verdicts: self.verdicts.clone(),
            handshakes_measured: handshakes.map_or(0, Histogram::len),
            handshake_p50_us: quantile(0.5),
            handshake_p99_us: quantile(0.99),
            handshake_max_us: self.longest_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_what_was_measured_and_else_absent() {
        let mut tally = Tally::since(1_000_000_000);
        tally.open(None);
        let summary = tally.summary(3_500_000_000, 7);
        assert_eq!((summary.interval_us, summary.opened), (2_500_000, 1));
        assert_eq!((summary.open, summary.handshakes_measured), (7, 0));
        assert_eq!(summary.handshake_p50_us, None);
        assert_eq!(summary.handshake_max_us, None);
        for micros in 1..=1_000 {
            tally.open(Some(micros));
        }
        tally.open(Some(30_000_007));
        let summary = tally.summary(3_500_000_000, 7);
        assert_eq!(
            (summary.opened, summary.handshakes_measured),
            (1_002, 1_001)
        );
        assert_eq!(summary.handshake_p50_us, Some(501));
        assert_eq!(summary.handshake_p99_us, Some(991));
        assert_eq!(summary.handshake_max_us, Some(30_000_007));
    }
}
