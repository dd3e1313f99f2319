//! A stream of events as long as wanted: one recorded connection, told again and again of other
//! sockets.

use std::{
    fs,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, ensure};
use tcptrace::testing::{
    Block, ClockReading, Reader, events, push_event, write_clock, write_end, write_events,
    write_start, write_time,
};
use tcptrace_common::{
    EventHeader, KIND_CLOSE, KIND_ESTABLISHED, KIND_OPEN, RawEndpoints, TcpState,
};
use zerocopy::{FromBytes as _, IntoBytes as _};

/// Between two connections' beginnings, nanoseconds.
const STEP_NS: u64 = 20_000;
/// Between two events, nanoseconds.
const BETWEEN_NS: u64 = 1_000;
/// Blocks of about this many bytes.
const BLOCK: usize = 1 << 18;

/// The events of a recorded client that was closed first, until it is open and from then on.
struct Life {
    opening: Vec<Vec<u8>>,
    closing: Vec<Vec<u8>>,
}

/// Writes a capture of at least `count` events, with `live` connections open at a time.
pub(crate) fn write(count: u64, live: u64) -> anyhow::Result<()> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/6.12/half_close_by_us.cap");
    let stream = fs::read(&path).with_context(|| path.display().to_string())?;
    let (mut reader, header) = Reader::open(&stream[..])?;
    let mut clock = None;
    let mut recorded = Vec::new();
    while let Some(block) = reader.next()? {
        match block {
            Block::Clock(reading) => clock = clock.or(Some(reading)),
            Block::Events(payload) => {
                for event in events(&payload) {
                    recorded.push(event.map_err(anyhow::Error::msg)?.to_vec());
                }
            }
            Block::Header(_)
            | Block::Loss { .. }
            | Block::Hook { .. }
            | Block::Name(_)
            | Block::Time { .. }
            | Block::End { .. } => {}
        }
    }
    let clock: ClockReading = clock.context("the stream has no clock")?;
    let life = life(&recorded)?;
    let start = time(&recorded[0])?;

    let mut out = BufWriter::with_capacity(1 << 20, io::stdout().lock());
    let mut bytes = Vec::new();
    write_start(&header, &mut bytes);
    write_clock(clock, &mut bytes);
    let mut block = Vec::new();
    let mut written = 0;
    let mut now = start;
    let mut index = 0;
    while written < count {
        now = start + index * STEP_NS;
        let mut tell = |events: &[Vec<u8>], connection: u64| -> anyhow::Result<()> {
            for event in events {
                let mut event = event.clone();
                move_to(&mut event, connection, now)?;
                now += BETWEEN_NS;
                push_event(&event, &mut block);
                written += 1;
            }
            Ok(())
        };
        tell(&life.opening, index)?;
        if let Some(oldest) = index.checked_sub(live) {
            tell(&life.closing, oldest)?;
        }
        index += 1;
        if block.len() >= BLOCK {
            write_events(&block, &mut bytes);
            write_time(now, &mut bytes);
            out.write_all(&bytes)?;
            block.clear();
            bytes.clear();
        }
    }
    write_events(&block, &mut bytes);
    write_end(now + STEP_NS, &mut bytes);
    out.write_all(&bytes)?;
    out.flush()?;
    Ok(())
}

/// Picks the events of the stream's first client.
fn life(recorded: &[Vec<u8>]) -> anyhow::Result<Life> {
    let mut socket = None;
    let mut life = Life {
        opening: Vec::new(),
        closing: Vec::new(),
    };
    for event in recorded {
        let (header, _) = EventHeader::read_from_prefix(event)
            .ok()
            .context("an event without a header")?;
        let opens = header.kind == KIND_OPEN && header.new_state == TcpState::SynSent.raw();
        if socket.is_none() && opens {
            socket = Some(header.socket);
        }
        if socket != Some(header.socket) {
            continue;
        }
        let is_open = life.opening.last().is_some_and(|event: &Vec<u8>| {
            EventHeader::read_from_prefix(event)
                .is_ok_and(|(header, _)| header.kind == KIND_ESTABLISHED)
        });
        if is_open {
            &mut life.closing
        } else {
            &mut life.opening
        }
        .push(event.clone());
    }
    ensure!(
        !life.closing.is_empty(),
        "the stream has no client that ends"
    );
    Ok(life)
}

fn time(event: &[u8]) -> anyhow::Result<u64> {
    let (header, _) = EventHeader::read_from_prefix(event)
        .ok()
        .context("an event without a header")?;
    Ok(header.time_ns)
}

/// Makes an event one of another connection: its socket, cookie, addresses and time.
fn move_to(event: &mut [u8], connection: u64, now: u64) -> anyhow::Result<()> {
    let (mut header, rest) = EventHeader::read_from_prefix(event)
        .ok()
        .context("an event without a header")?;
    let after = event.len() - rest.len();
    let endpoints = RawEndpoints::read_from_prefix(rest)
        .ok()
        .map(|(endpoints, _)| endpoints);
    let end = after + size_of::<RawEndpoints>();
    header.time_ns = now;
    header.socket = 0xffff_8880_0000_0000 + (connection << 12);
    header.cookie = connection + 1;
    event[..after].copy_from_slice(header.as_bytes());
    if [KIND_OPEN, KIND_ESTABLISHED, KIND_CLOSE].contains(&header.kind) {
        let mut endpoints = endpoints.context("an event without endpoints")?;
        endpoints.local_port = 32_768 + (connection % 28_000) as u16;
        let host = 0x0a00_0001 + (connection / 28_000) as u32;
        endpoints.remote_address[..4].copy_from_slice(&host.to_be_bytes());
        event[after..end].copy_from_slice(endpoints.as_bytes());
    }
    Ok(())
}
