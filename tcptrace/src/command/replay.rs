//! `tcptrace replay`: shows a capture as a tail would have shown it.

use std::{
    fs::File,
    io::{self, BufReader, Read},
};

use anyhow::Context;

use crate::{
    cli::config::ReplayConfig,
    clock::WallClock,
    driver::replay::{Replay, sources},
    host::Host,
    output::{
        record::Recorder,
        sink::{Patience, WriterState},
        tail::Tail,
    },
    stdio,
    tracker::{Tracker, TrackerConfig},
};

/// Replays a file and shows it.
///
/// Fails when the file cannot be read or is damaged; what comes before the damage is shown.
pub fn run(config: ReplayConfig) -> anyhow::Result<()> {
    let (name, input): (String, Box<dyn Read>) = match &config.file {
        Some(path) => {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("opening {name}"))?;
            (name, Box::new(BufReader::new(file)))
        }
        None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
    };
    let (mut replay, header) = Replay::open(input).with_context(|| name.clone())?;
    let began = WallClock::new(replay.clock()).wall(replay.clock().monotonic_ns);
    stdio::eprint_line(format_args!(
        "tcptrace: replaying what {} captured from {began:.0} on (Linux {}, tcptrace {})",
        header.host.as_deref().unwrap_or("a host"),
        header.kernel_release,
        header.tcptrace,
    ))?;
    let host = Host {
        name: header.host.clone(),
        boot_id: header.boot_id.clone(),
        run: header.run.clone(),
    };
    let recorder = Recorder::new(
        &host,
        WallClock::new(replay.clock()),
        header.reset_reasons.clone(),
    );
    // No ring waits to be drained, and everything in the file is shown.
    let start_ns = replay.clock().monotonic_ns;
    let mut tail = Tail::start(recorder, config.view, Patience::Endless, start_ns)?;
    let mut tracker = Tracker::new(TrackerConfig {
        max_connections: config.max_connections,
        sources: sources(&header),
        transitions: tail.shows_transitions(),
        ..TrackerConfig::default()
    });
    let outcome = replay.play(&mut tracker, &mut tail);
    let state = tail.finish(&tracker);
    // First the rows that were read, then the error of the rest.
    match (state, outcome) {
        (WriterState::Failed(error), _) => Err(error).context("writing to standard output"),
        (WriterState::ReaderGone, _) => Ok(()),
        (WriterState::Done | WriterState::Open, outcome) => {
            stdio::eprint_line(tail.counts())?;
            outcome.with_context(|| name.clone())
        }
    }
}
