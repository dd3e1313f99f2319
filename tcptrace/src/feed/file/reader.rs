//! Reads a capture file, block by block.

use std::io::{self, Read};

use super::format::{
    BLOCK_HEAD, Block, CaptureHeader, KIND_CLOCK, KIND_END, KIND_EVENTS, KIND_HEADER, KIND_HOOK,
    KIND_LOSS, KIND_NAME, KIND_TIME, MAGIC, MAX_PAYLOAD, OLDEST_VERSION, VERSION, checksum,
};
use crate::{
    clock::ClockReading,
    feed::item::{EventKind, EvidenceHook, LossPlace},
};

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The file cannot be read.
    #[error("reading failed at byte {at}")]
    Read {
        /// The offset, bytes.
        at: u64,
        source: io::Error,
    },
    /// The file is no capture.
    #[error("this is not a tcptrace capture: it does not begin with \"tcptrace\"")]
    Foreign,
    /// A newer tcptrace wrote it.
    #[error(
        "this capture has format version {0}; this tcptrace reads up to {VERSION}: use a newer one"
    )]
    Newer(u32),
    /// An older tcptrace wrote it.
    #[error(
        "this capture has format version {0}, whose events lack what this tcptrace needs; it reads versions {OLDEST_VERSION} to {VERSION}: replay it with the tcptrace that wrote it"
    )]
    Older(u32),
    /// The file ends where a running capture would.
    #[error(
        "the capture has no end: it was cut off, or still goes on. What came before was read; the rest is unknown"
    )]
    NoEnd,
    /// The file ends in the middle of something.
    #[error("the file is cut short at byte {at}: it ends within {what}. What came before was read")]
    Truncated {
        /// The offset of what is cut, bytes.
        at: u64,
        what: &'static str,
    },
    /// A block's checksum or content is wrong.
    #[error("the file is damaged: the block at byte {at} {what}. What came before was read")]
    Damaged {
        /// The offset of the block, bytes.
        at: u64,
        what: String,
    },
}

pub struct Reader<R> {
    input: R,
    at: u64,
}

impl<R: Read> Reader<R> {
    /// Opens a file and reads its header.
    ///
    /// Fails when it is no capture, or too new, or ends before its header does.
    pub fn open(input: R) -> Result<(Self, CaptureHeader), CaptureError> {
        let mut reader = Self { input, at: 0 };
        let mut start = [0; 12];
        let read = reader.fill(&mut start)?;
        if !MAGIC.starts_with(&start[..read.min(8)]) || read == 0 {
            return Err(CaptureError::Foreign);
        }
        if read < start.len() {
            return Err(CaptureError::Truncated {
                at: 0,
                what: "its beginning",
            });
        }
        let [.., a, b, c, d] = start;
        let version = u32::from_le_bytes([a, b, c, d]);
        match version {
            0 => {
                return Err(CaptureError::Damaged {
                    at: 8,
                    what: "has the format version 0, which never was".to_owned(),
                });
            }
            1..OLDEST_VERSION => return Err(CaptureError::Older(version)),
            OLDEST_VERSION..=VERSION => {}
            _ => return Err(CaptureError::Newer(version)),
        }
        reader.at = start.len() as u64;
        match reader.next()? {
            Some(Block::Header(header)) => Ok((reader, header)),
            Some(
                Block::Clock(_)
                | Block::Events(_)
                | Block::Loss { .. }
                | Block::Hook { .. }
                | Block::Name(_)
                | Block::Time { .. }
                | Block::End { .. },
            ) => Err(CaptureError::Damaged {
                at: 12,
                what: "is not the header".to_owned(),
            }),
            None => Err(CaptureError::Truncated {
                at: 12,
                what: "its header",
            }),
        }
    }

    /// Returns how far it has read, bytes.
    pub const fn position(&self) -> u64 {
        self.at
    }

    /// Returns the next block; `None` at the end of the file.
    ///
    /// Fails when the file ends in the middle of a block, or the block is damaged.
    #[expect(
        clippy::should_implement_trait,
        reason = "an error ends it, and it is asked once"
    )]
    pub fn next(&mut self) -> Result<Option<Block>, CaptureError> {
        let at = self.at;
        let damaged = |what: &str| CaptureError::Damaged {
            at,
            what: what.to_owned(),
        };
        let mut head = [0; BLOCK_HEAD];
        match self.fill(&mut head)? {
            0 => return Ok(None),
            BLOCK_HEAD => {}
            _ => {
                return Err(CaptureError::Truncated {
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
            return Err(damaged("claims to be larger than any block"));
        }
        let mut payload = vec![0; length as usize];
        if self.fill(&mut payload)? < payload.len() {
            return Err(CaptureError::Truncated {
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
            .map_err(|what| CaptureError::Damaged { at, what })
    }

    /// Reads until the buffer is full or the file ends, and returns how much was read.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, CaptureError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(CaptureError::Read {
                        at: self.at + filled as u64,
                        source,
                    });
                }
            }
        }
        Ok(filled)
    }
}

/// Returns the kind of lost events.
fn kind_of_loss(number: u8) -> Result<Option<EventKind>, String> {
    let Some(index) = number.checked_sub(1) else {
        return Ok(None);
    };
    EventKind::ALL
        .get(usize::from(index))
        .map(|&kind| Some(kind))
        .ok_or_else(|| format!("tells of a loss of a kind {number}, not known here"))
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
            // Version 3 has no kind.
            let kind = if payload.len() == 12 {
                None
            } else {
                size(16)?;
                kind_of_loss(payload[12])?
            };
            let place = match payload[0] {
                0 => LossPlace::Ring,
                1 => LossPlace::Capture,
                2 => LossPlace::Kernel,
                3 => LossPlace::Decode,
                other => {
                    return Err(format!(
                        "tells of a loss at a place {other}, not known here"
                    ));
                }
            };
            Ok(Block::Loss {
                place,
                events: word(4),
                kind,
            })
        }
        KIND_HOOK => {
            size(16)?;
            let witness = EvidenceHook::ALL
                .get(usize::from(payload[0]))
                .copied()
                .ok_or_else(|| format!("tells of a hook {}, not known here", payload[0]))?;
            Ok(Block::Hook {
                witness,
                attached: payload[4] != 0,
                time_ns: word(8),
            })
        }
        KIND_NAME => serde_json::from_slice(&payload)
            .map(Block::Name)
            .map_err(|error| format!("is a name that cannot be read: {error}")),
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
