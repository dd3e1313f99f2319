//! The one task that owns the probe and the tracker: ring → decode → tracker → consumer.

use std::{
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use crate::{
    clock::{self, ClockReading},
    decode::decode,
    lookups::Lookups,
    probe::{Hook, Probe, Source},
    pump::{BATCH, Drain, IDLE, REST},
    survey::{self, Survey},
    tracker::{LossPlace, ResetHooks, Sink, Sources, Tracker, TrackerConfig},
};

/// Malformed events said one by one; the rest are only counted.
const COMPLAINTS: u64 = 10;

/// What the tracker can rely on, by how each hook is attached.
#[must_use]
pub fn sources(attached: impl Fn(Hook) -> Option<Source>) -> Sources {
    Sources {
        resets: ResetHooks {
            received: attached(Hook::ReceiveReset).is_some(),
            sent: attached(Hook::SendReset).is_some(),
        },
        syns: attached(Hook::CreateChild) == Some(Source::SockOps),
        timewait: attached(Hook::Timewait).is_some(),
        timewait_process: attached(Hook::TimewaitProcess).is_some(),
    }
}

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
    survey: Survey,
    lookups: Lookups,
    lost: u64,
    skipped: u64,
}

impl<C: Consumer> Tracer<C> {
    /// A tracer of what the probe sees, which compares with the kernel's own list of sockets at
    /// the start and then every `resync`, if that is wanted.
    pub fn new(
        probe: Probe,
        max_connections: usize,
        resync: Option<Duration>,
        consumer: C,
    ) -> Self {
        let sources = sources(|hook| probe.source(hook));
        Self {
            survey: Survey::new(&probe, resync),
            lookups: Lookups::default(),
            probe,
            tracker: Tracker::new(TrackerConfig {
                max_connections,
                sources,
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

impl<C: Consumer> Tracer<C> {
    /// Goes on with the comparison with the kernel's own list of sockets.
    fn compare(&mut self, emptied: bool) {
        if self.probe.is_detached() {
            return;
        }
        let now = clock::monotonic_ns();
        let lost = self.lost + self.skipped;
        match self.survey.poll(&mut self.probe, now, emptied, lost) {
            Some(survey::Step::Begins) => self.tracker.begin_walk(now),
            Some(survey::Step::Ends(end)) => {
                self.tracker.end_walk(now, &end, &mut self.consumer);
            }
            None => {}
        }
    }

    /// Asks the kernel's table about timewait sockets that tell nothing of themselves.
    fn look_up(&mut self) {
        let Self {
            lookups,
            tracker,
            consumer,
            ..
        } = self;
        lookups.ask(clock::monotonic_ns(), || {
            tracker.next_lookup(clock::monotonic_ns())
        });
        lookups.answers(|answer| {
            tracker.on_lookup(answer.id, answer.time_ns, answer.looked, consumer);
        });
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
        if taken < BATCH {
            // The ring is empty: time itself may be taken for the time of the next event.
            self.tracker
                .on_tick(clock::monotonic_ns(), &mut self.consumer);
        }
        self.compare(taken < BATCH);
        self.look_up();
        self.probe.flush_log();
        (taken, self.consumer.end_batch())
    }

    fn detach(&mut self) {
        self.probe.detach();
    }

    fn most_waiting(&self) -> usize {
        self.probe.most_waiting()
    }

    fn idle(&self) -> Duration {
        if self.survey.is_walking() {
            return REST;
        }
        let due = [self.tracker.next_due_ns(), self.survey.due_ns()];
        due.into_iter().flatten().min().map_or(IDLE, |due| {
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
