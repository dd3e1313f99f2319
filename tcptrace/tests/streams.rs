//! The committed streams of events, replayed: what tcptrace says of each scenario on each kernel,
//! in a second and without a kernel.
//!
//! `streams/<kernel>/<scenario>.cap` is what the kernel sent while a scenario of the kernel tests
//! was played there (`TCPTRACE_RECORD_DIR`), and the `.jsonl` beside it all that is said of it.
//! `TCPTRACE_BLESS=1` writes the latter anew; what changed is then for the reviewer to judge.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
};

use proptest::prelude::*;
use serde_json::{Map, Value};
use similar::{ChangeTag, TextDiff};
use tcptrace::testing::{
    Block, CaptureError, ClockReading, Consumer, EventKind, Filter, Format, Host, Item, Look,
    LossPlace, Reader, Recorder, Renderer, Replay, ShownRecords, Tracker, TrackerConfig, Update,
    View, WallClock, decode, events, push_event, sources, write_end, write_events, write_loss,
    write_start, write_time,
};

const BLESS: &str = "TCPTRACE_BLESS";
/// Every record.
const ALL: ShownRecords = ShownRecords {
    transitions: true,
    handshakes: true,
    connections: true,
    releases: true,
};

/// Every stream there is, by kernel and scenario.
fn streams() -> Vec<PathBuf> {
    files_with_extension("cap")
}

fn files_with_extension(extension: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams");
    let mut found = Vec::new();
    for kernel in fs::read_dir(directory).expect("there are streams") {
        let kernel = kernel.expect("a directory of streams").path();
        for file in fs::read_dir(kernel).expect("a directory of streams") {
            found.push(file.expect("a stream").path());
        }
    }
    found.retain(|path| path.extension().is_some_and(|found| found == extension));
    found.sort();
    found
}

/// `6.12/refused_by_rst`.
fn name(path: &Path) -> String {
    let name = path.with_extension("");
    let parts: Vec<_> = name.iter().rev().take(2).collect();
    format!("{}/{}", parts[1].display(), parts[0].display())
}

/// Keeps every update.
struct Updates(Vec<Update>);

impl Consumer for Updates {
    fn begin_batch(&mut self, _: ClockReading) {}

    fn update(&mut self, update: &Update) {
        self.0.push(update.clone());
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// What becomes of a stream, and what is wrong with it.
fn replay(stream: &[u8]) -> (Vec<Update>, Result<(), CaptureError>) {
    let mut updates = Updates(Vec::new());
    let outcome = Replay::open(stream).and_then(|(mut replay, header)| {
        let mut tracker = Tracker::new(TrackerConfig {
            sources: sources(&header),
            ..TrackerConfig::default()
        });
        replay.play(&mut tracker, &mut updates)
    });
    (updates.0, outcome)
}

/// The records of a whole stream, as JSON and as CSV, in the order in which they become known.
fn records(path: &Path) -> [String; 2] {
    let stream = fs::read(path).expect("a stream");
    let (replay, header) = Replay::open(&stream[..]).expect("a stream");
    let host = Host {
        name: header.host,
        boot_id: header.boot_id,
        run: header.run,
    };
    let recorder = Recorder::new(&host, WallClock::new(replay.clock()), header.reset_reasons);
    let mut view = View::new(Filter::default(), ALL);
    let (updates, outcome) = self::replay(&stream);
    outcome.unwrap_or_else(|error| panic!("{}: {error}", name(path)));
    let mut out = [Vec::new(), Vec::new()];
    let formats = [Format::Json, Format::Csv];
    let mut renderers = formats.map(|format| Renderer::new(format, Look::default()));
    renderers[1].begin(&mut out[1]);
    for update in updates {
        view.update(&update, &recorder);
        while let Some(record) = view.next_row(u64::MAX) {
            for (renderer, out) in renderers.iter_mut().zip(&mut out) {
                renderer.record(&record, out);
            }
        }
    }
    out.map(|out| String::from_utf8(out).expect("UTF-8"))
}

#[test]
fn every_stream_gives_its_golden_updates() {
    let mut different = String::new();
    for path in streams() {
        let [said, _] = records(&path);
        let golden = path.with_extension("jsonl");
        if std::env::var_os(BLESS).is_some_and(|bless| bless == "1") {
            fs::write(&golden, said).expect("the golden file can be written");
            continue;
        }
        let expected = fs::read_to_string(&golden)
            .unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
        let diff = TextDiff::from_lines(&expected, &said);
        for change in diff
            .iter_all_changes()
            .filter(|it| it.tag() != ChangeTag::Equal)
        {
            write!(different, "{} {}{change}", name(&path), change.tag()).expect("memory");
        }
    }
    for golden in files_with_extension("jsonl") {
        assert!(
            golden.with_extension("cap").exists(),
            "{} has no stream",
            name(&golden)
        );
    }
    assert!(
        different.is_empty(),
        "tcptrace says something else than it did. If it should, {BLESS}=1 takes it over.\n\
         {different}"
    );
}

/// `tcptrace replay` is the same path, with filters and a writer.
#[test]
fn replay_of_each_kernels_stream_prints_the_golden_output() {
    let by_kernel: BTreeMap<PathBuf, PathBuf> = streams()
        .into_iter()
        .map(|path| (path.parent().expect("a kernel").to_owned(), path))
        .collect();
    for path in by_kernel.values() {
        let output = Command::new(env!("CARGO_BIN_EXE_tcptrace"))
            .args(["replay", "--format", "json"])
            .args(["--show", "transitions,handshakes,connections,releases"])
            .arg(path)
            .output()
            .expect("the command can be run");
        assert!(output.status.success(), "{}: {output:?}", name(path));
        let said = String::from_utf8(output.stdout).expect("JSON is UTF-8");
        assert_eq!(said, records(path)[0], "{}", name(path));
    }
}

#[test]
fn no_stream_tells_where_it_was_recorded() {
    for path in streams() {
        for line in records(&path)[0].lines() {
            let record: Map<String, Value> = serde_json::from_str(line).expect("JSON");
            assert_eq!(record["host"], "host", "{}", name(&path));
            assert_eq!(record["boot_id"], "boot", "{}", name(&path));
            let time = record["time"].as_str().expect("a time");
            assert!(
                time.starts_with("2026-01-01T00:0"),
                "{}: {time}",
                name(&path)
            );
        }
    }
}

#[test]
fn a_truncated_stream_is_an_error_after_its_whole_events() {
    let longest = streams()
        .into_iter()
        .max_by_key(|path| fs::metadata(path).map_or(0, |data| data.len()))
        .expect("there are streams");
    let stream = fs::read(&longest).expect("a stream");
    let (whole, outcome) = replay(&stream);
    outcome.expect("it is whole");
    for length in 0..stream.len() {
        let (said, outcome) = replay(&stream[..length]);
        assert!(
            said.len() <= whole.len(),
            "{length} bytes say more than all"
        );
        assert!(outcome.is_err(), "{length} bytes are taken for all");
    }
}

#[test]
fn a_record_has_the_same_fields_in_csv_as_in_json() {
    for path in streams() {
        let [json, csv] = records(&path);
        let mut csv = csv::Reader::from_reader(csv.as_bytes());
        let columns = csv.headers().expect("a header").clone();
        for (json, row) in json
            .lines()
            .zip(csv.records().map(|row| row.expect("a row")))
        {
            let mut record: Map<String, Value> = serde_json::from_str(json).expect("JSON");
            for (column, text) in columns.iter().zip(&row) {
                let expected = match record.remove(column) {
                    None => String::new(),
                    Some(Value::String(text)) => text,
                    Some(other) => other.to_string(),
                };
                assert_eq!(text, expected, "{}: {column} of {json}", name(&path));
            }
            assert!(record.is_empty(), "no column for {record:?}");
        }
    }
}

/// What a batch of a live trace holds: events, then what was lost among them, then the time.
#[derive(Clone, Copy, Debug)]
struct Batch {
    events: usize,
    lost: u64,
    /// The file has its events in blocks of so many.
    block: usize,
}

fn batch() -> impl Strategy<Value = Batch> {
    let lost = prop_oneof![3 => Just(0), 1 => 1..4_u64];
    (0..12_usize, lost, 1..5_usize).prop_map(|(events, lost, block)| Batch {
        events,
        lost,
        block,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The same items, taken as they come and written to a file and read again, say the same.
    #[test]
    fn a_capture_says_what_the_trace_would_have_said(
        which in any::<prop::sample::Index>(),
        // Events that never came.
        missing in prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        batches in prop::collection::vec(batch(), 1..20),
    ) {
        let stream = fs::read(which.get(&streams())).expect("a stream");
        let (mut reader, header) = Reader::open(&stream[..]).expect("a header");
        let mut all = Vec::new();
        while let Some(block) = reader.next().expect("a block") {
            if let Block::Events(payload) = block {
                all.extend(events(&payload).map(|bytes| bytes.expect("an event").to_vec()));
            }
        }
        for index in missing {
            if !all.is_empty() {
                all.remove(index.index(all.len()));
            }
        }
        let config = TrackerConfig {
            sources: sources(&header),
            ..TrackerConfig::default()
        };
        let (mut live, mut said) = (Tracker::new(config), Vec::new());
        let mut file = Vec::new();
        write_start(&header, &mut file);
        let (mut rest, mut now_ns) = (&all[..], 0);
        let last = Batch { events: all.len(), lost: 0, block: 3 };
        for Batch { events, lost, block } in batches.into_iter().chain([last]) {
            let (taken, left) = rest.split_at(events.min(rest.len()));
            rest = left;
            for bytes in taken {
                let event = decode(bytes).expect("an event");
                now_ns = event.time_ns;
                said.extend(live.apply(&Item::Event(event)));
            }
            for events in taken.chunks(block) {
                let mut payload = Vec::new();
                events.iter().for_each(|bytes| push_event(bytes, &mut payload));
                write_events(&payload, &mut file);
            }
            let kind = EventKind::ALL.iter().copied().nth(events % (EventKind::ALL.len() + 1));
            said.extend(live.apply(&Item::Loss { events: lost, place: LossPlace::Ring, kind }));
            write_loss(LossPlace::Ring, lost, kind, &mut file);
            said.extend(live.apply(&Item::Time(now_ns)));
            write_time(now_ns, &mut file);
        }
        said.extend(live.apply(&Item::Time(u64::MAX)));
        write_end(u64::MAX, &mut file);
        said.extend(live.finish());

        let (heard, outcome) = replay(&file);
        outcome.expect("a whole file");
        prop_assert_eq!(format!("{heard:#?}"), format!("{said:#?}"));
    }
}
