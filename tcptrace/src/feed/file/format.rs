//! The capture file.
//!
//! ```text
//! magic      8 bytes   "tcptrace"
//! version    u32       4
//! block      …         until the end of the file
//!
//! block:
//!   kind     u32       1 header, 2 clock, 3 events, 4 loss, 5 end, 6 time, 7 name, 8 hook
//!   length   u32       bytes of payload, at most 16 MiB
//!   checksum u32       CRC-32 (IEEE) of kind, length and payload
//!   payload
//!
//! header:   JSON of [`CaptureHeader`]; the first block, and only that
//! clock:    monotonic_ns u64, offset_ns i64; valid from that time on
//! events:   length u16 and that many bytes, repeated: the bytes of the ring
//! loss:     place u32 (0 ring, 1 capture, 2 kernel, 3 decode), events u64, kind u32 (0 unknown,
//!           otherwise its index in `EventKind::ALL` plus 1); missing since the last time block.
//!           Version 3 has no kind
//! time:     monotonic_ns u64; everything before that moment was reported, losses included
//! name:     JSON of [`Name`]: of a number in events that follow
//! hook:     hook u32 (index in `EvidenceHook::ALL`), attached u32 (1 or 0), monotonic_ns u64
//! end:      monotonic_ns u64; the capture was ended in order
//! ```
//!
//! All integers are little-endian, as are the events of the machines that tcptrace runs on. Each
//! block is whole or it is not there: what comes before a torn or damaged one can be read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    clock::ClockReading,
    feed::{
        item::{EventKind, EvidenceHook, LossPlace},
        name::Name,
    },
};

pub(super) const MAGIC: [u8; 8] = *b"tcptrace";
/// The newest version, and the one written.
pub const VERSION: u32 = 4;
/// The oldest version that can be read: its events have the same layout.
pub const OLDEST_VERSION: u32 = 3;
/// The most bytes of payload in a block.
pub const MAX_PAYLOAD: usize = 16 << 20;
pub const BLOCK_HEAD: usize = 12;

pub(super) const KIND_HEADER: u32 = 1;
pub(super) const KIND_CLOCK: u32 = 2;
pub(super) const KIND_EVENTS: u32 = 3;
pub(super) const KIND_LOSS: u32 = 4;
pub(super) const KIND_END: u32 = 5;
pub(super) const KIND_TIME: u32 = 6;
pub(super) const KIND_NAME: u32 = 7;
pub(super) const KIND_HOOK: u32 = 8;

/// Where and how a capture was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaptureHeader {
    /// The version of tcptrace.
    pub tcptrace: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// `uname -n`, if it is the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The host's boot id, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// The prefix of each connection's id.
    pub run: String,
    pub hooks: Vec<HookEntry>,
    /// The capturing kernel's names of `enum sk_rst_reason`, by number.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reset_reasons: BTreeMap<u32, String>,
}

/// How a hook was attached, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookEntry {
    /// The kernel's name for it.
    pub hook: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    Header(CaptureHeader),
    Clock(ClockReading),
    /// Events, to be split by [`events`].
    Events(Vec<u8>),
    /// Events are missing here.
    Loss {
        place: LossPlace,
        events: u64,
        /// The kind of the events; `None` if not known.
        kind: Option<EventKind>,
    },
    /// A hook was attached or detached while the others went on.
    Hook {
        witness: EvidenceHook,
        /// Attached from then on; otherwise detached.
        attached: bool,
        time_ns: u64,
    },
    /// The name of a number in events that follow.
    Name(Name),
    /// Everything before this moment was reported, losses included.
    Time {
        monotonic_ns: u64,
    },
    /// The capture was ended in order.
    End {
        monotonic_ns: u64,
    },
}

/// Appends the start of a file.
pub fn write_start(header: &CaptureHeader, out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    // A struct of strings always serializes.
    write_block(
        KIND_HEADER,
        &serde_json::to_vec(header).unwrap_or_default(),
        out,
    );
}

/// Appends a clock reading.
pub fn write_clock(reading: ClockReading, out: &mut Vec<u8>) {
    let mut payload = [0; 16];
    payload[..8].copy_from_slice(&reading.monotonic_ns.to_le_bytes());
    payload[8..].copy_from_slice(&reading.offset_ns.to_le_bytes());
    write_block(KIND_CLOCK, &payload, out);
}

/// Appends events put together by [`push_event`].
pub fn write_events(events: &[u8], out: &mut Vec<u8>) {
    write_block(KIND_EVENTS, events, out);
}

pub fn write_name(name: &Name, out: &mut Vec<u8>) {
    // A struct of strings and numbers always serializes.
    write_block(
        KIND_NAME,
        &serde_json::to_vec(name).unwrap_or_default(),
        out,
    );
}

/// Appends a loss.
pub fn write_loss(place: LossPlace, events: u64, kind: Option<EventKind>, out: &mut Vec<u8>) {
    let mut payload = [0; 16];
    let place: u32 = match place {
        LossPlace::Ring => 0,
        LossPlace::Capture => 1,
        LossPlace::Kernel => 2,
        LossPlace::Decode => 3,
    };
    payload[..4].copy_from_slice(&place.to_le_bytes());
    payload[4..12].copy_from_slice(&events.to_le_bytes());
    let kind = kind.map_or(0, |kind| kind as u32 + 1);
    payload[12..].copy_from_slice(&kind.to_le_bytes());
    write_block(KIND_LOSS, &payload, out);
}

/// Appends that a hook was attached or detached.
pub fn write_hook(witness: EvidenceHook, attached: bool, time_ns: u64, out: &mut Vec<u8>) {
    let mut payload = [0; 16];
    payload[..4].copy_from_slice(&(witness as u32).to_le_bytes());
    payload[4..8].copy_from_slice(&u32::from(attached).to_le_bytes());
    payload[8..].copy_from_slice(&time_ns.to_le_bytes());
    write_block(KIND_HOOK, &payload, out);
}

/// Appends that everything before this moment was reported, losses included.
pub fn write_time(monotonic_ns: u64, out: &mut Vec<u8>) {
    write_block(KIND_TIME, &monotonic_ns.to_le_bytes(), out);
}

pub fn write_end(monotonic_ns: u64, out: &mut Vec<u8>) {
    write_block(KIND_END, &monotonic_ns.to_le_bytes(), out);
}

/// Adds an event to a block's payload.
pub fn push_event(bytes: &[u8], payload: &mut Vec<u8>) {
    // An event has at most 144 bytes; anything longer is no event.
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    payload.extend_from_slice(&length.to_le_bytes());
    payload.extend_from_slice(&bytes[..usize::from(length)]);
}

/// Splits a block's payload into events; `Err` if its length does not fit.
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

pub fn checksum(kind: u32, length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&kind.to_le_bytes());
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
#[path = "format_tests.rs"]
mod tests;
