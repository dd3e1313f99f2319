//! The consumer behind `tail` and `replay`: makes records, selects them, and has them written.

use std::{ops::ControlFlow, time::Duration};

use anyhow::Context;
use jiff::Timestamp;

use super::{
    record::{RecordBody, Recorder},
    render::{Format, Look, Renderer, Screen, ScreenUpdate, Status},
    sink::{Patience, Writer, WriterState},
    view::{self, View, ViewCounts, filter::Filter},
};
use crate::{
    clock::ClockReading,
    host::resolver::Resolver,
    tracker::{Consumer, Tracker, Update},
};

/// What is shown, and how.
#[derive(Clone, Debug)]
pub struct ViewConfig {
    pub filter: Filter,
    pub shown: view::ShownRecords,
    pub format: Format,
    pub look: Look,
    /// Shows addresses by name.
    pub resolve: bool,
    /// The time between two summaries.
    pub summary: Option<Duration>,
    /// How many rows end it.
    pub count: Option<u64>,
}

/// The most rows that wait for a slow reader, beside the batches on their way.
const UNWRITTEN: usize = 1 << 15;

/// How often the status line is renewed.
const SECOND_NS: u64 = 1_000_000_000;

/// Shows what the tracker reports.
pub struct Tail {
    recorder: Recorder,
    /// The events' clock at the start of the batch.
    now_ns: u64,
    /// Everything before this moment was reported.
    known_ns: u64,
    view: View,
    writer: Option<Writer<ScreenUpdate>>,
    /// When the next summary is due, and the time between two.
    summary: Option<(u64, u64)>,
    status: Option<StatusLine>,
    rows_left: Option<u64>,
    ended: Option<WriterState>,
}

/// When losses are reported.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Losses {
    IfRoom,
    /// At the end.
    Always,
}

/// The status line, and when its rates were last computed.
struct StatusLine {
    since_ns: u64,
    opened: u64,
    failed: u64,
    closed: u64,
    shown: Option<Status>,
}

impl StatusLine {
    const fn new(now_ns: u64) -> Self {
        Self {
            since_ns: now_ns,
            opened: 0,
            failed: 0,
            closed: 0,
            shown: None,
        }
    }

    const fn due_ns(&self) -> u64 {
        self.since_ns.saturating_add(SECOND_NS)
    }

    /// Computes the rates since the last time.
    fn renew(&mut self, counts: &ViewCounts, open: u64, time: Timestamp, now_ns: u64) {
        let elapsed = Duration::from_nanos(now_ns.saturating_sub(self.since_ns)).as_secs_f64();
        let rate = |now: u64, before: u64| {
            #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
            let count = (now - before) as f64;
            count / elapsed
        };
        let status = Status {
            time,
            opened: rate(counts.opened, self.opened),
            failed: rate(counts.failed, self.failed),
            closed: rate(counts.closed, self.closed),
            open,
            lost: counts.lost + counts.rows_dropped + counts.rows_unjudged,
        };
        *self = Self {
            since_ns: now_ns,
            opened: counts.opened,
            failed: counts.failed,
            closed: counts.closed,
            shown: Some(status),
        };
    }
}

impl Tail {
    /// Starts a tail that shows what `config` asks for on standard output.
    pub fn start(
        recorder: Recorder,
        config: ViewConfig,
        patience: Patience,
        now_ns: u64,
    ) -> anyhow::Result<Self> {
        let is_for_people = matches!(config.format, Format::Table | Format::Diagram);
        let has_status = patience == Patience::None && is_for_people;
        let status = (has_status && config.look.status).then(|| StatusLine::new(now_ns));
        let resolver = (config.resolve && is_for_people)
            .then(Resolver::of_this_host)
            .transpose()
            .context("starting the threads that look addresses up")?;
        let look = Look {
            resolver,
            ..config.look
        };
        let mut renderer = Renderer::new(config.format, look);
        let mut head = Vec::new();
        renderer.begin(&mut head);
        let mut screen = Screen(renderer);
        let render = move |shown: &ScreenUpdate, out: &mut Vec<u8>| screen.show(shown, out);
        let writer = Writer::start(std::io::stdout(), head, render, UNWRITTEN, patience)
            .context("starting the writer's thread")?;
        let mut view = View::new(config.filter, config.shown);
        view.begin_summary(now_ns);
        let summary = config.summary.map(|interval| {
            let interval_ns = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
            (now_ns.saturating_add(interval_ns), interval_ns)
        });
        Ok(Self {
            rows_left: config.count,
            summary,
            status,
            ..Self::new(recorder, view, writer, now_ns)
        })
    }

    fn new(recorder: Recorder, view: View, writer: Writer<ScreenUpdate>, now_ns: u64) -> Self {
        Self {
            recorder,
            now_ns,
            known_ns: now_ns,
            view,
            writer: Some(writer),
            summary: None,
            status: None,
            rows_left: None,
            ended: None,
        }
    }

    pub const fn shows_transitions(&self) -> bool {
        self.view.shows_transitions()
    }

    pub const fn counts(&self) -> &ViewCounts {
        &self.view.counts
    }

    /// Writes the rows that no earlier one can precede any more, and losses; the rows of losses do
    /// not count.
    fn write(&mut self, known_ns: u64, losses: Losses) {
        let Some(writer) = &mut self.writer else {
            return;
        };
        let mut dropped = 0;
        let mut wrote = false;
        while let Some(row) = self.view.next_row(known_ns) {
            let is_loss = matches!(row.body, RecordBody::Loss(_));
            if self.rows_left == Some(0) && !is_loss {
                continue;
            }
            if !writer.has_room() && !is_loss {
                dropped += 1;
                continue;
            }
            writer.push(ScreenUpdate::Row(row));
            wrote = true;
            if !is_loss {
                self.rows_left = self.rows_left.map(|left| left - 1);
            }
        }
        self.view.drop_rows(dropped);
        if losses == Losses::Always || writer.has_room() {
            self.view.push_losses(&self.recorder, self.now_ns);
        }
        // The status line is below the last row.
        if let Some(StatusLine {
            shown: Some(status),
            ..
        }) = self.status
            && wrote
            && writer.has_room()
        {
            writer.push(ScreenUpdate::Status(status));
        }
    }

    /// Adds a summary if it is due.
    fn sum_up(&mut self, known_ns: u64, tracker: &Tracker) {
        if let Some((due_ns, interval_ns)) = &mut self.summary
            && known_ns >= *due_ns
        {
            self.view.summarize(&self.recorder, tracker, known_ns);
            // One summary for a whole long silence, which tells its length.
            let missed = (known_ns - *due_ns) / *interval_ns;
            *due_ns = due_ns.saturating_add((missed + 1).saturating_mul(*interval_ns));
        }
        if let (Some(line), Some(writer)) = (&mut self.status, &mut self.writer)
            && known_ns >= line.due_ns()
        {
            let open = self.view.open_now(tracker);
            let time = self.recorder.time(known_ns);
            line.renew(&self.view.counts, open, time, known_ns);
            if let Some(status) = line.shown
                && writer.has_room()
            {
                writer.push(ScreenUpdate::Status(status));
            }
        }
    }

    /// The reader is gone.
    pub fn end_without_reader(&mut self) {
        self.ended = Some(WriterState::ReaderGone);
    }

    /// Counts SYNs whose time was dropped, as the kernel side reports at the end.
    pub const fn count_syns_evicted(&mut self, evicted: u64) {
        self.view.counts.syns_evicted = evicted;
    }

    /// Writes what waits, counts what is still open, and returns how the output ended.
    pub fn finish(&mut self, tracker: &Tracker) -> WriterState {
        self.view.count_open(tracker.connections());
        if self.summary.is_some() {
            let now_ns = self.now_ns.max(self.known_ns);
            self.view.summarize(&self.recorder, tracker, now_ns);
        }
        self.status = None;
        self.write(u64::MAX, Losses::Always);
        // Reports what that lost.
        self.write(u64::MAX, Losses::Always);
        match (self.ended.take(), self.writer.take()) {
            (Some(ended), _) => ended,
            (None, Some(mut writer)) => {
                writer.push(ScreenUpdate::Nothing);
                writer.finish()
            }
            (None, None) => WriterState::Done,
        }
    }
}

impl Consumer for Tail {
    fn begin_batch(&mut self, now: ClockReading) {
        self.now_ns = now.monotonic_ns;
        self.recorder.learn_clock(now);
    }

    fn update(&mut self, update: &Update) {
        self.view.update(update, &self.recorder);
    }

    fn settled(&mut self, known_ns: u64, tracker: &Tracker) {
        self.known_ns = known_ns;
        self.sum_up(known_ns, tracker);
        self.write(known_ns, Losses::IfRoom);
    }

    fn due_ns(&self) -> Option<u64> {
        let summary = self.summary.map(|(due_ns, _)| due_ns);
        let status = self.status.as_ref().map(StatusLine::due_ns);
        [self.view.due_ns(), summary, status]
            .into_iter()
            .flatten()
            .min()
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        if self.ended.is_some() {
            return ControlFlow::Break(());
        }
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

#[cfg(test)]
#[path = "tail_tests.rs"]
mod tests;
