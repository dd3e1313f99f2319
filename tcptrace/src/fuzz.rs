//! What the fuzzer runs (`cargo xtask fuzz`), and the tests with every input that it found.
//!
//! Whatever the bytes are, each target returns: it does not panic, overflow or hang, and what it
//! writes has no control characters in it.

use std::{fs, hint::black_box, ops::ControlFlow};

use clap::Parser as _;
use tempfile::NamedTempFile;

use crate::{
    cli::{
        Cli, Command,
        config::{DaemonConfig, ReplayConfig},
        settings::Settings,
    },
    clock::{ClockReading, WallClock},
    driver::replay::{Replay, sources},
    exporter,
    feed::{
        decode,
        file::format::{BLOCK_HEAD, checksum},
    },
    host::{Host, cgroup::Cgroup, mountinfo},
    output::{
        record::Recorder,
        render::{Format, Look, Renderer},
        view::{ShownRecords, View, filter::Filter},
    },
    probe, sock_diag,
    sockets::levels,
    text::{is_hostile, visible_lines},
    tracker::{Consumer, Tracker, TrackerConfig, Update},
};

/// What is fuzzed.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

pub const TARGETS: [Target; 11] = [
    Target {
        name: "btf",
        run: probe::fuzz_btf,
    },
    Target {
        name: "capture",
        run: capture,
    },
    Target {
        name: "cgroup",
        run: cgroup,
    },
    Target {
        name: "configuration",
        run: configuration,
    },
    Target {
        name: "event",
        run: event,
    },
    Target {
        name: "filter",
        run: filter,
    },
    Target {
        name: "http",
        run: exporter::fuzz::http,
    },
    Target {
        name: "http2",
        run: exporter::fuzz::http2,
    },
    Target {
        name: "sock_diag",
        run: sock_diag::fuzz,
    },
    Target {
        name: "tracefs",
        run: probe::fuzz_tracefs,
    },
    Target {
        name: "web_config",
        run: web_config,
    },
];

/// Every record.
const ALL: ShownRecords = ShownRecords {
    transitions: true,
    handshakes: true,
    connections: true,
    releases: true,
};
/// Where the checksum is in a block's head, and where its length is.
const LENGTH_AT: usize = 4;
const CHECKSUM_AT: usize = 8;
/// Before the first block: the magic and the version.
const START: usize = 12;

/// An event as the ring has it.
fn event(bytes: &[u8]) {
    let decoded = decode::decode(bytes);
    let time = decode::time_of(bytes);
    if let Ok(event) = decoded {
        assert_eq!(time, Some(event.time_ns));
    }
    black_box(decode::cgroup_in(bytes));
}

/// A capture, as it is and with its checksums put right.
fn capture(bytes: &[u8]) {
    show(bytes, Filter::default);
    let mut mended = bytes.to_vec();
    let mut at = START;
    while let Some(head) = mended.get(at..at + BLOCK_HEAD) {
        let word = |at: usize| {
            head[at..]
                .first_chunk()
                .map_or(0, |word| u32::from_le_bytes(*word))
        };
        let (kind, length) = (word(0), word(LENGTH_AT));
        let payload = at + BLOCK_HEAD..(at + BLOCK_HEAD).saturating_add(length as usize);
        let Some(payload) = mended.get(payload.clone()) else {
            break;
        };
        let next = at + BLOCK_HEAD + payload.len();
        let sum = checksum(kind, length, payload).to_le_bytes();
        mended[at + CHECKSUM_AT..][..sum.len()].copy_from_slice(&sum);
        at = next;
    }
    if mended != bytes {
        show(&mended, Filter::default);
    }
}

/// Paths of cgroups and lists of mounts.
fn cgroup(bytes: &[u8]) {
    for mount in mountinfo::cgroup2_mounts(bytes) {
        assert!(mount.point.as_os_str().len() <= bytes.len());
    }
    assert!(mountinfo::mounts(bytes, "nsfs").count() <= bytes.len());
    if let Ok(text) = str::from_utf8(bytes) {
        let (path, term) = text.split_once('\n').unwrap_or((text, text));
        let cgroup = Cgroup::new(path);
        assert!(cgroup.is_within(path) || !path.starts_with('/'));
        cgroup.is_within(term);
        let range = levels::range(text);
        assert!(range.is_none_or(|(first, last)| first <= last));
        black_box(levels::counters(text));
    }
}

/// A file of `tcptrace daemon --config`.
fn configuration(bytes: &[u8]) {
    let file = written(bytes);
    let mut arguments = ["tcptrace", "daemon", "--config"].map(Into::into).to_vec();
    arguments.push(file.path().into());
    match Settings::read(arguments) {
        Ok((settings, cli)) => {
            assert_eq!(settings.differences(&settings), [""; 0]);
            if let Command::Daemon(args) = cli.command {
                drop(DaemonConfig::new(args));
            }
        }
        Err(error) => must_be_clean(error.to_string().as_bytes()),
    }
}

/// A file of `--web.config.file`.
fn web_config(bytes: &[u8]) {
    let file = written(bytes);
    if let Err(error) = exporter::check_file(Some(file.path())) {
        must_be_clean(visible_lines(&format!("{error:#}")).as_bytes());
    }
}

/// Arguments of a tail, one in each line, and what its filter shows of a stream.
fn filter(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let lines = text.split('\n');
    // The namespaces and files of this host are no input of a fuzzer.
    let arguments = lines.filter(|line| !line.contains('/') || line.starts_with("--cidr"));
    let arguments = ["tcptrace", "replay", "-"].into_iter().chain(arguments);
    if let Ok(cli) = Cli::try_parse_from(arguments)
        && let Command::Replay(args) = cli.command
        && let Ok(config) = ReplayConfig::new(*args)
    {
        let stream = include_bytes!("../tests/streams/6.18/nobody_listens.cap");
        show(stream, || config.view.filter.clone());
    }
}

/// Replays a capture into every format.
fn show(stream: &[u8], filter: impl Fn() -> Filter) {
    let Ok((mut replay, header)) = Replay::open(stream) else {
        return;
    };
    let host = Host {
        name: header.host.clone(),
        boot_id: header.boot_id.clone(),
        run: header.run.clone(),
    };
    let on_terminal = Look {
        terminal: true,
        ..Look::default()
    };
    let clock = WallClock::new(replay.clock());
    let mut tracker = Tracker::new(TrackerConfig {
        max_connections: 64,
        sources: sources(&header),
        transitions: true,
        ..TrackerConfig::default()
    });
    let mut shown = Shown {
        recorder: Recorder::new(&host, clock, header.reset_reasons),
        view: View::new(filter(), ALL),
        renderers: [Format::Table, Format::Diagram, Format::Json, Format::Csv]
            .map(|format| Renderer::new(format, on_terminal.clone())),
        out: Vec::new(),
    };
    for renderer in &mut shown.renderers {
        renderer.begin(&mut shown.out);
    }
    if let Err(error) = replay.play(&mut tracker, &mut shown) {
        must_be_clean(visible_lines(&error.to_string()).as_bytes());
    }
    assert!(tracker.connections().count() <= 64);
    must_be_clean(&shown.out);
}

struct Shown {
    recorder: Recorder,
    view: View,
    renderers: [Renderer; 4],
    out: Vec<u8>,
}

impl Consumer for Shown {
    fn begin_batch(&mut self, _: ClockReading) {}

    fn update(&mut self, update: &Update) {
        self.view.update(update, &self.recorder);
        while let Some(record) = self.view.next_row(u64::MAX) {
            for renderer in &mut self.renderers {
                renderer.record(&record, &mut self.out);
            }
        }
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What a terminal gets: text, and nothing that acts on it.
fn must_be_clean(shown: &[u8]) {
    let text = str::from_utf8(shown).expect("UTF-8");
    let hostile = text
        .chars()
        .find(|&c| is_hostile(c) && c != '\n' && c != '\t');
    assert_eq!(hostile, None, "{text:?}");
}

fn written(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    fs::write(file.path(), bytes).expect("a file");
    file
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, path::Path};

    use cpio::NewcReader;

    use super::*;

    /// Inputs by target, as the fuzzer found them.
    const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");

    #[test]
    fn every_input_that_was_found_is_withstood() {
        for target in &TARGETS {
            let archive = Path::new(CORPUS).join(target.name).with_extension("cpio");
            let mut rest = fs::read(&archive).unwrap();
            let mut count = 0;
            loop {
                let mut reader = NewcReader::new(&rest[..]).unwrap();
                if reader.entry().is_trailer() {
                    break;
                }
                let name = reader.entry().name().to_owned();
                let mut input = Vec::new();
                reader.read_to_end(&mut input).unwrap();
                rest = reader.finish().unwrap().to_vec();
                let outcome = std::panic::catch_unwind(|| (target.run)(&input));
                assert!(outcome.is_ok(), "{}: {name}", archive.display());
                count += 1;
            }
            assert!(count > 0, "there is nothing for {}", target.name);
        }
    }

    #[test]
    fn every_archive_of_inputs_has_its_target() {
        for archive in fs::read_dir(CORPUS).unwrap() {
            let path = archive.unwrap().path();
            let name = path.file_stem().unwrap();
            let is_known = TARGETS.iter().any(|target| target.name == name);
            assert!(is_known, "{}", path.display());
        }
    }
}
