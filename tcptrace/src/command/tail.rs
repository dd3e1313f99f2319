//! `tcptrace tail`: connections as they open and close, in a terminal or a pipe.

use anyhow::Context;

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
    stdio::{self, StdoutReader},
    stop::Stop,
    tracker::TrackerConfig,
};

/// Runs a tail until it is told to stop, has shown enough, or its reader is gone.
///
/// Fails when tracing is not possible, or the output cannot be written. A closed pipe is no error.
pub fn run(config: TailConfig, stop: &Stop) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let probe = Probe::load(&config.probe)?;
    startup::print_what_is_traced(&probe, !config.view.filter.is_everything())?;
    stop.begin_tracing();
    config.privileges.give_up_others()?;
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
        let reader = StdoutReader::watch();
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
        // After `tail | head`, nobody reads a summary.
        WriterState::ReaderGone => Ok(()),
        WriterState::Done | WriterState::Open => stdio::eprint_line(tracer.consumer.counts()),
    }
}
