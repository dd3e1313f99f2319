//! The one task that owns the probe and the tracker: ring → decode → tracker → consumer.

use std::{
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use crate::{
    clock::{self, ClockReading},
    decode::decode,
    probe::{Hook, Probe},
    pump::{BATCH, Drain, IDLE, REST},
    tracker::{LossPlace, ResetHooks, Sink, Tracker, TrackerConfig},
};

/// Malformed events said one by one; the rest are only counted.
const COMPLAINTS: u64 = 10;

/// Takes what the tracker says, batch by batch.
pub trait Consumer: Sink {
    /// Events are about to come; `now` is what the clocks say.
    fn begin_batch(&mut self, now: ClockReading);

    /// That was it for now. `Break` ends the trace.
    fn end_batch(&mut self) -> ControlFlow<()>;
}

/// The probe, the tracker and who listens to it.
pub struct Tracer<C> {
    /// The kernel's side.
    pub probe: Probe,
    /// The core.
    pub tracker: Tracker,
    /// Who listens.
    pub consumer: C,
    /// What the ring held that was no event.
    pub malformed: u64,
    lost: u64,
    skipped: u64,
}

impl<C: Consumer> Tracer<C> {
    /// A tracer of what the probe sees.
    pub fn new(probe: Probe, max_connections: usize, consumer: C) -> Self {
        let hooks = ResetHooks {
            received: probe.is_attached(Hook::ReceiveReset),
            sent: probe.is_attached(Hook::SendReset),
        };
        Self {
            probe,
            tracker: Tracker::new(TrackerConfig {
                max_connections,
                hooks,
                ..TrackerConfig::default()
            }),
            consumer,
            malformed: 0,
            lost: 0,
            skipped: 0,
        }
    }
}

impl<C: Consumer> Tracer<C> {
    /// Tells the tracker what the ring had no room for, and what the kernel skipped, since the
    /// last time.
    fn take_losses(&mut self) {
        let lost = self.probe.counters().lost();
        self.tracker
            .on_loss(lost - self.lost, LossPlace::Ring, &mut self.consumer);
        self.lost = lost;
        let skipped = self.probe.transitions_skipped();
        self.tracker.on_loss(
            skipped.saturating_sub(self.skipped),
            LossPlace::Kernel,
            &mut self.consumer,
        );
        self.skipped = skipped;
    }
}

impl<C: Consumer> Drain for Tracer<C> {
    fn ring(&self) -> BorrowedFd<'_> {
        self.probe.as_fd()
    }

    fn drain(&mut self) -> (usize, ControlFlow<()>) {
        self.consumer.begin_batch(ClockReading::now());
        // Before the events: whoever is met among them may have lost its beginning.
        self.take_losses();
        let Self {
            probe,
            tracker,
            consumer,
            malformed,
            ..
        } = self;
        let taken = probe.drain(BATCH, |bytes| match decode(bytes) {
            Ok(event) => tracker.on_event(&event, consumer),
            Err(error) => {
                *malformed += 1;
                if *malformed <= COMPLAINTS {
                    tracing::error!(
                        "an event from the kernel is malformed and counted as lost: {error}"
                    );
                }
                tracker.on_loss(1, LossPlace::Decode, consumer);
            }
        });
        self.take_losses();
        let Self {
            probe,
            tracker,
            consumer,
            ..
        } = self;
        if taken < BATCH {
            // The ring is empty: time itself may be taken for the time of the next event.
            tracker.on_tick(clock::monotonic_ns(), consumer);
        }
        probe.flush_log();
        (taken, consumer.end_batch())
    }

    fn idle(&self) -> Duration {
        self.tracker.next_due_ns().map_or(IDLE, |due| {
            let wait = due.saturating_sub(clock::monotonic_ns());
            IDLE.min(Duration::from_nanos(wait).max(REST))
        })
    }

    fn finish(&mut self) {
        self.consumer.begin_batch(ClockReading::now());
        self.tracker.finish(&mut self.consumer);
        if self.consumer.end_batch().is_break() {
            tracing::debug!("the consumer had enough at the end");
        }
    }
}
