//! The parts of user space, one by one and in this process: reading a capture, decoding its events,
//! tracking connections, making records, rendering rows.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures elapsed time, which comes in no event"
)]

use std::{
    fs,
    hint::black_box,
    ops::ControlFlow,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};
use tcptrace::testing::{
    Block, ClockReading, Consumer, Filter, Format, Host, Look, Reader, Record, Recorder, Renderer,
    Replay, ShownRecords, Tracker, TrackerConfig, Update, View, WallClock, decode, events, sources,
};

const FORMATS: [(&str, Format); 4] = [
    ("json", Format::Json),
    ("csv", Format::Csv),
    ("table", Format::Table),
    ("diagram", Format::Diagram),
];

/// Rows kept for the renderers.
const ROWS: usize = 100_000;

/// Measures the parts with a capture, and prints nanoseconds an event, or a row.
pub(crate) fn measure(path: &Path) -> Result<()> {
    let capture = fs::read(path).with_context(|| path.display().to_string())?;
    let (count, reading) = read(&capture, |_| Ok(()))?;
    let (_, decoding) = read(&capture, |event| {
        black_box(decode(event)?);
        Ok(())
    })?;
    let (_, tracking) = play(&capture, |_| Nothing)?;
    let (records, recording) = play(&capture, |recorder| Records {
        view: View::new(
            Filter::default(),
            ShownRecords {
                transitions: false,
                handshakes: false,
                connections: true,
                releases: false,
            },
        ),
        recorder,
        made: 0,
        kept: Vec::new(),
    })?;
    ensure!(
        count > 0 && !records.kept.is_empty(),
        "{} has no events, or no connections",
        path.display()
    );
    let each = |took: Duration, count: u64| took.as_nanos() as f64 / count as f64;
    let mut result = Map::new();
    let mut put = |name: &str, each: f64| result.insert(name.to_owned(), Value::from(each));
    put("read", each(reading, count));
    put("decode", each(decoding.saturating_sub(reading), count));
    put("track", each(tracking.saturating_sub(decoding), count));
    put(
        "record",
        each(recording.saturating_sub(tracking), records.made),
    );
    for (name, format) in FORMATS {
        let mut renderer = Renderer::new(format, Look::default());
        let mut out = Vec::new();
        renderer.begin(&mut out);
        let start = Instant::now();
        for record in &records.kept {
            out.clear();
            renderer.record(record, &mut out);
            black_box(&out);
        }
        put(name, each(start.elapsed(), records.kept.len() as u64));
    }
    println!("{}", json!(result));
    Ok(())
}

/// Passes the bytes of each event to `take`, and returns how many there were and how long it took.
fn read(capture: &[u8], mut take: impl FnMut(&[u8]) -> Result<()>) -> Result<(u64, Duration)> {
    let start = Instant::now();
    let (mut reader, _) = Reader::open(capture)?;
    let mut count = 0;
    while let Some(block) = reader.next()? {
        if let Block::Events(payload) = block {
            for event in events(&payload) {
                take(event.map_err(anyhow::Error::msg)?)?;
                count += 1;
            }
        }
    }
    Ok((count, start.elapsed()))
}

/// Plays the capture, and returns the consumer and how long it took.
fn play<C: Consumer>(
    capture: &[u8],
    consumer: impl FnOnce(Recorder) -> C,
) -> Result<(C, Duration)> {
    let start = Instant::now();
    let (mut replay, header) = Replay::open(capture)?;
    let mut tracker = Tracker::new(TrackerConfig {
        sources: sources(&header),
        ..TrackerConfig::default()
    });
    let host = Host {
        name: header.host,
        boot_id: header.boot_id,
        run: header.run,
    };
    let clock = WallClock::new(replay.clock());
    let mut consumer = consumer(Recorder::new(&host, clock, header.reset_reasons));
    replay.play(&mut tracker, &mut consumer)?;
    Ok((consumer, start.elapsed()))
}

/// Shows nothing.
struct Nothing;

impl Consumer for Nothing {
    fn begin_batch(&mut self, _: ClockReading) {}

    fn update(&mut self, update: &Update) {
        black_box(update);
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Makes records of connections, and keeps the first [`ROWS`].
struct Records {
    view: View,
    recorder: Recorder,
    made: u64,
    kept: Vec<Record>,
}

impl Consumer for Records {
    fn begin_batch(&mut self, _: ClockReading) {}

    fn update(&mut self, update: &Update) {
        self.view.update(update, &self.recorder);
        while let Some(record) = self.view.next_row(u64::MAX) {
            self.made += 1;
            if self.kept.len() < ROWS {
                self.kept.push(*record);
            }
        }
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
