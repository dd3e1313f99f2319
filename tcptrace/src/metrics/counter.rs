//! The daemon's consumer.

use std::{mem::take, ops::ControlFlow};

use super::count::Metrics;
use crate::{
    clock::ClockReading,
    tracker::{Consumer, Tracker, Update},
    warnings::OncePerMinute,
};

/// Counts updates, and logs losses, at most once a minute.
pub struct Counter {
    pub metrics: Metrics,
    /// Events lost and connections evicted since the last log line.
    lost: u64,
    evicted: u64,
    now_ns: u64,
    warnings: OncePerMinute,
}

impl Counter {
    pub fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            lost: 0,
            evicted: 0,
            now_ns: 0,
            warnings: OncePerMinute::default(),
        }
    }

    /// Logs what was not logged yet.
    pub fn log_losses(&mut self) {
        let (lost, evicted) = (take(&mut self.lost), take(&mut self.evicted));
        if lost > 0 {
            tracing::warn!(
                "{lost} events were lost: connections are missing or their ends are not known \
                 (tcptrace_events_lost_total tells why; a larger --ring-size helps where it is ring_full)"
            );
        }
        if evicted > 0 {
            tracing::warn!(
                "{evicted} connections were evicted: more are open than --max-connections"
            );
        }
    }
}

impl Consumer for Counter {
    fn begin_batch(&mut self, now: ClockReading) {
        self.now_ns = now.monotonic_ns;
    }

    fn update(&mut self, update: &Update) {
        if let Update::Lost { events, .. } = update {
            self.lost += events;
        }
        self.evicted += u64::from(matches!(update, Update::Evicted(_)));
        self.metrics.update(update);
    }

    fn seeded(&mut self, tracker: &Tracker) {
        let before = tracker.listeners().filter(|one| one.since.is_none());
        for listener in before {
            self.metrics
                .add_listening_port(listener.endpoints.local_port);
        }
    }

    fn due_ns(&self) -> Option<u64> {
        (self.lost + self.evicted > 0).then(|| self.warnings.due_ns())
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        if self.lost + self.evicted > 0 && self.warnings.is_allowed(self.now_ns) {
            self.log_losses();
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{feed::item::LossPlace, metrics::MetricsConfig};

    const SECOND: u64 = 1_000_000_000;

    /// Adds a batch at a time, in which so many events were found lost; returns whether that was
    /// logged.
    fn batch(counter: &mut Counter, at_ns: u64, events: u64) -> bool {
        let before = counter.warnings.due_ns();
        counter.begin_batch(ClockReading {
            monotonic_ns: at_ns,
            offset_ns: 0,
        });
        if events > 0 {
            let place = LossPlace::Ring;
            counter.update(&Update::Lost { events, place });
        }
        assert!(counter.end_batch().is_continue());
        counter.warnings.due_ns() != before
    }

    #[test]
    fn a_loss_is_logged_at_once_and_the_next_ones_once_a_minute() {
        let mut counter = Counter::new(Metrics::new(&MetricsConfig::default()));
        assert!(!batch(&mut counter, SECOND, 0));
        assert_eq!(counter.due_ns(), None);
        assert!(batch(&mut counter, 2 * SECOND, 5));
        for second in 3..62 {
            assert!(!batch(&mut counter, second * SECOND, 1), "{second}");
            // The driver must wake up for it.
            assert_eq!(counter.due_ns(), Some(62 * SECOND));
        }
        assert_eq!(counter.lost, 59);
        assert!(batch(&mut counter, 62 * SECOND, 0));
        assert_eq!((counter.lost, counter.due_ns()), (0, None));
        assert!(!batch(&mut counter, 200 * SECOND, 0));
    }
}
