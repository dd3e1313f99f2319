//! Each scenario's stream of events, cut out of one capture of the whole run.
//!
//! A capture sees the whole host. What is stored has only the scenario's own connections in it,
//! and nothing that tells one host or one day from another: the host's name, the boot, the
//! kernel's build, its addresses and the time are replaced, and the events are as they came but
//! for that.

use std::{
    collections::{HashMap, HashSet},
    fs,
    mem::offset_of,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, ensure};
use tcptrace::testing::{
    Block, Body, CaptureHeader, ClockReading, Details, Endpoints, Event, Reader, decode, events,
    monotonic_ns, push_event, write_clock, write_end, write_events, write_start,
};
use tcptrace_common::{AcceptEvent, EstablishedEvent, PassiveOpenEvent, TcpState, TimewaitEvent};

use super::{kernel::Kernel, watch::RING_SIZE};
use crate::support::{
    Check, Deadline, PATIENCE,
    namespace::Namespace,
    program::{Running, tcptrace},
    sentinel,
};

/// Between two looks at the capture.
const PAUSE: Duration = Duration::from_millis(20);
/// The time of a stream's beginning: a second after the boot.
const START_NS: u64 = 1_000_000_000;
/// That is 2026-01-01T00:00:00Z.
const OFFSET_NS: i64 = 1_767_225_600_000_000_000 - 1_000_000_000;
/// Sockets are numbered as if they lay a page apart.
const FIRST_SOCKET: u64 = 0xffff_8880_0000_0000;
const SOCKET_SIZE: u64 = 0x1000;
/// Where an event has its time and its socket (`EventHeader`).
const TIME_AT: usize = 0;
const SOCKET_AT: usize = 8;

/// A capture of the whole run.
pub(super) struct Recorder {
    /// Dropping it kills it.
    _running: Mutex<Running>,
    capture: PathBuf,
    directory: PathBuf,
}

/// The capture lost events of a scenario, or of something else at that time.
#[derive(Debug, thiserror::Error)]
#[error("the capture lost events meanwhile")]
pub(super) struct Lost;

/// One scenario's part of it.
pub(super) struct Recording<'a> {
    recorder: &'a Recorder,
    namespace: Namespace,
    from_ns: u64,
}

impl Recorder {
    /// Starts one and waits until it sees what happens. Streams will lie in a directory of this
    /// one, named after the kernel.
    pub(super) fn start(directory: &Path) -> anyhow::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let directory = directory.join(Kernel::here().series());
        fs::create_dir_all(&directory)
            .with_context(|| format!("making {}", directory.display()))?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".whole-{}-{count}", std::process::id());
        let capture = directory.join(name);
        let path = capture.to_str().context("a path that is not UTF-8")?;
        let recorder = Self {
            _running: Mutex::new(Running::start(&mut tcptrace(&[
                "capture",
                "--ring-size",
                RING_SIZE,
                "--force",
                path,
            ]))?),
            capture: capture.clone(),
            directory,
        };
        let first_namespace = Namespace::new()?;
        recorder.wait_until_past(&first_namespace, 0)?;
        Ok(recorder)
    }

    /// A scenario begins.
    pub(super) fn begin(&self, namespace: &Namespace) -> Recording<'_> {
        Recording {
            recorder: self,
            namespace: namespace.clone(),
            // Whole microseconds, so that times in those keep their distance.
            from_ns: monotonic_ns() / 1_000 * 1_000,
        }
    }

    /// Waits until the capture has what a sentinel leaves behind after this time, and answers
    /// with all it has.
    fn wait_until_past(&self, namespace: &Namespace, time_ns: u64) -> anyhow::Result<Whole> {
        let deadline = Deadline::after(PATIENCE);
        let is_it = |event: &Event| {
            let of_namespace = endpoints(event).is_some_and(|ends| {
                ends.netns
                    .is_some_and(|netns| netns.inode == namespace.inode())
                    && is_sentinels(ends)
            });
            event.time_ns > time_ns && ends_there(event) && of_namespace
        };
        loop {
            namespace.run(|| namespace.sentinel().ring().context("a sentinel"))?;
            if let Ok(whole) = Whole::read(&self.capture)
                && whole.events.iter().any(|(event, _)| is_it(event))
            {
                return Ok(whole);
            }
            ensure!(!deadline.is_over(), "the capture does not see a sentinel");
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.capture) {
            eprintln!("{}: {error}", self.capture.display());
        }
    }
}

impl Recording<'_> {
    /// Stores what happened since the beginning as the stream of that name.
    pub(super) fn store(&self, name: &str) -> Check {
        let until_ns = monotonic_ns();
        let whole = self.recorder.wait_until_past(&self.namespace, until_ns)?;
        let path = self.recorder.directory.join(format!("{name}.cap"));
        let meanwhile = |time_ns| (self.from_ns..until_ns).contains(&time_ns);
        if whole.losses.iter().copied().any(meanwhile) {
            return Err(Lost.into());
        }
        let file = self.file(&whole, until_ns);
        fs::write(&path, file).with_context(|| format!("writing {}", path.display()))
    }

    /// The file of the scenario's own events.
    fn file(&self, whole: &Whole, until_ns: u64) -> Vec<u8> {
        let since = |time_ns: u64| (START_NS + time_ns).saturating_sub(self.from_ns);
        let mut mine = HashSet::new();
        let mut numbers = HashMap::new();
        let mut payload = Vec::new();
        for (event, bytes) in &whole.events {
            if let Some(ends) = endpoints(event) {
                if ends
                    .netns
                    .is_some_and(|netns| netns.inode == self.namespace.inode())
                    && !is_sentinels(ends)
                {
                    mine.insert(event.socket);
                } else {
                    mine.remove(&event.socket);
                }
            }
            if !mine.contains(&event.socket) || !(self.from_ns..until_ns).contains(&event.time_ns) {
                continue;
            }
            let next = FIRST_SOCKET + SOCKET_SIZE * numbers.len() as u64;
            let socket = *numbers.entry(event.socket).or_insert(next);
            let mut bytes = bytes.clone();
            bytes[TIME_AT..][..8].copy_from_slice(&since(event.time_ns).to_le_bytes());
            bytes[SOCKET_AT..][..8].copy_from_slice(&socket.to_le_bytes());
            for (at, kind) in inside(&event.body) {
                let field = &mut bytes[at..][..8];
                let mut value = [0; 8];
                value.copy_from_slice(field);
                let value = match (kind, u64::from_le_bytes(value)) {
                    (_, 0) => 0,
                    (Inside::Nanoseconds, time) => since(time),
                    (Inside::Microseconds, time) => since(time * 1_000) / 1_000,
                    (Inside::Socket, socket) => {
                        let next = FIRST_SOCKET + SOCKET_SIZE * numbers.len() as u64;
                        *numbers.entry(socket).or_insert(next)
                    }
                };
                field.copy_from_slice(&value.to_le_bytes());
            }
            push_event(&bytes, &mut payload);
        }
        let mut file = Vec::new();
        write_start(&neutral(&whole.header), &mut file);
        let clock = ClockReading {
            monotonic_ns: START_NS,
            offset_ns: OFFSET_NS,
        };
        write_clock(clock, &mut file);
        write_events(&payload, &mut file);
        write_end(since(until_ns), &mut file);
        file
    }
}

/// What an event holds besides its own time and socket.
enum Inside {
    /// A time of the events' clock.
    Nanoseconds,
    /// The same in microseconds.
    Microseconds,
    /// Another socket's address.
    Socket,
}

/// Times and addresses in an event's body, and where they are.
fn inside(body: &Body) -> Vec<(usize, Inside)> {
    match body {
        Body::Transition(transition) => match transition.details {
            Details::PassiveOpen { .. } => vec![
                (
                    offset_of!(PassiveOpenEvent, synack_us),
                    Inside::Microseconds,
                ),
                (offset_of!(PassiveOpenEvent, listener), Inside::Socket),
            ],
            Details::Established { .. } => {
                vec![(offset_of!(EstablishedEvent, syn_ns), Inside::Nanoseconds)]
            }
            Details::Open { .. }
            | Details::Step
            | Details::Release { .. }
            | Details::Close { .. } => Vec::new(),
        },
        Body::Timewait { .. } => vec![(offset_of!(TimewaitEvent, timewait), Inside::Socket)],
        Body::Accept { .. } => vec![(offset_of!(AcceptEvent, listener), Inside::Socket)],
        Body::ResetReceived(_)
        | Body::ResetSent { .. }
        | Body::TimewaitStep { .. }
        | Body::SynackRetransmit(_)
        | Body::Seed(_)
        | Body::ConnectFailed(_)
        | Body::Held(_)
        | Body::Rename(_)
        | Body::Exit(_) => Vec::new(),
    }
}

/// What a capture has so far.
struct Whole {
    header: CaptureHeader,
    events: Vec<(Event, Vec<u8>)>,
    /// After the events of these times, events are missing.
    losses: Vec<u64>,
}

impl Whole {
    /// Reads a capture that is still being written: it may end anywhere.
    fn read(path: &Path) -> anyhow::Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let (mut reader, header) = Reader::open(&bytes[..])?;
        let mut whole = Self {
            header,
            events: Vec::new(),
            losses: Vec::new(),
        };
        while let Ok(Some(block)) = reader.next() {
            match block {
                Block::Events(payload) => {
                    for bytes in events(&payload) {
                        let bytes = bytes.map_err(anyhow::Error::msg)?;
                        whole.events.push((decode(bytes)?, bytes.to_vec()));
                    }
                }
                Block::Loss { .. } => {
                    let last = whole.events.last();
                    whole
                        .losses
                        .push(last.map_or(0, |(event, _)| event.time_ns));
                }
                Block::Header(_)
                | Block::Clock(_)
                | Block::Hook { .. }
                | Block::Name(_)
                | Block::Time { .. }
                | Block::End { .. } => {}
            }
        }
        Ok(whole)
    }
}

/// A header that tells of no particular host.
fn neutral(header: &CaptureHeader) -> CaptureHeader {
    // 6.12.43-vendor-7 is 6.12.43.
    let version = header
        .kernel_release
        .split(|c: char| !c.is_ascii_digit() && c != '.');
    CaptureHeader {
        kernel_release: version.take(1).collect(),
        host: Some("host".to_owned()),
        boot_id: Some("boot".to_owned()),
        run: "run".to_owned(),
        ..header.clone()
    }
}

fn endpoints(event: &Event) -> Option<&Endpoints> {
    event.body.endpoints()
}

/// It is the end of a socket.
fn ends_there(event: &Event) -> bool {
    let Body::Transition(transition) = &event.body else {
        return false;
    };
    transition.new == TcpState::Close && matches!(transition.details, Details::Close { .. })
}

fn is_sentinels(ends: &Endpoints) -> bool {
    [ends.local_port, ends.remote_port].contains(&sentinel::PORT)
}
