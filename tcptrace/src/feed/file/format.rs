//! The capture file.
//!
//! ```text
//! magic      8 bytes   "tcptrace"
//! version    u32       2
//! block      …         until the end of the file
//!
//! block:
//!   kind     u32       1 header, 2 clock, 3 events, 4 loss, 5 end, 6 time
//!   length   u32       bytes of payload, at most 16 MiB
//!   checksum u32       CRC-32 (IEEE) of kind, length and payload
//!   payload
//!
//! header:   JSON of [`Header`]; the first block, and only that
//! clock:    monotonic_ns u64, offset_ns i64; holds from that time on
//! events:   length u16 and that many bytes, again and again: what the ring held
//! loss:     place u32 (0 ring, 1 output, 2 kernel), events u64; missing since the last time block
//! time:     monotonic_ns u64; all that happened before that moment, or was lost of it, has been told
//! end:      monotonic_ns u64; the capture ended as it was meant to
//! ```
//!
//! All integers are little-endian, as are the events of the machines that tcptrace runs on. Each
//! block is whole or it is not there: what comes before a torn or damaged one can be read.

use std::{
    collections::BTreeMap,
    io::{self, Read},
};

use serde::{Deserialize, Serialize};

use crate::clock::ClockReading;

const MAGIC: [u8; 8] = *b"tcptrace";
/// The newest version, and the one written.
pub const VERSION: u32 = 2;
/// Bytes of payload that a block may have.
pub const MAX_PAYLOAD: usize = 16 << 20;
const BLOCK_HEAD: usize = 12;

const KIND_HEADER: u32 = 1;
const KIND_CLOCK: u32 = 2;
const KIND_EVENTS: u32 = 3;
const KIND_LOSS: u32 = 4;
const KIND_END: u32 = 5;
const KIND_TIME: u32 = 6;

/// Where and with what a capture was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The version of tcptrace.
    pub tcptrace: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -n`.
    pub host: String,
    /// This boot of it.
    pub boot_id: String,
    /// Goes before each connection's number.
    pub run: String,
    /// What became of each hook.
    pub hooks: Vec<HookEntry>,
    /// Names of that kernel's `enum sk_rst_reason`, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reset_reasons: BTreeMap<u32, String>,
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookEntry {
    /// The kernel's name of it.
    pub hook: String,
    /// How it is attached, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A block, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// The first one.
    Header(Header),
    /// A reading of the clocks.
    Clock(ClockReading),
    /// Events, as [`events`] takes them apart.
    Events(Vec<u8>),
    /// Events are missing here.
    Loss {
        /// Where they were lost.
        place: LossKind,
        /// How many.
        events: u64,
    },
    /// All that happened before this moment, or was lost of it, has been told.
    Time {
        /// The moment.
        monotonic_ns: u64,
    },
    /// It ended as it was meant to.
    End {
        /// When.
        monotonic_ns: u64,
    },
}

/// Where events were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossKind {
    /// The ring was full.
    Ring,
    /// The file could not be written as fast.
    Output,
    /// The kernel skipped the program.
    Kernel,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// It cannot be read.
    #[error("reading failed at byte {at}")]
    Read {
        /// Where.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("this is not a tcptrace capture: it does not begin with \"tcptrace\"")]
    Foreign,
    /// A later tcptrace wrote it.
    #[error(
        "this capture has format version {0}; this tcptrace reads up to {VERSION}: use a newer one"
    )]
    Newer(u32),
    /// An earlier tcptrace wrote it.
    #[error(
        "this capture has format version {0}, whose events lack what this tcptrace needs; it reads version {VERSION}: replay it with the tcptrace that wrote it"
    )]
    Older(u32),
    /// It ends where a capture that goes on would.
    #[error(
        "the capture has no end: it was cut off, or still goes on. What came before was read; the rest is unknown"
    )]
    NoEnd,
    /// It ends within something.
    #[error("the file is cut short at byte {at}: it ends within {what}. What came before was read")]
    Truncated {
        /// Where the thing that is cut begins.
        at: u64,
        /// What it is.
        what: &'static str,
    },
    /// A block is not what was written.
    #[error("the file is damaged: the block at byte {at} {what}. What came before was read")]
    Damaged {
        /// Where the block begins.
        at: u64,
        /// What is wrong with it.
        what: String,
    },
}

/// Appends the beginning of a file.
pub fn write_start(header: &Header, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    // A struct of strings always serializes.
    write_block(
        KIND_HEADER,
        &serde_json::to_vec(header).unwrap_or_default(),
        out,
    );
}

/// Appends a reading of the clocks.
pub fn write_clock(reading: ClockReading, out: &mut Vec<u8>) {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&reading.monotonic_ns.to_le_bytes());
    payload[8..].copy_from_slice(&reading.offset_ns.to_le_bytes());
    write_block(KIND_CLOCK, &payload, out);
}

/// Appends events, as [`push_event`] put them together.
pub fn write_events(events: &[u8], out: &mut Vec<u8>) {
    write_block(KIND_EVENTS, events, out);
}

/// Appends that events are missing here.
pub fn write_loss(place: LossKind, events: u64, out: &mut Vec<u8>) {
    let mut payload = [0; 12];
    let place: u32 = match place {
        LossKind::Ring => 0,
        LossKind::Output => 1,
        LossKind::Kernel => 2,
    };
    payload[..4].copy_from_slice(&place.to_le_bytes());
    payload[4..].copy_from_slice(&events.to_le_bytes());
    write_block(KIND_LOSS, &payload, out);
}

/// Appends that all that happened before this moment, or was lost of it, has been told.
pub fn write_time(monotonic_ns: u64, out: &mut Vec<u8>) {
    write_block(KIND_TIME, &monotonic_ns.to_le_bytes(), out);
}

/// Appends the end.
pub fn write_end(monotonic_ns: u64, out: &mut Vec<u8>) {
    write_block(KIND_END, &monotonic_ns.to_le_bytes(), out);
}

/// Adds one event to a block's payload.
pub fn push_event(bytes: &[u8], payload: &mut Vec<u8>) {
    // An event has at most 136 bytes; one that does not fit would be no event.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(&bytes[..usize::from(length)]);
}

/// Takes the events of a block's payload apart; `Err` where it does not come out even.
pub fn events(mut payload: &[u8]) -> impl Iterator<Item = Result<&[u8], String>> {
    std::iter::from_fn(move || {
        if payload.is_empty() {
            return None;
        }
        let taken = payload
            .split_first_chunk::<2>()
            .and_then(|(length, rest)| rest.split_at_checked(u16::from_le_bytes(*length).into()));
        match taken {
            Some((event, rest)) => {
                payload = rest;
                Some(Ok(event))
            }
            None => {
                payload = &[];
                Some(Err("has events that do not fill it evenly".to_owned()))
            }
        }
    })
}

fn write_block(kind: u32, payload: &[u8], out: &mut Vec<u8>) {
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    let length = u32::try_from(payload.len()).unwrap_or(0);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&checksum(kind, length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}

fn checksum(kind: u32, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Reads a file, block by block.
pub struct Reader<R> {
    input: R,
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    ///
    /// When it is no capture, a newer one, or does not get as far as its header.
    pub fn open(input: R) -> Result<(Self, Header), FormatError> {
        let mut reader = Self { input, at: 0 };
        let mut start = [0; 12];
        let read = reader.fill(&mut start)?;
        if !MAGIC.starts_with(&start[..read.min(8)]) || read == 0 {
            return Err(FormatError::Foreign);
        }
        if read < start.len() {
            return Err(FormatError::Truncated {
                at: 0,
                what: "its beginning",
            });
        }
        let [.., a, b, c, d] = start;
        let version = u32::from_le_bytes([a, b, c, d]);
        match version.cmp(&VERSION) {
            std::cmp::Ordering::Less => return Err(FormatError::Older(version)),
            std::cmp::Ordering::Equal => {}
            std::cmp::Ordering::Greater => return Err(FormatError::Newer(version)),
        }
        reader.at = start.len() as u64;
        match reader.next()? {
            Some(Block::Header(header)) => Ok((reader, header)),
            Some(
                Block::Clock(_)
                | Block::Events(_)
                | Block::Loss { .. }
                | Block::Time { .. }
                | Block::End { .. },
            ) => Err(FormatError::Damaged {
                at: 12,
                what: "is not the header".to_owned(),
            }),
            None => Err(FormatError::Truncated {
                at: 12,
                what: "its header",
            }),
        }
    }

    /// How far it has read, in bytes.
    #[must_use]
    pub const fn at(&self) -> u64 {
        self.at
    }

    /// The next block; `None` at the end of the file.
    ///
    /// # Errors
    ///
    /// When the file ends within a block, or the block is not what was written.
    #[expect(
        clippy::should_implement_trait,
        reason = "an error ends it, and it is asked once"
    )]
    pub fn next(&mut self) -> Result<Option<Block>, FormatError> {
        let at = self.at;
        let damaged = |what: &str| FormatError::Damaged {
            at,
            what: what.to_owned(),
        };
        let mut head = [0; BLOCK_HEAD];
        match self.fill(&mut head)? {
            0 => return Ok(None),
            BLOCK_HEAD => {}
            _ => {
                return Err(FormatError::Truncated {
                    at,
                    what: "the head of a block",
                });
            }
        }
        let word = |index: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&head[index * 4..index * 4 + 4]);
            u32::from_le_bytes(bytes)
        };
        let (kind, length, expected) = (word(0), word(1), word(2));
        if length as usize > MAX_PAYLOAD {
            return Err(damaged("says it is larger than any block is"));
        }
        let mut payload = vec![0; length as usize];
        if self.fill(&mut payload)? < payload.len() {
            return Err(FormatError::Truncated {
                at,
                what: "a block",
            });
        }
        if checksum(kind, length, &payload) != expected {
            return Err(damaged("does not have the checksum it was written with"));
        }
        self.at = at + (BLOCK_HEAD + payload.len()) as u64;
        parse(kind, payload)
            .map(Some)
            .map_err(|what| FormatError::Damaged { at, what })
    }

    /// Reads until the buffer is full or the file ends, and returns how much was read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, FormatError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(FormatError::Read {
                        at: self.at + filled as u64,
                        source,
                    });
                }
            }
        }
        Ok(filled)
    }
}

fn parse(kind: u32, payload: Vec<u8>) -> Result<Block, String> {
    let size = |expected: usize| {
        if payload.len() == expected {
            Ok(())
        } else {
            Err(format!("has {} bytes, not {expected}", payload.len()))
        }
    };
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&payload[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    match kind {
        KIND_HEADER => serde_json::from_slice(&payload)
            .map(Block::Header)
            .map_err(|error| format!("is a header that cannot be read: {error}")),
        KIND_CLOCK => {
            size(16)?;
            Ok(Block::Clock(ClockReading {
                monotonic_ns: word(0),
                offset_ns: word(8).cast_signed(),
            }))
        }
        KIND_EVENTS => Ok(Block::Events(payload)),
        KIND_LOSS => {
            size(12)?;
            let place = match payload[0] {
                0 => LossKind::Ring,
                1 => LossKind::Output,
                2 => LossKind::Kernel,
                other => {
                    return Err(format!(
                        "tells of a loss at a place {other}, not known here"
                    ));
                }
            };
            Ok(Block::Loss {
                place,
                events: word(4),
            })
        }
        KIND_TIME => {
            size(8)?;
            Ok(Block::Time {
                monotonic_ns: word(0),
            })
        }
        KIND_END => {
            size(8)?;
            Ok(Block::End {
                monotonic_ns: word(0),
            })
        }
        other => Err(format!("is of kind {other}, not known here")),
    }
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
