//! `tcptrace tail`: connections as they open and close, in a terminal or a pipe.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Context;
use tokio::io::{Interest, unix::AsyncFd};

use super::startup;
use crate::{
    cli::config::TailConfig,
    clock::{ClockReading, WallClock},
    driver::{
        live::Tracer,
        pump::{pump, runtime},
    },
    host::Host,
    output::{
        record::Recorder,
        sink::{Patience, WriterState},
        tail::Tail,
    },
    probe::Probe,
    stdio,
    stop::Stop,
    tracker::TrackerConfig,
};

/// Whoever reads standard output.
struct Reader(Option<AsyncFd<OwnedFd>>);

impl Reader {
    /// Of a pipe or a socket: nothing else has a reader that can go.
    fn of_stdout() -> Self {
        let fd = std::io::stdout().as_fd().try_clone_to_owned().ok();
        // SAFETY: an OwnedFd returns the one descriptor that it keeps open until it is dropped.
        let watch = |fd| unsafe { AsyncFd::register_with_interest(fd, Interest::ERROR).ok() };
        Self(fd.and_then(watch))
    }

    /// Waits until it is gone, without anything being written. Can be cancelled.
    async fn is_gone(&self) {
        let Some(watched) = &self.0 else {
            return std::future::pending().await;
        };
        // poll(2) tells of a pipe's other end by POLLERR.
        while let Ok(mut guard) = watched.ready(Interest::ERROR).await {
            if guard.ready().is_error() {
                return;
            }
            guard.clear_ready();
        }
        std::future::pending::<()>().await;
    }
}

/// Runs a tail until it is told to stop, has shown enough, or nobody reads it any more.
///
/// Fails when nothing can be traced, or the output cannot be written. A closed pipe is no error.
pub fn run(config: TailConfig, stop: &Stop) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let probe = Probe::load(&config.probe)?;
    startup::say_what_is_traced(&probe, !config.view.filter.is_everything())?;
    stop.begin_tracing();
    let now = ClockReading::now();
    let recorder = Recorder::new(
        &Host::this(now.monotonic_ns),
        WallClock::new(now),
        probe.reset_reasons().clone(),
    );
    let tail = Tail::start(recorder, config.view, Patience::None, now.monotonic_ns)?;
    let tracker = TrackerConfig {
        max_connections: config.max_connections,
        transitions: tail.shows_transitions(),
        ..TrackerConfig::default()
    };
    let mut tracer = Tracer::new(probe, tracker, config.resync_interval, tail);
    runtime.block_on(async {
        let reader = Reader::of_stdout();
        stop.after(config.duration);
        pump(
            &mut tracer,
            stop.requested(),
            async || {
                reader.is_gone().await;
                Some(())
            },
            |tracer, ()| tracer.consumer.end_without_reader(),
        )
        .await
        .context("waiting for the ring buffer")
    })?;
    if let Some(syns) = tracer.probe.counters().syns() {
        tracer.consumer.count_syns_evicted(syns.evicted);
    }
    match tracer.consumer.finish(&tracer.tracker) {
        WriterState::Failed(error) => Err(error).context("writing to standard output"),
        // `tail | head` wants no last words.
        WriterState::ReaderGone => Ok(()),
        WriterState::Done | WriterState::Open => stdio::eprint_line(tracer.consumer.counts()),
    }
}
