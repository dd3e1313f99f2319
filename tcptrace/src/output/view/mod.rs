//! Which rows an output shows. Pure: neither renders nor writes.

pub mod filter;
mod losses;
mod rows;
mod tally;
pub mod terms;

use std::fmt;

use hashbrown::HashMap;
use tcptrace_common::TcpState;

use self::{filter::Filter, tally::Tally};
pub use crate::output::view::losses::PendingLosses;
use crate::output::view::rows::RowQueue;
use crate::output::view::terms::Decision;
use crate::{
    bounded::Bounded,
    output::record::{Record, Recorder},
    tracker::{Connection, Tracker, Update, is_synchronized},
};

/// The most rows that wait for their connection to be judged.
const WAITING: usize = 1 << 16;

/// Which kinds of records are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShownRecords {
    pub transitions: bool,
    pub handshakes: bool,
    pub connections: bool,
    pub releases: bool,
}

/// The counts of a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewCounts {
    /// Connections that passed the filter.
    pub seen: u64,
    /// Of those, the ones never established.
    pub failed: u64,
    /// Of those, the ones established since the start.
    pub opened: u64,
    /// Of those, the established ones that ended.
    pub closed: u64,
    pub lost: u64,
    /// Connections evicted for lack of room (`--max-connections`).
    pub evicted: u64,
    /// SYNs whose time was dropped before their handshake ended; set at the end.
    pub syns_evicted: u64,
    /// Rows dropped because the reader was too slow.
    pub rows_dropped: u64,
    /// Rows dropped because too many waited for the filter to judge their connection.
    pub rows_unjudged: u64,
}

/// The rows of a connection that cannot be judged yet.
#[derive(Default)]
struct WaitingRows {
    rows: Vec<Record>,
    /// The connection was established; its handshake took this long, microseconds, if that is
    /// known.
    opened: Option<Option<u64>>,
}

/// The rows of one output.
pub struct View {
    filter: Filter,
    shown: ShownRecords,
    /// The rows of connections that cannot be judged yet, by id.
    waiting: HashMap<u64, WaitingRows>,
    waiting_rows: usize,
    /// The last connections whose end passed the filter.
    ended: Bounded<u64, ()>,
    pub counts: ViewCounts,
    /// Losses not reported yet.
    losses: PendingLosses,
    rows: RowQueue,
    /// Sums since the last summary.
    tally: Tally,
}

impl View {
    /// A view that shows the `shown` records of connections that pass `filter`.
    pub fn new(filter: Filter, shown: ShownRecords) -> Self {
        Self {
            filter,
            shown,
            waiting: HashMap::new(),
            waiting_rows: 0,
            ended: Bounded::new(WAITING),
            counts: ViewCounts::default(),
            losses: PendingLosses::default(),
            rows: RowQueue::default(),
            tally: Tally::default(),
        }
    }

    pub const fn shows_transitions(&self) -> bool {
        self.shown.transitions
    }

    /// Returns the next row in order of time, once everything before `known_ns` is known; at the
    /// end with `u64::MAX`.
    pub fn next_row(&mut self, known_ns: u64) -> Option<Box<Record>> {
        self.rows.next(known_ns)
    }

    /// Returns when the next row is due.
    pub fn due_ns(&self) -> Option<u64> {
        self.rows.due_ns()
    }

    /// Reports losses, whatever the filter.
    pub fn push_losses(&mut self, recorder: &Recorder, now_ns: u64) {
        for record in self.losses.drain(recorder, now_ns) {
            self.rows.push(record);
        }
    }

    /// Takes an update.
    pub fn update(&mut self, update: &Update, recorder: &Recorder) {
        match update {
            Update::Transition {
                connection,
                from,
                to,
                time,
                in_state_ns,
            } => {
                let decision = self.filter.open(connection);
                let wanted = self.shown.transitions && self.filter.shows(*to);
                self.judge(connection.id, decision, wanted, || {
                    recorder.transition(connection, (*from, *to), *time, *in_state_ns)
                });
            }
            Update::Stray {
                connection,
                from,
                to,
                time,
            } => {
                let decision = self.filter.last(connection);
                let wanted = self.shown.transitions && self.filter.shows(*to);
                self.judge(connection.id, decision, wanted, || {
                    recorder.transition(connection, (*from, *to), *time, None)
                });
            }
            Update::Established(connection) => {
                let decision = self.filter.open(connection);
                let wanted = self.shown.handshakes && self.filter.shows(TcpState::Established);
                let handshake_us = connection.handshake.took.map(|(took, _)| took / 1_000);
                match decision {
                    Decision::Show => self.open(handshake_us),
                    Decision::Later if self.waiting.len() < WAITING => {
                        let waiting = self.waiting.entry(connection.id).or_default();
                        waiting.opened = Some(handshake_us);
                    }
                    // It is missing in the sums.
                    Decision::Later => self.skip_unjudged(),
                    Decision::Hide => {}
                }
                self.judge(connection.id, decision, wanted, || {
                    recorder.handshake(connection)
                });
            }
            Update::Ended(ended) => {
                let connection = &ended.connection;
                let decision = self.filter.ended(ended);
                if decision == Decision::Show {
                    self.ended.insert(connection.id, ());
                    self.counts.seen += 1;
                    self.counts.failed += u64::from(!connection.established);
                    self.counts.closed += u64::from(connection.established);
                    self.tally.end(ended);
                }
                let wanted = self.shown.connections && self.filter.shows(connection.state);
                self.judge(connection.id, decision, wanted, || {
                    recorder.connection(ended)
                });
            }
            Update::Released(release) => {
                let decision = if self.ended.get(&release.id).is_some() {
                    Decision::Show
                } else if self.filter.asks_for_the_end() {
                    Decision::Hide
                } else {
                    self.filter.release(release)
                };
                let wanted = self.shown.releases && self.filter.state.is_none();
                self.judge(release.id, decision, wanted, || recorder.release(release));
            }
            Update::Listener {
                listener,
                began,
                time,
            } => {
                let decision = if self.filter.asks_for_the_end() {
                    Decision::Hide
                } else {
                    self.filter.listener(listener)
                };
                let entered = if *began {
                    TcpState::Listen
                } else {
                    TcpState::Close
                };
                let wanted = self.shown.transitions && self.filter.shows(entered);
                self.judge(listener.id, decision, wanted, || {
                    recorder.listener(listener, *began, *time)
                });
            }
            Update::Evicted(connection) => {
                self.counts.evicted += 1;
                self.forget(connection.id);
            }
            Update::Lost { events, place } => {
                self.counts.lost = self.counts.lost.saturating_add(*events);
                self.tally.lost = self.tally.lost.saturating_add(*events);
                self.losses.events(*events, *place);
            }
            // Its process is known now: rows may have waited for that.
            Update::Accepted(connection) => {
                let decision = self.filter.open(connection);
                self.judge(connection.id, decision, false, || {
                    recorder.handshake(connection)
                });
            }
            Update::Entered(_) | Update::Reset { .. } | Update::SynackRetransmit(_) => {}
        }
    }

    /// Shows a record of a connection, if it passes the filter, now or when the connection can be
    /// judged.
    fn judge(
        &mut self,
        id: u64,
        decision: Decision,
        wanted: bool,
        record: impl FnOnce() -> Record,
    ) {
        match decision {
            Decision::Show => {
                if let Some(WaitingRows { rows, opened }) = self.waiting.remove(&id) {
                    self.waiting_rows -= rows.len();
                    rows.into_iter().for_each(|row| self.rows.push(row));
                    if let Some(handshake_us) = opened {
                        self.open(handshake_us);
                    }
                }
                if wanted {
                    self.rows.push(record());
                }
            }
            Decision::Hide => self.forget(id),
            Decision::Later if !wanted => {}
            Decision::Later if self.waiting_rows < WAITING => {
                self.waiting_rows += 1;
                self.waiting.entry(id).or_default().rows.push(record());
            }
            Decision::Later => self.skip_unjudged(),
        }
    }

    /// Counts a row that has no room to wait.
    const fn skip_unjudged(&mut self) {
        self.counts.rows_unjudged += 1;
        self.losses.unjudged += 1;
    }

    /// Drops the rows of a connection.
    fn forget(&mut self, id: u64) {
        if let Some(waiting) = self.waiting.remove(&id) {
            self.waiting_rows -= waiting.rows.len();
        }
    }

    fn open(&mut self, handshake_us: Option<u64>) {
        self.counts.opened += 1;
        self.tally.open(handshake_us);
    }

    /// Starts the sums of the next summary.
    pub fn begin_summary(&mut self, now_ns: u64) {
        self.tally = Tally::since(now_ns);
    }

    /// Adds a summary, and starts anew.
    pub fn summarize(&mut self, recorder: &Recorder, tracker: &Tracker, now_ns: u64) {
        if self.tally.is_empty(now_ns) {
            return;
        }
        let summary = self.tally.summary(now_ns, self.open_now(tracker));
        self.rows.push(recorder.summary(summary, now_ns));
        self.begin_summary(now_ns);
    }

    /// Returns how many established connections are open and pass the filter, as far as it can tell
    /// now.
    pub fn open_now(&self, tracker: &Tracker) -> u64 {
        let open = tracker.connections().filter(|connection| {
            is_synchronized(connection.state) && self.filter.last(connection) == Decision::Show
        });
        open.count() as u64
    }

    /// Counts rows that the output had no room for.
    pub const fn drop_rows(&mut self, rows: u64) {
        self.counts.rows_dropped += rows;
        self.losses.rows += rows;
    }

    /// Counts the connections still open at the end.
    pub fn count_open<'a>(&mut self, connections: impl Iterator<Item = &'a Connection>) {
        let open = connections.filter(|connection| self.filter.last(connection) == Decision::Show);
        self.counts.seen += open.count() as u64;
    }
}

impl fmt::Display for ViewCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seen,
            failed,
            opened: _,
            closed: _,
            lost,
            evicted,
            syns_evicted,
            rows_dropped,
            rows_unjudged,
        } = self;
        write!(
            f,
            "{seen} connections seen, {failed} failed, {lost} events lost"
        )?;
        if *evicted > 0 {
            write!(f, ", {evicted} connections evicted (--max-connections)")?;
        }
        if *syns_evicted > 0 {
            write!(
                f,
                ", {syns_evicted} SYNs forgotten: there were too many at once to time their handshakes"
            )?;
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
