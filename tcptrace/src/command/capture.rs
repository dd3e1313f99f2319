//! `tcptrace capture`: writes the raw event stream to a file.

use anyhow::Context;

use super::startup;
use crate::{
    cli::config::CaptureConfig,
    clock::ClockReading,
    driver::{
        capture::Capture,
        destination::Destination,
        pump::{pump, runtime},
    },
    feed::file::format::{CaptureHeader, HookEntry, write_clock, write_start},
    host::{self, Host},
    output::sink::{Patience, Writer, WriterState},
    probe::Probe,
    stdio,
    stop::Stop,
};

/// The most blocks that wait to be written.
const WAITING: usize = 128;

/// Captures until it is interrupted or its time is over.
pub fn run(config: &CaptureConfig, stop: &Stop) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let destination = Destination::find(config.file.as_deref(), config.force)?;
    let probe = Probe::load(&config.probe)?;
    startup::print_what_is_traced(&probe, false)?;
    stop.begin_tracing();
    let first = ClockReading::now();
    let mut start = Vec::new();
    write_start(&header(&probe, first.monotonic_ns), &mut start);
    write_clock(first, &mut start);
    let name = destination.name();
    let (output, rest) = destination.begin(start)?;
    config.privileges.give_up_others()?;
    let copy = |block: &Vec<u8>, out: &mut Vec<u8>| out.extend_from_slice(block);
    let writer = Writer::start(output, rest, copy, WAITING, Patience::None)
        .context("starting the writer's thread")?;
    let mut capture = Capture::new(probe, first, writer);
    runtime.block_on(async {
        stop.after(config.duration);
        let nobody = std::future::pending::<Option<()>>;
        pump(&mut capture, stop.requested(), nobody, |_, ()| {})
            .await
            .context("waiting for the ring buffer")
    })?;
    match capture.outcome() {
        (WriterState::Failed(error), _) => Err(error)
            .with_context(|| format!("writing {name}; what was written before can be replayed")),
        (WriterState::ReaderGone, _) => Ok(()),
        (WriterState::Done | WriterState::Open, summary) => stdio::eprint_line(summary),
    }
}

fn header(probe: &Probe, start_ns: u64) -> CaptureHeader {
    let host = Host::this(start_ns);
    CaptureHeader {
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
