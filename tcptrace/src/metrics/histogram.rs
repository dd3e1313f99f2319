//! Histograms, counted here and encoded only when scraped.
//!
//! Durations are integers in nanoseconds: a float sum would lose small ones beside a large sum.

/// Handshakes, waits and round trips, nanoseconds. Since Linux 6.5 SYN timeouts are 1, 1, 1, 1, 1,
/// 2, 4 s; before, 1, 2, 4 …: the bounds make both visible.
pub(super) static LATENCY_BOUNDS: [u64; 21] = [
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    3_000_000_000,
    5_000_000_000,
    7_000_000_000,
    15_000_000_000,
    31_000_000_000,
    67_000_000_000,
];

/// Lives of connections, nanoseconds: a millisecond to a day in steps of about 3, with bounds at
/// whole minutes above 5 minutes.
pub(super) static DURATION_BOUNDS: [u64; 17] = [
    1_000_000,
    3_000_000,
    10_000_000,
    30_000_000,
    100_000_000,
    300_000_000,
    1_000_000_000,
    3_000_000_000,
    10_000_000_000,
    30_000_000_000,
    100_000_000_000,
    300_000_000_000,
    900_000_000_000,
    3_600_000_000_000,
    10_800_000_000_000,
    28_800_000_000_000,
    86_400_000_000_000,
];

/// For handshakes, waits and round trips.
pub(super) type LatencyHistogram = Histogram<21>;
/// For lives of connections and of their phases.
pub(super) type DurationHistogram = Histogram<17>;

/// Durations in buckets.
#[derive(Clone, Debug)]
pub(super) struct Histogram<const N: usize> {
    /// Inclusive upper bounds, nanoseconds.
    bounds: &'static [u64; N],
    /// Not cumulative; durations above the last bound are only in `count`.
    buckets: [u64; N],
    count: u64,
    /// Wide enough for any number of days times any number of connections.
    sum_ns: u128,
}

impl<const N: usize> Histogram<N> {
    pub(super) const fn new(bounds: &'static [u64; N]) -> Self {
        Self {
            bounds,
            buckets: [0; N],
            count: 0,
            sum_ns: 0,
        }
    }

    /// How many series it is scraped as: its buckets, +Inf, the sum and the count.
    pub(super) const fn series() -> usize {
        N + 3
    }

    pub(super) fn observe(&mut self, ns: u64) {
        if let Some(at) = self.bounds.iter().position(|&bound| ns <= bound) {
            self.buckets[at] += 1;
        }
        self.count += 1;
        self.sum_ns += u128::from(ns);
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// Returns the sum, seconds.
    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_ns as f64 / 1e9
    }

    /// Returns each upper bound in seconds, and how many durations do not exceed it.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        self.bounds
            .iter()
            .zip(&self.buckets)
            .scan(0, |below, (&bound, &count)| {
                *below += count;
                Some((bound as f64 / 1e9, *below))
            })
    }
}

#[cfg(test)]
#[path = "tests/histogram.rs"]
mod tests;
