//! Plays a captured stream through the same decoder and tracker.

use std::io::Read;

use crate::driver::live::{COMPLAINTS, feed};
use crate::{
    clock::ClockReading,
    feed::{
        decode::decode,
        file::{
            format::{Block, CaptureHeader, events},
            reader::{CaptureError, Reader},
        },
    },
    probe::Source,
    tracker::{Consumer, Item, LossPlace, Sources, Tracker},
};

/// Returns the evidence that the capture had.
pub fn sources(header: &CaptureHeader) -> Sources {
    super::live::sources(|hook| {
        let entry = header
            .hooks
            .iter()
            .find(|entry| entry.hook == hook.name())?;
        let name = entry.source.as_deref()?;
        Source::ALL
            .iter()
            .copied()
            .find(|source| source.name() == name)
    })
}

pub struct Replay<R> {
    reader: Reader<R>,
    clock: ClockReading,
    /// Blocks read ahead to find the first clock reading.
    first: Option<Block>,
    ended: bool,
    /// Events that could not be decoded.
    malformed: u64,
}

impl<R: Read> Replay<R> {
    /// Opens a file.
    ///
    /// Fails when it is no capture, or ends before its header does.
    pub fn open(input: R) -> Result<(Self, CaptureHeader), CaptureError> {
        let (mut reader, header) = Reader::open(input)?;
        // A file that ends or breaks here has nothing to show; playing it reports that.
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

    /// Returns the first clock reading.
    pub const fn clock(&self) -> ClockReading {
        self.clock
    }

    /// Plays the file to its end, or until the consumer ends it.
    ///
    /// Fails where the file is cut short or damaged, after playing what comes before.
    pub fn play(
        &mut self,
        tracker: &mut Tracker,
        consumer: &mut impl Consumer,
    ) -> Result<(), CaptureError> {
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
    ) -> Result<(), CaptureError> {
        loop {
            let block = match self.first.take() {
                Some(block) => Some(block),
                None => self.reader.next()?,
            };
            let Some(block) = block else {
                return if self.ended {
                    Ok(())
                } else {
                    Err(CaptureError::NoEnd)
                };
            };
            consumer.begin_batch(self.clock);
            match block {
                Block::Clock(reading) => {
                    self.clock = reading;
                    consumer.begin_batch(reading);
                }
                Block::Events(payload) => self.play_events(&payload, tracker, consumer)?,
                Block::Loss {
                    place,
                    events,
                    kind,
                } => {
                    let loss = Item::Loss {
                        events,
                        place,
                        kind,
                    };
                    feed(tracker, consumer, &loss);
                }
                Block::Hook {
                    witness,
                    attached,
                    time_ns,
                } => {
                    let change = Item::Hook {
                        witness,
                        attached,
                        time_ns,
                    };
                    feed(tracker, consumer, &change);
                }
                Block::Name(name) => feed(tracker, consumer, &Item::Name(name)),
                Block::Time { monotonic_ns } => {
                    feed(tracker, consumer, &Item::Time(monotonic_ns));
                }
                Block::End { monotonic_ns } => {
                    self.ended = true;
                    feed(tracker, consumer, &Item::Time(monotonic_ns));
                }
                Block::Header(_) => {
                    return Err(CaptureError::Damaged {
                        at: self.reader.position(),
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
    ) -> Result<(), CaptureError> {
        for bytes in events(payload) {
            let bytes = bytes.map_err(|what| CaptureError::Damaged {
                at: self.reader.position(),
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
                    let loss = Item::Loss {
                        events: 1,
                        place: LossPlace::Decode,
                        kind: None,
                    };
                    feed(tracker, consumer, &loss);
                }
            }
        }
        Ok(())
    }
}
