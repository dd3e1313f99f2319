//! Writes the raw event stream to a file.

use std::{
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use crate::{
    clock::{self, ClockReading, WallClock},
    driver::pump::{BATCH, Drain, IDLE},
    feed::{
        decode::{decode, time_of},
        file::format::{
            push_event, write_clock, write_end, write_events, write_hook, write_loss, write_name,
            write_time,
        },
        item::{EvidenceHook, LossPlace},
    },
    host::name_finder::NameFinder,
    output::sink::{Writer, WriterState},
    probe::{Losses, Probe},
};

/// The most bytes of events in one block.
const BLOCK: usize = 1 << 18;

/// Writes the probe's events.
pub struct Capture {
    probe: Probe,
    clock: WallClock,
    writer: Option<Writer<Vec<u8>>>,
    block: Vec<u8>,
    names: NameFinder,
    ended: Option<WriterState>,
    events: u64,
    lost: Losses,
    /// Events that the file could not take, not reported in it yet.
    dropped: u64,
    dropped_total: u64,
}

impl Capture {
    /// A capture that continues `writer`, after the start of the file with the reading `first`.
    pub fn new(probe: Probe, first: ClockReading, writer: Writer<Vec<u8>>) -> Self {
        Self {
            probe,
            clock: WallClock::new(first),
            writer: Some(writer),
            block: Vec::with_capacity(BLOCK),
            names: NameFinder::default(),
            ended: None,
            events: 0,
            lost: Losses::default(),
            dropped: 0,
            dropped_total: 0,
        }
    }

    /// Returns how it ended, and a summary in words.
    pub fn outcome(&mut self) -> (WriterState, String) {
        let lost = self.lost.total();
        let mut summary = format!("{} events captured, {lost} lost", self.events);
        if self.dropped_total > 0 {
            summary += &format!(
                ", {} not written: the output was too slow",
                self.dropped_total
            );
        }
        let state = self.ended.take().unwrap_or(WriterState::Done);
        (state, summary)
    }

    /// Writes the current block, of `events` events, or counts them as dropped.
    fn close_block(&mut self, events: u64) {
        if self.block.is_empty() {
            return;
        }
        if self.has_room() {
            self.write(|file, block| write_events(block, file));
            self.events += events;
        } else {
            self.dropped += events;
            self.dropped_total += events;
        }
        self.block.clear();
    }

    fn has_room(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::has_room)
    }

    /// Writes something, which may be the block.
    fn write(&mut self, write: impl FnOnce(&mut Vec<u8>, &[u8])) {
        if let Some(writer) = &mut self.writer {
            let mut bytes = Vec::new();
            write(&mut bytes, &self.block);
            writer.push(bytes);
        }
    }

    /// Notes what was lost since the last time, and that everything up to a moment was reported.
    /// Without room it is noted later.
    fn write_time(&mut self, known_ns: u64) {
        if !self.has_room() {
            return;
        }
        // Only the reader of the capture can tell which events are repeated.
        let lost = self.probe.losses([0, 0]);
        let dropped = std::mem::take(&mut self.dropped);
        let new = lost.since(&self.lost);
        self.lost = lost;
        self.write(|file, _| {
            if dropped > 0 {
                write_loss(LossPlace::Capture, dropped, None, file);
            }
            for (events, place, kind) in new {
                write_loss(place, events, Some(kind), file);
            }
            write_time(known_ns, file);
        });
    }

    fn pass_on(&mut self) -> ControlFlow<()> {
        match self.writer.as_mut().map(Writer::pass_on) {
            Some(WriterState::Open) => ControlFlow::Continue(()),
            ended => {
                self.ended = ended;
                ControlFlow::Break(())
            }
        }
    }
}

impl Drain for Capture {
    fn ring(&self) -> BorrowedFd<'_> {
        self.probe.as_fd()
    }

    fn drain(&mut self) -> (usize, ControlFlow<()>) {
        let now = ClockReading::now();
        let mut last_ns = 0;
        if self.clock.update(now) {
            self.write(|file, _| write_clock(now, file));
        }
        let mut total = 0;
        loop {
            let Self { block, names, .. } = self;
            let mut new = Vec::new();
            let mut events = 0;
            // Blocks are bounded, so that a torn one costs little.
            let most = (BLOCK / 64).min(BATCH - total);
            let taken = self.probe.drain(most, |bytes| {
                last_ns = time_of(bytes).unwrap_or(last_ns);
                if names.add_event(bytes) {
                    return;
                }
                // A replay counts what cannot be decoded.
                if let Ok(event) = decode(bytes) {
                    names.find(event.body.numbers(), |name| new.push(name));
                }
                push_event(bytes, block);
                events += 1;
            });
            // Before the events that need them. A few names may fit where a block does not.
            for name in new {
                self.write(|file, _| write_name(&name, file));
            }
            self.close_block(events);
            total += taken;
            if taken < most || total == BATCH {
                break;
            }
        }
        // With an empty ring, everything that happened before it was read is known.
        let known_ns = if total < BATCH {
            now.monotonic_ns
        } else {
            last_ns
        };
        if let Some(since_ns) = self.probe.look_for_detached(now.monotonic_ns) {
            self.write(|file, _| write_hook(EvidenceHook::Syn, false, since_ns, file));
        }
        self.write_time(known_ns);
        self.probe.flush_log();
        (total, self.pass_on())
    }

    fn detach_transitions(&mut self) {
        self.probe.detach_transitions();
    }

    fn detach(&mut self) {
        self.probe.detach();
        let now = clock::monotonic_ns();
        self.write(|file, _| {
            for &witness in EvidenceHook::ALL {
                write_hook(witness, false, now, file);
            }
        });
    }

    fn most_waiting(&self) -> usize {
        self.probe.most_waiting()
    }

    fn idle(&self) -> Duration {
        IDLE
    }

    fn finish(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let dropped = std::mem::take(&mut self.dropped);
        self.write(|file, _| {
            if dropped > 0 {
                write_loss(LossPlace::Capture, dropped, None, file);
            }
            write_end(clock::monotonic_ns(), file);
        });
        self.ended = self.writer.take().map(Writer::finish);
    }
}
