//! `tcptrace tail`: connections as they open and close, in a terminal or a pipe.

use std::{fmt, ops::ControlFlow};

use anyhow::Context;
use hashbrown::HashMap;

use crate::{
    clock::{ClockReading, WallClock},
    config::{TailConfig, ViewConfig},
    filter::{Decision, Filter},
    host::Host,
    output::{Patience, Renderer, Writer, WriterState},
    probe::Probe,
    pump::{pump, runtime},
    record::{Record, Recorder},
    say, startup,
    stop::Stop,
    tracer::{Consumer, Tracer},
    tracker::{LossPlace, Tracker, TrackerConfig, Update},
};

/// Rows that may wait for their connection to be judged.
const WAITING: usize = 1 << 16;
/// Rows that may pile up before a slow reader, beside the batches under way.
const UNWRITTEN: usize = 1 << 15;

/// Which records are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Every state transition.
    pub transitions: bool,
    /// Connections as they are established.
    pub handshakes: bool,
    /// Connections as they end.
    pub connections: bool,
}

/// What a tail counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections that passed the filter.
    pub seen: u64,
    /// Of those, never established.
    pub failed: u64,
    /// Events lost.
    pub lost: u64,
    /// Connections given up for lack of room (`--max-connections`).
    pub evicted: u64,
    /// Rows dropped: the reader was too slow.
    pub rows_dropped: u64,
    /// Rows dropped: too many waited for their connection to be judged by the filter.
    pub rows_unjudged: u64,
}

/// Losses for which there was no room in the output yet.
#[derive(Clone, Copy, Debug, Default)]
struct Unsaid {
    /// Events, by [`LossPlace::ALL`].
    events: [u64; LossPlace::ALL.len()],
    /// Rows that the output had no room for.
    rows: u64,
    /// Rows that could not wait for their connection to be judged.
    unjudged: u64,
}

impl Unsaid {
    fn add(&mut self, events: u64, place: LossPlace) {
        let lost = &mut self.events[place as usize];
        *lost = lost.saturating_add(events);
    }

    /// A record for each, which from now on are said.
    fn take(&mut self, recorder: &Recorder, now_ns: u64) -> Vec<Record> {
        let Self {
            events,
            rows,
            unjudged,
        } = std::mem::take(self);
        let places = LossPlace::ALL.into_iter().zip(events);
        let mut records: Vec<_> = places
            .filter(|&(_, events)| events > 0)
            .map(|(place, events)| recorder.loss(events, place, now_ns))
            .collect();
        if rows > 0 {
            records.push(recorder.output_loss(rows, now_ns));
        }
        if unjudged > 0 {
            records.push(recorder.filter_loss(unjudged, now_ns));
        }
        records
    }
}

/// Shows what the tracker says.
pub struct Tail {
    recorder: Recorder,
    /// The events' clock at the beginning of the batch.
    now_ns: u64,
    filter: Filter,
    shown: Shown,
    writer: Option<Writer<Record>>,
    /// Rows of connections that cannot be judged yet.
    waiting: HashMap<u64, Vec<Record>>,
    waiting_rows: usize,
    counts: Counts,
    unsaid: Unsaid,
    rows_left: Option<u64>,
    ended: Option<WriterState>,
}

impl Tail {
    /// Writes a row, or counts that there was no room. Returns whether it was written.
    fn put(&mut self, record: Record) -> bool {
        match &mut self.writer {
            Some(writer) if writer.has_room() => {
                writer.put(record);
                true
            }
            Some(_) | None => {
                self.counts.rows_dropped += 1;
                self.unsaid.rows += 1;
                false
            }
        }
    }

    /// Writes a row that was asked for, unless enough were written.
    fn show(&mut self, record: Record) {
        match self.rows_left {
            Some(0) => {}
            Some(left) => {
                if self.put(record) {
                    self.rows_left = Some(left - 1);
                }
            }
            None => {
                self.put(record);
            }
        }
    }

    /// Shows a record of a connection, now or when it can be judged.
    fn judge(&mut self, id: u64, decision: Decision, record: Option<Record>) {
        match decision {
            Decision::Show => {
                if let Some(rows) = self.waiting.remove(&id) {
                    self.waiting_rows -= rows.len();
                    for row in rows {
                        self.show(row);
                    }
                }
                if let Some(record) = record {
                    self.show(record);
                }
            }
            Decision::Hide => {
                if let Some(rows) = self.waiting.remove(&id) {
                    self.waiting_rows -= rows.len();
                }
            }
            Decision::Later => {
                let Some(record) = record else {
                    return;
                };
                if self.waiting_rows < WAITING {
                    self.waiting_rows += 1;
                    self.waiting.entry(id).or_default().push(record);
                } else {
                    self.counts.rows_unjudged += 1;
                    self.unsaid.unjudged += 1;
                }
            }
        }
    }

    /// Says what was lost, if there is room. Whatever the filter, and not one of the rows asked
    /// for.
    fn say_losses(&mut self) {
        if let Some(writer) = &mut self.writer
            && writer.has_room()
        {
            for record in self.unsaid.take(&self.recorder, self.now_ns) {
                writer.put(record);
            }
        }
    }

    /// A tail that shows what `view` says, on standard output.
    ///
    /// # Errors
    ///
    /// When the writer's thread cannot be started.
    pub fn start(
        recorder: Recorder,
        view: ViewConfig,
        patience: Patience,
        now_ns: u64,
    ) -> anyhow::Result<Self> {
        let mut renderer = Renderer::new(view.format, view.style);
        let mut head = Vec::new();
        renderer.begin(&mut head);
        let render = move |record: &Record, out: &mut Vec<u8>| renderer.record(record, out);
        let writer = Writer::start(std::io::stdout(), head, render, UNWRITTEN, patience)
            .context("starting the writer's thread")?;
        Ok(Self::new(
            recorder,
            view.filter,
            view.shown,
            view.count,
            writer,
            now_ns,
        ))
    }

    fn new(
        recorder: Recorder,
        filter: Filter,
        shown: Shown,
        count: Option<u64>,
        writer: Writer<Record>,
        now_ns: u64,
    ) -> Self {
        Self {
            recorder,
            now_ns,
            filter,
            shown,
            writer: Some(writer),
            waiting: HashMap::new(),
            waiting_rows: 0,
            counts: Counts::default(),
            unsaid: Unsaid::default(),
            rows_left: count,
            ended: None,
        }
    }

    /// Every transition is shown.
    #[must_use]
    pub const fn shows_transitions(&self) -> bool {
        self.shown.transitions
    }

    /// What it counted.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Writes what waits, counts what is still open, and answers how the output ended.
    pub fn finish(&mut self, tracker: &Tracker) -> WriterState {
        self.count_live(tracker);
        if let Some(writer) = &mut self.writer {
            // A few rows, for which there is room beyond the bound.
            for record in self.unsaid.take(&self.recorder, self.now_ns) {
                writer.put(record);
            }
        }
        match (self.ended.take(), self.writer.take()) {
            (Some(ended), _) => ended,
            (None, Some(writer)) => writer.finish(),
            (None, None) => WriterState::Done,
        }
    }

    /// Adds the connections that are still open.
    fn count_live(&mut self, tracker: &Tracker) {
        for connection in tracker.connections() {
            if self.filter.connection(connection, true) == Decision::Show {
                self.counts.seen += 1;
            }
        }
    }
}

impl Consumer for Tail {
    fn begin_batch(&mut self, now: ClockReading) {
        self.now_ns = now.monotonic_ns;
        self.recorder.learn_clock(now);
    }

    fn update(&mut self, update: &Update) {
        match update {
            Update::Transition {
                connection,
                from,
                to,
                time,
                in_state_ns,
            } => {
                let decision = self.filter.connection(connection, false);
                let record = (self.shown.transitions && decision != Decision::Hide).then(|| {
                    self.recorder
                        .transition(connection, (*from, *to), *time, *in_state_ns)
                });
                self.judge(connection.id, decision, record);
            }
            Update::Stray {
                connection,
                from,
                to,
                time,
            } => {
                let decision = self.filter.connection(connection, true);
                if self.shown.transitions && decision == Decision::Show {
                    let record = self
                        .recorder
                        .transition(connection, (*from, *to), *time, None);
                    self.show(record);
                }
            }
            Update::Established(connection) => {
                let decision = self.filter.connection(connection, false);
                let record = (self.shown.handshakes && decision != Decision::Hide)
                    .then(|| self.recorder.handshake(connection));
                self.judge(connection.id, decision, record);
            }
            Update::Ended(ended) => {
                let connection = &ended.connection;
                let decision = self.filter.connection(connection, true);
                if decision == Decision::Show {
                    self.counts.seen += 1;
                    self.counts.failed += u64::from(!connection.established);
                }
                let record = (self.shown.connections && decision == Decision::Show)
                    .then(|| self.recorder.connection(ended));
                self.judge(connection.id, decision, record);
            }
            Update::Listener {
                listener,
                began,
                time,
            } => {
                if self.shown.transitions {
                    let decision = self.filter.listener(listener);
                    let record = self.recorder.listener(listener, *began, *time);
                    self.judge(listener.id, decision, Some(record));
                }
            }
            Update::Evicted(connection) => {
                self.counts.evicted += 1;
                self.judge(connection.id, Decision::Hide, None);
            }
            Update::Lost { events, place } => {
                self.counts.lost = self.counts.lost.saturating_add(*events);
                self.unsaid.add(*events, *place);
                self.say_losses();
            }
            Update::Released(release) => {
                let decision = self.filter.release(release);
                let record = (self.shown.connections && decision == Decision::Show)
                    .then(|| self.recorder.release(release));
                self.judge(release.id, decision, record);
            }
            Update::Entered(_)
            | Update::Accepted(_)
            | Update::Reset { .. }
            | Update::SynackRetransmit(_) => {}
        }
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        if self.ended.is_some() {
            return ControlFlow::Break(());
        }
        self.say_losses();
        match self.writer.as_mut().map(Writer::pass_on) {
            Some(WriterState::Open) if self.rows_left != Some(0) => ControlFlow::Continue(()),
            Some(WriterState::Open) | None => ControlFlow::Break(()),
            Some(ended) => {
                self.ended = Some(ended);
                ControlFlow::Break(())
            }
        }
    }
}

/// Runs a tail until it is interrupted, has shown enough, or nobody reads it any more.
///
/// # Errors
///
/// When nothing can be traced, or the output cannot be written. A closed pipe is no error.
pub fn run(config: TailConfig) -> anyhow::Result<()> {
    let stop = Stop::on_signals()?;
    let runtime = runtime()?;
    let probe = Probe::load(&config.probe)?;
    startup::say_what_is_missing(&probe)?;
    stop.begin_tracing();
    let now = ClockReading::now();
    let recorder = Recorder::new(
        &Host::this(now.monotonic_ns),
        WallClock::new(now),
        probe.reset_reasons().clone(),
    );
    let tail = Tail::start(recorder, config.view, Patience::None, now.monotonic_ns)?;
    let tracker = TrackerConfig {
        max_connections: config.max_connections,
        transitions: tail.shows_transitions(),
        ..TrackerConfig::default()
    };
    let mut tracer = Tracer::new(probe, tracker, config.resync, tail);
    runtime.block_on(async {
        stop.after(config.duration);
        pump(
            &mut tracer,
            stop.requested(),
            std::future::pending::<Option<()>>,
            |_, ()| {},
        )
        .await
        .context("waiting for the ring buffer")
    })?;
    match tracer.consumer.finish(&tracer.tracker) {
        WriterState::Failed(error) => Err(error).context("writing to standard output"),
        // `tail | head` wants no last words.
        WriterState::ReaderGone => Ok(()),
        WriterState::Done | WriterState::Open => say::line(tracer.consumer.counts()),
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seen,
            failed,
            lost,
            evicted,
            rows_dropped,
            rows_unjudged,
        } = self;
        write!(
            f,
            "{seen} connections seen, {failed} failed, {lost} events lost"
        )?;
        if *evicted > 0 {
            write!(f, ", {evicted} connections given up (--max-connections)")?;
        }
        if *rows_dropped > 0 {
            write!(
                f,
                ", {rows_dropped} rows not written: the reader was too slow"
            )?;
        }
        if *rows_unjudged > 0 {
            write!(
                f,
                ", {rows_unjudged} rows not written: more than {WAITING} waited for what the filter asks"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
