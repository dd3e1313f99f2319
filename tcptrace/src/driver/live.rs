//! The one task that owns the probe and the tracker: ring → decode → tracker → consumer.
//! [`replay`](super::replay) does the same from a file.

use std::{
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use tcptrace_common::TcpState;
use tokio::sync::watch;

use crate::{
    clock::{self, ClockReading},
    driver::pump::{BATCH, Drain, IDLE, REST},
    feed::decode::decode,
    host::name_finder::NameFinder,
    privileges,
    probe::{Hook, Losses, Probe, Source},
    sockets::{self, Survey, lookups::Lookups, owners},
    tracker::{
        Consumer, EvidenceHook, Item, LossPlace, ResetHooks, Sources, Tracker, TrackerConfig,
    },
};

/// The longest time that the first walk waits for the search for owners.
const OWNERS_FIRST_NS: u64 = 250_000_000;
/// Why the connections from before the trace are not known yet.
const SEARCHING: &str =
    "it looks for the processes that hold the sockets which were there before it";
const LISTING: &str = "it lists the sockets that were there before it";
const LISTING_AGAIN: &str = "not all sockets that were there before it could be listed: it tries again every 5 seconds, and its log says why";
/// How often impossible transitions are logged.
const ANOMALIES_NS: u64 = 60_000_000_000;
/// How many malformed events are logged one by one; the rest are only counted.
pub const COMPLAINTS: u64 = 10;

/// Returns the evidence that the tracker can rely on, by how each hook is attached.
pub fn sources(attached: impl Fn(Hook) -> Option<Source>) -> Sources {
    Sources {
        resets: ResetHooks {
            received: attached(Hook::ReceiveReset).is_some(),
            sent: attached(Hook::SendReset).is_some(),
        },
        syns: attached(Hook::CreateChild) == Some(Source::SockOps),
        timewait: attached(Hook::Timewait).is_some(),
        timewait_process: attached(Hook::TimewaitProcess).is_some(),
        connects: attached(Hook::Connect).is_some(),
    }
}

/// The probe, the tracker and its consumer.
pub struct Tracer<C> {
    pub probe: Probe,
    pub tracker: Tracker,
    pub consumer: C,
    /// Events of the ring that could not be decoded.
    pub malformed: u64,
    /// Whether the connections from before the trace are known, as far as this kernel allows, or
    /// why not yet.
    pub seeded: watch::Sender<Result<(), &'static str>>,
    survey: Survey,
    owners: owners::OwnerSearch,
    /// Until then the first walk waits for the search for owners, so that sockets are named when
    /// found. On a large host they are named a little later.
    walk_from_ns: u64,
    lookups: Lookups,
    names: NameFinder,
    lost: Losses,
    /// How many impossible transitions were logged, and when last.
    told: (u64, u64),
}

impl<C: Consumer> Tracer<C> {
    /// A tracer of the probe's events. It tells `tracker` what the hooks can see, and compares with
    /// the kernel's list of sockets at the start and then every `resync`, if given.
    pub fn new(
        probe: Probe,
        tracker: TrackerConfig,
        resync: Option<Duration>,
        consumer: C,
    ) -> Self {
        let sources = sources(|hook| probe.source(hook));
        let seeded = !probe.is_attached(Hook::Sockets);
        let mut owners = owners::OwnerSearch::default();
        let now = clock::monotonic_ns();
        if !seeded {
            owners.begin(now);
        }
        Self {
            seeded: watch::Sender::new(if seeded { Ok(()) } else { Err(SEARCHING) }),
            owners,
            walk_from_ns: now.saturating_add(OWNERS_FIRST_NS),
            survey: Survey::new(&probe, resync),
            lookups: Lookups::default(),
            names: NameFinder::default(),
            probe,
            tracker: Tracker::new(TrackerConfig { sources, ..tracker }),
            consumer,
            malformed: 0,
            lost: Losses::default(),
            told: (0, 0),
        }
    }
}

/// Passes an item to the tracker, and its updates to the consumer.
pub fn feed(tracker: &mut Tracker, consumer: &mut impl Consumer, item: &Item) {
    for update in tracker.apply(item) {
        consumer.update(&update);
    }
    if let Item::Time(known_ns) = item {
        consumer.settled(*known_ns, tracker);
    }
}

impl<C: Consumer> Tracer<C> {
    fn feed(&mut self, item: &Item) {
        feed(&mut self.tracker, &mut self.consumer, item);
    }

    /// Passes on what the ring had no room for, and what the kernel skipped, since the last time.
    fn feed_losses(&mut self) {
        let stats = self.tracker.stats();
        let repeated = [stats.repeated_transitions, stats.repeated_resets];
        let lost = self.probe.losses(repeated);
        for (events, place, kind) in lost.since(&self.lost) {
            self.feed(&Item::Loss {
                events,
                place,
                kind: Some(kind),
            });
        }
        self.lost = lost;
    }

    pub const fn losses(&self) -> &Losses {
        &self.lost
    }

    /// Logs impossible transitions, once a minute, with details of the last one.
    fn tell_anomalies(&mut self, now_ns: u64) {
        let (told, told_ns) = self.told;
        let count = self.tracker.stats().anomalies;
        if count == told || (told > 0 && now_ns.saturating_sub(told_ns) < ANOMALIES_NS) {
            return;
        }
        self.told = (count, now_ns);
        if let Some(last) = self.tracker.last_anomaly() {
            tracing::warn!(
                "{} transitions that no kernel path makes; the last one: {} to {} of socket {:#x} at {} ns, held as {}; {} events lost so far",
                count - told,
                last.from.name(),
                last.to.name(),
                last.socket,
                last.time,
                last.held.map_or("unknown", TcpState::name),
                self.lost.total(),
            );
        }
    }

    /// Continues the comparison with the kernel's list of sockets.
    fn compare(&mut self, emptied: bool) {
        if !self.probe.traces() {
            return;
        }
        if let Some(found) = self.owners.poll() {
            self.tracker.learn_owners(found);
            self.watch_named();
        }
        let now = clock::monotonic_ns();
        if self.owners.is_under_way() && now < self.walk_from_ns {
            return;
        }
        let moment = sockets::WalkConditions {
            now_ns: now,
            emptied,
            // Only these leave a connection behind, or unknown.
            lost: self.probe.lost_transitions() + self.lost.skipped[0] + self.malformed,
            lost_sockets: self.probe.lost_sockets(),
            uncompared: self.tracker.has_uncompared(),
        };
        match self.survey.poll(&mut self.probe, moment) {
            Some(sockets::WalkStep::Begins { listing }) => {
                self.seeded.send_if_modified(|seeded| {
                    let begins = *seeded == Err(SEARCHING);
                    if begins {
                        *seeded = Err(LISTING);
                    }
                    begins
                });
                self.tracker.begin_walk(now, listing);
            }
            Some(sockets::WalkStep::Ends(end, interfaces)) => {
                let Self {
                    names,
                    tracker,
                    consumer,
                    ..
                } = self;
                for name in interfaces {
                    names.add(name, |name| feed(tracker, consumer, &Item::Name(name)));
                }
                let unknown = self.seeded.borrow().is_err();
                if unknown {
                    self.seeded.send_modify(|seeded| {
                        *seeded = if end.complete {
                            Ok(())
                        } else {
                            Err(LISTING_AGAIN)
                        };
                    });
                }
                for update in self.tracker.end_walk(now, &end) {
                    self.consumer.update(&update);
                }
                if unknown && end.complete {
                    self.consumer.seeded(&self.tracker);
                }
                if !end.held && self.tracker.has_uncompared() {
                    self.survey.retry_soon(now);
                }
                self.watch_named();
                if self.tracker.has_unowned() {
                    self.owners.begin(now);
                }
            }
            None => {}
        }
    }

    fn watch_named(&mut self) {
        for pid in self.tracker.take_named() {
            self.probe.watch_process(pid);
        }
    }

    /// Looks up timewait sockets, which send no events, in the kernel's table.
    fn look_up(&mut self) {
        let Self {
            lookups,
            tracker,
            consumer,
            ..
        } = self;
        lookups.send_due(clock::monotonic_ns(), || {
            tracker.next_lookup(clock::monotonic_ns())
        });
        lookups.drain(|answer| {
            if let Some(update) = tracker.on_lookup(answer.id, answer.time_ns, answer.looked) {
                consumer.update(&update);
            }
        });
    }
}

impl<C: Consumer> Drain for Tracer<C> {
    fn ring(&self) -> BorrowedFd<'_> {
        self.probe.as_fd()
    }

    fn drain(&mut self) -> (usize, ControlFlow<()>) {
        let before = ClockReading::now();
        self.consumer.begin_batch(before);
        let Self {
            probe,
            tracker,
            consumer,
            malformed,
            names,
            ..
        } = self;
        let mut last_ns = 0;
        let taken = probe.drain(BATCH, |bytes| {
            if names.add_event(bytes) {
                return;
            }
            let item = match decode(bytes) {
                Ok(event) => {
                    last_ns = event.time_ns;
                    names.find(event.body.numbers(), |name| {
                        feed(tracker, consumer, &Item::Name(name));
                    });
                    Item::Event(event)
                }
                Err(error) => {
                    *malformed += 1;
                    if *malformed <= COMPLAINTS {
                        tracing::error!(
                            "an event from the kernel is malformed and counted as lost: {error}"
                        );
                    }
                    Item::Loss {
                        events: 1,
                        place: LossPlace::Decode,
                        kind: None,
                    }
                }
            };
            feed(tracker, consumer, &item);
        });
        self.feed_losses();
        // With an empty ring, everything that happened before it was read is known.
        let known_ns = if taken < BATCH {
            before.monotonic_ns
        } else {
            last_ns
        };
        self.feed(&Item::Time(known_ns));
        self.compare(taken < BATCH);
        self.look_up();
        self.tell_anomalies(before.monotonic_ns);
        if let Some(refused) = privileges::refused() {
            tracing::error!("{refused}");
        }
        if let Some(time_ns) = self.probe.look_for_detached(before.monotonic_ns) {
            self.feed(&Item::Hook {
                witness: EvidenceHook::Syn,
                attached: false,
                time_ns,
            });
        }
        self.probe.flush_log();
        (taken, self.consumer.end_batch())
    }

    fn detach_transitions(&mut self) {
        self.probe.detach_transitions();
    }

    fn detach(&mut self) {
        self.probe.detach();
        let time_ns = clock::monotonic_ns();
        for &witness in EvidenceHook::ALL {
            self.feed(&Item::Hook {
                witness,
                attached: false,
                time_ns,
            });
        }
    }

    fn most_waiting(&self) -> usize {
        self.probe.most_waiting()
    }

    fn idle(&self) -> Duration {
        if self.survey.is_walking() || self.owners.is_under_way() {
            return REST;
        }
        let due = [
            self.tracker.next_due_ns(),
            self.survey.due_ns(),
            self.consumer.due_ns(),
        ];
        due.into_iter().flatten().min().map_or(IDLE, |due| {
            let wait = due.saturating_sub(clock::monotonic_ns());
            IDLE.min(Duration::from_nanos(wait).max(REST))
        })
    }

    fn finish(&mut self) {
        self.consumer.begin_batch(ClockReading::now());
        for update in self.tracker.finish() {
            self.consumer.update(&update);
        }
        if self.consumer.end_batch().is_break() {
            tracing::debug!("the consumer had enough at the end");
        }
    }
}
