//! The diagram: an ended connection as the textbook draws it, this host on the left and the peer on
//! the right, time from top to bottom.
//!
//! On the left are the times since the first step and the states entered here; on the right, in
//! parentheses, the peer's states by what it sent. A dotted line was not seen.

use unicode_width::UnicodeWidthStr as _;

use super::{
    column::Column,
    ladder::{Direction, LadderStep, StepOutcome, steps},
    line::{ABNORMAL, FAILED, Line, PLAIN, QUIET, cut, style},
    look::Look,
    status::Status,
    units::duration,
    words,
};
use crate::output::record::{ConnectionRecord, Record, RecordBody};
use crate::text::visible;

pub struct Diagram {
    look: Look,
    /// A row was drawn.
    begun: bool,
}

/// The width of a time, of a state here, and of a state there.
const TIME: usize = 8;
const STATE: usize = 11;
const PEER: usize = 13;
/// The most characters between the hosts.
const WIRE: usize = 40;

/// What fits on a line.
struct DiagramWidths {
    time: bool,
    state: bool,
    peer: bool,
    wire: usize,
}

impl DiagramWidths {
    fn new(limit: Option<usize>) -> Self {
        let limit = limit.unwrap_or(usize::MAX);
        let beside = |time: bool, state: bool, peer: bool| {
            let before = usize::from(time) * (TIME + 1) + usize::from(state) * (STATE + 1);
            before + 2 + usize::from(peer) * (1 + PEER)
        };
        // As wide as a label needs; the least important parts beside it go first.
        let choices = [
            (true, true, true, 24),
            (true, true, false, 17),
            (false, true, false, 14),
            (false, false, false, 0),
        ];
        let found = choices.into_iter().find_map(|(time, state, peer, least)| {
            let wire = limit.checked_sub(beside(time, state, peer))?;
            (wire >= least).then_some(Self {
                time,
                state,
                peer,
                wire: wire.min(WIRE),
            })
        });
        found.unwrap_or(Self {
            time: false,
            state: false,
            peer: false,
            wire: 0,
        })
    }

    /// Returns how many characters are before the wire.
    fn before(&self) -> usize {
        usize::from(self.time) * (TIME + 1) + usize::from(self.state) * (STATE + 1)
    }
}

/// The characters that lines are drawn with.
struct DiagramChars {
    end: char,
    line: char,
    dotted: char,
    left: char,
    right: char,
    lost: char,
}

const UNICODE: DiagramChars = DiagramChars {
    end: '│',
    line: '─',
    dotted: '┄',
    left: '◀',
    right: '▶',
    lost: '×',
};

const ASCII: DiagramChars = DiagramChars {
    end: '|',
    line: '-',
    dotted: '.',
    left: '<',
    right: '>',
    lost: 'X',
};

impl Diagram {
    pub const fn new(look: Look) -> Self {
        Self { look, begun: false }
    }

    /// Appends a diagram for an ended connection, and a line for every other record.
    pub fn record(&mut self, record: &Record, out: &mut Vec<u8>) {
        let limit = self.look.width.now();
        if let RecordBody::Connection(body) = &record.body {
            if self.begun {
                out.push(b'\n');
            }
            self.title(record, limit, out);
            self.draw(record, body, limit, out);
        } else {
            self.line(record, limit, out);
        }
        self.begun = true;
    }

    /// Appends whose connection it is, and its notes.
    fn title(&self, record: &Record, limit: Option<usize>, out: &mut Vec<u8>) {
        let (time, _) = self.look.time.shown(record.time, record.time);
        let day = self.look.time.day(record.time);
        let time = day.map_or(time.clone(), |day| format!("{day} {time}"));
        let style = style(&record.body, &self.look);
        let cell = |column: Column| column.cell(record, &self.look);
        let notes = words::notes(&record.body, &self.look);
        let last = notes.len().saturating_sub(1);
        let notes = notes.into_iter().enumerate().map(|(at, note)| {
            let comma = if at < last { "," } else { "" };
            (format!("{note}{comma}"), style, if at == 0 { 2 } else { 1 })
        });
        let whose = [
            (time, QUIET, 2),
            (cell(Column::Process), PLAIN, 2),
            (cell(Column::Role), PLAIN, 2),
        ];
        let mut line = Line::new(&self.look, limit);
        let mut used = 0;
        for (word, style, gap) in whose.into_iter().chain(notes) {
            let width = visible(&word, self.look.ascii).width();
            if used > 0 && limit.is_some_and(|limit| used + gap + width > limit) {
                line.end(out);
                line = Line::new(&self.look, limit);
                line.pad(2);
                used = 2;
            } else if used > 0 {
                line.pad(gap);
                used += gap;
            }
            line.push(&word, style);
            used += width;
        }
        line.end(out);
    }

    /// Appends the status line without an end of line: the cursor stays there.
    pub fn status(&self, status: &Status, out: &mut Vec<u8>) {
        status.line(&self.look, status.time, out);
    }

    fn draw(
        &self,
        record: &Record,
        body: &ConnectionRecord,
        limit: Option<usize>,
        out: &mut Vec<u8>,
    ) {
        let room = DiagramWidths::new(limit);
        let (steps, _) = steps(body);
        self.ends(record, &room, limit, out);
        for step in &steps {
            self.step(step, &room, limit, out);
        }
    }

    /// Appends the two hosts, above their lines.
    fn ends(&self, record: &Record, room: &DiagramWidths, limit: Option<usize>, out: &mut Vec<u8>) {
        let local = Column::Local.cell(record, &self.look);
        let remote = Column::Remote.cell(record, &self.look);
        let [local, remote] =
            [local, remote].map(|end| visible(&end, self.look.ascii).into_owned());
        let whole = room.before() + 2 + room.wire;
        // Each above its line, if both fit.
        let (from, to) = (room.before(), whole);
        let start = from.saturating_sub(local.width() / 2);
        let mut line = Line::new(&self.look, limit);
        let both = start + local.width() + 1 + remote.width();
        if both <= to + remote.width() / 2 && limit.is_none_or(|limit| both <= limit) {
            line.pad(start);
            line.push(&local, PLAIN);
            let at = start + local.width();
            let centred = to.saturating_sub(remote.width() / 2);
            let most = limit.map_or(usize::MAX, |limit| limit.saturating_sub(remote.width()));
            line.pad(centred.min(most).saturating_sub(at).max(1));
            line.push(&remote, PLAIN);
            line.end(out);
        } else {
            line.push(&local, PLAIN);
            line.end(out);
            let mut line = Line::new(&self.look, limit);
            line.pad(limit.unwrap_or(to).min(to).saturating_sub(remote.width()));
            line.push(&remote, PLAIN);
            line.end(out);
        }
    }

    fn step(
        &self,
        step: &LadderStep,
        room: &DiagramWidths,
        limit: Option<usize>,
        out: &mut Vec<u8>,
    ) {
        let mut line = Line::new(&self.look, limit);
        if room.time {
            let time = step.at_us.map(|at| duration(at, self.look.ascii));
            let time = time.unwrap_or_default();
            line.pad(TIME.saturating_sub(time.width()));
            line.push(&time, QUIET);
            line.pad(1);
        }
        let style = match step.fate {
            StepOutcome::Seen => PLAIN,
            StepOutcome::Unanswered => ABNORMAL,
            StepOutcome::Abrupt => FAILED,
            StepOutcome::Unseen => QUIET,
        };
        if room.state {
            let state = step.local.unwrap_or_default();
            line.push(state, PLAIN);
            line.pad(STATE + 1 - state.width().min(STATE));
        }
        let pen = if self.look.ascii { &ASCII } else { &UNICODE };
        line.push(&pen.end.to_string(), PLAIN);
        line.push(&wire(step, room.wire, pen, self.look.ascii), style);
        line.push(&pen.end.to_string(), PLAIN);
        if let (true, Some(state)) = (room.peer, step.remote) {
            line.pad(1);
            line.push(&format!("({state})"), QUIET);
        }
        line.end(out);
    }

    /// Appends a record that is no connection's end.
    fn line(&self, record: &Record, limit: Option<usize>, out: &mut Vec<u8>) {
        let (time, _) = self.look.time.shown(record.time, record.time);
        let mut line = Line::new(&self.look, limit);
        line.push(&format!("{time}  "), QUIET);
        let style = style(&record.body, &self.look);
        match &record.body {
            RecordBody::Loss(body) => line.push(&format!("LOST {}", words::loss(body)), FAILED),
            RecordBody::Summary(body) => {
                line.push(&words::summary(body, self.look.ascii), PLAIN);
            }
            RecordBody::Transition(_)
            | RecordBody::Handshake(_)
            | RecordBody::Connection(_)
            | RecordBody::Release(_) => {
                let cells = [Column::Process, Column::Local, Column::Remote, Column::What];
                let mut said: Vec<_> = cells
                    .iter()
                    .map(|column| column.cell(record, &self.look))
                    .collect();
                said.push(Column::Notes.cell(record, &self.look));
                line.push(said.join("  ").trim_end(), style);
            }
        }
        line.end(out);
    }
}

/// Draws a connection in lines of at most `width` characters, without its identity and time.
pub fn picture(body: &ConnectionRecord, width: usize, ascii: bool) -> String {
    let diagram = Diagram::new(Look {
        ascii,
        ..Look::default()
    });
    let room = DiagramWidths {
        time: false,
        ..DiagramWidths::new(Some(width))
    };
    let mut out = Vec::new();
    for step in &steps(body).0 {
        diagram.step(step, &room, Some(width), &mut out);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Returns what is between the hosts: an arrow with its label, `width` characters.
fn wire(step: &LadderStep, width: usize, pen: &DiagramChars, ascii: bool) -> String {
    let dotted = step.fate == StepOutcome::Unseen;
    let rule = if dotted { pen.dotted } else { pen.line };
    let stroke = |count: usize| rule.to_string().repeat(count);
    // At least an arrow's tip and a piece of line on each side, and a space around the label.
    let label = cut(&step.label, width.saturating_sub(6), ascii);
    let left = width.saturating_sub(label.width() + 2);
    let (before, after) = (left / 2, left - left / 2);
    if label.is_empty() || before < 2 || after < 2 {
        return cut(&" ".repeat(width), width, ascii);
    }
    match step.way {
        Direction::Here if dotted => format!("{} {label} {}", stroke(before), stroke(after)),
        Direction::Here => format!("{} {label} {}", " ".repeat(before), " ".repeat(after)),
        Direction::Out if step.fate == StepOutcome::Unanswered => {
            // The arrow ends on its way.
            let reach = (after - 1) / 2;
            let rest = " ".repeat(after - 1 - reach);
            format!(
                "{} {label} {}{}{rest}",
                stroke(before),
                stroke(reach),
                pen.lost
            )
        }
        Direction::Out => format!(
            "{} {label} {}{}",
            stroke(before),
            stroke(after - 1),
            pen.right
        ),
        Direction::In => format!(
            "{}{} {label} {}",
            pen.left,
            stroke(before - 1),
            stroke(after)
        ),
        Direction::Both => format!(
            "{}{} {label} {}{}",
            pen.left,
            stroke(before - 1),
            stroke(after - 1),
            pen.right
        ),
    }
}
