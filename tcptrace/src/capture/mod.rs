//! `tcptrace capture` and `tcptrace replay`: the raw event stream to a file, and back through the
//! same decoding, tracker and output.

mod destination;
pub mod format;
pub mod replay;

use std::{
    ops::ControlFlow,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use anyhow::Context;

use self::{
    destination::Destination,
    format::{
        Header, HookEntry, LossKind, push_event, write_clock, write_end, write_events, write_loss,
        write_start, write_time,
    },
};
use crate::{
    clock::{self, ClockReading, WallClock},
    config::CaptureConfig,
    decode::time_of,
    host::{self, Host},
    output::{Patience, Writer, WriterState},
    probe::Probe,
    pump::{BATCH, Drain, IDLE, pump, runtime},
    say, startup,
    stop::Stop,
};

/// Bytes of events put into one block.
const BLOCK: usize = 1 << 18;
/// Blocks that may wait to be written.
const WAITING: usize = 128;

/// Writes what the probe hands out.
struct Capture {
    probe: Probe,
    clock: WallClock,
    writer: Option<Writer<Vec<u8>>>,
    block: Vec<u8>,
    ended: Option<WriterState>,
    events: u64,
    lost: u64,
    skipped: u64,
    /// Events that the file could not take, not yet told in it.
    dropped: u64,
    dropped_total: u64,
}

impl Capture {
    /// Writes the block that is being filled, of `events` events, or counts them as dropped.
    fn close_block(&mut self, events: u64) {
        if self.block.is_empty() {
            return;
        }
        if self.has_room() {
            self.note(|file, block| write_events(block, file));
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
    fn note(&mut self, write: impl FnOnce(&mut Vec<u8>, &[u8])) {
        if let Some(writer) = &mut self.writer {
            let mut bytes = Vec::new();
            write(&mut bytes, &self.block);
            writer.put(bytes);
        }
    }

    /// Notes what was lost since the last time, and that all is told up to a moment. Without room
    /// it is noted later.
    fn note_time(&mut self, known_ns: u64) {
        if !self.has_room() {
            return;
        }
        let (lost, skipped) = (self.probe.counters().lost(), self.probe.runs_skipped());
        let losses = [
            (LossKind::Output, std::mem::take(&mut self.dropped)),
            (LossKind::Ring, lost - self.lost),
            (LossKind::Kernel, skipped.saturating_sub(self.skipped)),
        ];
        (self.lost, self.skipped) = (lost, skipped);
        self.note(|file, _| {
            for (kind, events) in losses {
                if events > 0 {
                    write_loss(kind, events, file);
                }
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
        if self.clock.learn(now) {
            self.note(|file, _| write_clock(now, file));
        }
        let mut total = 0;
        loop {
            let block = &mut self.block;
            // Blocks are bounded, so that one that is torn costs little.
            let most = (BLOCK / 64).min(BATCH - total);
            let taken = self.probe.drain(most, |bytes| {
                last_ns = time_of(bytes).unwrap_or(last_ns);
                push_event(bytes, block);
            });
            self.close_block(taken as u64);
            total += taken;
            if taken < most || total == BATCH {
                break;
            }
        }
        // Of an empty ring all that happened before it was looked at is known.
        let known_ns = if total < BATCH {
            now.monotonic_ns
        } else {
            last_ns
        };
        self.note_time(known_ns);
        self.probe.flush_log();
        (total, self.pass_on())
    }

    fn detach(&mut self) {
        self.probe.detach();
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
        self.note(|file, _| {
            if dropped > 0 {
                write_loss(LossKind::Output, dropped, file);
            }
            write_end(clock::monotonic_ns(), file);
        });
        self.ended = self.writer.take().map(Writer::finish);
    }
}

/// Captures until it is interrupted or its time is over.
///
/// # Errors
///
/// When nothing can be traced, or the file cannot be written.
pub fn run(config: &CaptureConfig) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let runtime = runtime()?;
    let destination = Destination::find(config.file.as_deref(), config.force)?;
    let probe = Probe::load(&config.probe)?;
    startup::say_what_is_missing(&probe)?;
    stop.begin_tracing();
    let first = ClockReading::now();
    let mut start = Vec::new();
    write_start(&header(&probe, first.monotonic_ns), &mut start);
    write_clock(first, &mut start);
    let name = destination.name();
    let (output, rest) = destination.begin(start)?;
    let copy = |block: &Vec<u8>, out: &mut Vec<u8>| out.extend_from_slice(block);
    let writer = Writer::start(output, rest, copy, WAITING, Patience::None)
        .context("starting the writer's thread")?;
    let mut capture = Capture {
        probe,
        clock: WallClock::new(first),
        writer: Some(writer),
        block: Vec::with_capacity(BLOCK),
        ended: None,
        events: 0,
        lost: 0,
        skipped: 0,
        dropped: 0,
        dropped_total: 0,
    };
    runtime.block_on(async {
        stop.after(config.duration);
        let nobody = std::future::pending::<Option<()>>;
        pump(&mut capture, stop.requested(), nobody, |_, ()| {})
            .await
            .context("waiting for the ring buffer")
    })?;
    match capture.ended {
        Some(WriterState::Failed(error)) => Err(error)
            .with_context(|| format!("writing {name}; what was written before can be replayed")),
        Some(WriterState::ReaderGone) => Ok(()),
        Some(WriterState::Done | WriterState::Open) | None => {
            let lost = capture.lost + capture.skipped;
            let mut summary = format!("{} events captured, {lost} lost", capture.events);
            if capture.dropped_total > 0 {
                summary += &format!(
                    ", {} not written, for {name} was too slow",
                    capture.dropped_total
                );
            }
            say::line(summary)
        }
    }
}

fn header(probe: &Probe, start_ns: u64) -> Header {
    let host = Host::this(start_ns);
    Header {
        tcptrace: env!("CARGO_PKG_VERSION").to_owned(),
        kernel_release: host::kernel_release(),
        host: host.name,
        boot_id: host.boot_id,
        run: host.run,
        hooks: probe
            .hooks()
            .iter()
            .map(|status| HookEntry {
                hook: status.hook.name().to_owned(),
                source: status
                    .attached
                    .as_ref()
                    .ok()
                    .map(|source| source.name().to_owned()),
                error: status.attached.as_ref().err().cloned(),
            })
            .collect(),
        reset_reasons: probe.reset_reasons().clone(),
    }
}
