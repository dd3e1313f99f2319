//! `tcptrace replay`: a captured stream through the same decoding, tracker and output.

use std::{
    fs::File,
    io::{self, BufReader, Read},
};

use anyhow::Context;

use super::format::{Block, FormatError, Header, LossKind, Reader, events};
use crate::{
    clock::{ClockReading, WallClock},
    config::ReplayConfig,
    decode::decode,
    host::Host,
    output::{Patience, WriterState},
    probe::Source,
    record::Recorder,
    say,
    stop::Stop,
    tail::Tail,
    tracer::{self, COMPLAINTS, Consumer, feed},
    tracker::{Item, LossPlace, Sources, Tracker, TrackerConfig},
};

/// Replays a file and shows it.
///
/// # Errors
///
/// When the file cannot be read or is damaged; what comes before the damage is shown.
pub fn run(config: ReplayConfig) -> anyhow::Result<()> {
    let _stop = Stop::on_signals()?;
    let (name, input): (String, Box<dyn Read>) = match &config.file {
        Some(path) => {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("opening {name}"))?;
            (name, Box::new(BufReader::new(file)))
        }
        None => ("standard input".to_owned(), Box::new(io::stdin().lock())),
    };
    let (mut replay, header) = Replay::open(input).with_context(|| name.clone())?;
    let host = Host {
        name: header.host.clone(),
        boot_id: header.boot_id.clone(),
        run: header.run.clone(),
    };
    let recorder = Recorder::new(
        &host,
        WallClock::new(replay.clock),
        header.reset_reasons.clone(),
    );
    // No ring waits to be drained, and what is shown is all that the file holds.
    let start_ns = replay.clock.monotonic_ns;
    let mut tail = Tail::start(recorder, config.view, Patience::Endless, start_ns)?;
    let mut tracker = Tracker::new(TrackerConfig {
        max_connections: config.max_connections,
        sources: sources(&header),
        transitions: tail.shows_transitions(),
        ..TrackerConfig::default()
    });
    let outcome = replay.play(&mut tracker, &mut tail);
    let state = tail.finish(&tracker);
    // What was read is shown first, then what was wrong with the rest.
    match (state, outcome) {
        (WriterState::Failed(error), _) => Err(error).context("writing to standard output"),
        (WriterState::ReaderGone, _) => Ok(()),
        (WriterState::Done | WriterState::Open, outcome) => {
            say::line(tail.counts())?;
            outcome.with_context(|| name.clone())
        }
    }
}

/// What the capture could have seen.
#[must_use]
pub fn sources(header: &Header) -> Sources {
    tracer::sources(|hook| {
        let entry = header
            .hooks
            .iter()
            .find(|entry| entry.hook == hook.name())?;
        let name = entry.source.as_deref()?;
        Source::ALL.into_iter().find(|source| source.name() == name)
    })
}

/// A file being replayed.
pub struct Replay<R> {
    reader: Reader<R>,
    clock: ClockReading,
    /// Blocks read ahead to find the first reading of the clocks.
    first: Option<Block>,
    /// The end was read.
    ended: bool,
    /// Events that were malformed.
    malformed: u64,
}

impl<R: Read> Replay<R> {
    /// Opens a file.
    ///
    /// # Errors
    ///
    /// When it is no capture, or does not get as far as its header.
    pub fn open(input: R) -> Result<(Self, Header), FormatError> {
        let (mut reader, header) = Reader::open(input)?;
        // A file that ends or breaks here has nothing to show, and says so when played.
        let mut clock = ClockReading {
            monotonic_ns: 0,
            offset_ns: 0,
        };
        let first = match reader.next()? {
            Some(Block::Clock(reading)) => {
                clock = reading;
                None
            }
            other => other,
        };
        let replay = Self {
            reader,
            clock,
            first,
            ended: false,
            malformed: 0,
        };
        Ok((replay, header))
    }

    /// The clocks at the beginning.
    #[must_use]
    pub const fn clock(&self) -> ClockReading {
        self.clock
    }

    /// Plays it to the end, or until the consumer has enough.
    ///
    /// # Errors
    ///
    /// Where the file is cut short or damaged; what comes before it was played.
    pub fn play(
        &mut self,
        tracker: &mut Tracker,
        consumer: &mut impl Consumer,
    ) -> Result<(), FormatError> {
        let played = self.play_blocks(tracker, consumer);
        consumer.begin_batch(self.clock);
        for update in tracker.finish() {
            consumer.update(&update);
        }
        if consumer.end_batch().is_break() {
            tracing::debug!("the consumer had enough at the end");
        }
        played
    }

    fn play_blocks(
        &mut self,
        tracker: &mut Tracker,
        consumer: &mut impl Consumer,
    ) -> Result<(), FormatError> {
        loop {
            let block = match self.first.take() {
                Some(block) => Some(block),
                None => self.reader.next()?,
            };
            let Some(block) = block else {
                return if self.ended {
                    Ok(())
                } else {
                    Err(FormatError::NoEnd)
                };
            };
            consumer.begin_batch(self.clock);
            match block {
                Block::Clock(reading) => {
                    self.clock = reading;
                    consumer.begin_batch(reading);
                }
                Block::Events(payload) => self.play_events(&payload, tracker, consumer)?,
                Block::Loss { place, events } => {
                    let place = match place {
                        LossKind::Ring => LossPlace::Ring,
                        LossKind::Kernel => LossPlace::Kernel,
                        LossKind::Output => LossPlace::Capture,
                    };
                    feed(tracker, consumer, &Item::Loss { events, place });
                }
                Block::Time { monotonic_ns } => {
                    feed(tracker, consumer, &Item::Time(monotonic_ns));
                }
                Block::End { monotonic_ns } => {
                    self.ended = true;
                    feed(tracker, consumer, &Item::Time(monotonic_ns));
                }
                Block::Header(_) => {
                    return Err(FormatError::Damaged {
                        at: self.reader.at(),
                        what: "is a second header".to_owned(),
                    });
                }
            }
            if consumer.end_batch().is_break() {
                return Ok(());
            }
        }
    }

    fn play_events(
        &mut self,
        payload: &[u8],
        tracker: &mut Tracker,
        consumer: &mut impl Consumer,
    ) -> Result<(), FormatError> {
        for bytes in events(payload) {
            let bytes = bytes.map_err(|what| FormatError::Damaged {
                at: self.reader.at(),
                what,
            })?;
            match decode(bytes) {
                Ok(event) => {
                    self.clock.monotonic_ns = self.clock.monotonic_ns.max(event.time_ns);
                    feed(tracker, consumer, &Item::Event(event));
                }
                Err(error) => {
                    self.malformed += 1;
                    if self.malformed <= COMPLAINTS {
                        tracing::error!("an event is malformed and counted as lost: {error}");
                    }
                    let place = LossPlace::Decode;
                    feed(tracker, consumer, &Item::Loss { events: 1, place });
                }
            }
        }
        Ok(())
    }
}
