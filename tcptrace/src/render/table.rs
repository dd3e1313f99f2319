//! The table: a line a person reads at a glance.
//!
//! Time, process, role, both ends, what happened, how long it took, and what is worth adding.
//! Columns keep their place: one that must grow for a long address stays grown.

use anstyle::{AnsiColor, Style};
use jiff::{Timestamp, tz::TimeZone};

use super::{
    text::visible,
    units::{bytes, duration},
};
use crate::{
    record::{
        Address, ConnectionRecord, HandshakeRecord, Identity, Record, RecordBody, ReleaseRecord,
        TransitionRecord,
    },
    tracker::{Completeness, Role, Verdict},
};

/// How a table looks.
#[derive(Clone, Debug)]
pub struct TableStyle {
    /// With colours.
    pub color: bool,
    /// Without characters past ASCII.
    pub ascii: bool,
    /// It is looked at as it is written.
    pub terminal: bool,
    /// In which zone times are shown.
    pub zone: TimeZone,
    /// Transitions will be shown: room for their names.
    pub transitions: bool,
}

/// A table under way.
pub struct Table {
    style: TableStyle,
    widths: [usize; COLUMNS],
}

const COLUMNS: usize = 7;
const HEADINGS: [&str; COLUMNS] = ["TIME", "PROCESS", "ROLE", "LOCAL", "REMOTE", "WHAT", "TOOK"];

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const ODD: Style = AnsiColor::Yellow.on_default();
const QUIET: Style = Style::new().dimmed();
const PLAIN: Style = Style::new();

/// A row before it is aligned.
struct Row {
    time: Timestamp,
    process: String,
    role: &'static str,
    local: String,
    remote: String,
    what: String,
    style: Style,
    took: String,
    notes: Vec<String>,
}

impl Row {
    /// With these notes before those it has.
    fn noting(mut self, mut notes: Vec<String>) -> Self {
        notes.append(&mut self.notes);
        Self { notes, ..self }
    }
}

impl Table {
    /// An empty table.
    #[must_use]
    pub fn new(style: TableStyle) -> Self {
        let what = if style.transitions {
            "ESTABLISHED->CLOSE_WAIT".len()
        } else {
            "close".len()
        };
        Self {
            style,
            widths: [12, 20, 7, 21, 21, what, 7],
        }
    }

    /// Appends the headings.
    pub fn header(&mut self, out: &mut Vec<u8>) {
        let cells = HEADINGS.map(str::to_owned);
        self.line(&cells, [QUIET; COLUMNS], "NOTES", QUIET, out);
    }

    /// Appends a record's row.
    pub fn row(&mut self, record: &Record, out: &mut Vec<u8>) {
        let row = match &record.body {
            RecordBody::Transition(body) => self.transition(record.time, body),
            RecordBody::Handshake(body) => self.handshake(record.time, body),
            RecordBody::Connection(body) => self.connection(record.time, body),
            RecordBody::Release(body) => self.release(record.time, body),
            RecordBody::Loss(body) => Row {
                time: record.time,
                process: String::new(),
                role: "",
                local: String::new(),
                remote: String::new(),
                what: "LOST".to_owned(),
                style: BAD,
                took: String::new(),
                notes: vec![match body.place {
                    "output" => format!(
                        "{} rows were not written: the reader is too slow",
                        body.lost
                    ),
                    "filter" => format!(
                        "{} rows were not written: too many waited for what the filter asks",
                        body.lost
                    ),
                    place => format!(
                        "{} events were lost ({place}): connections may be missing or incomplete",
                        body.lost
                    ),
                }],
            },
        };
        self.put(row, out);
    }

    fn transition(&self, time: Timestamp, body: &TransitionRecord) -> Row {
        let arrow = if self.style.ascii { "->" } else { "→" };
        Row {
            what: format!("{}{arrow}{}", body.from.name(), body.to.name()),
            took: body.in_state_us.map_or_else(dash, |us| self.took(us)),
            style: QUIET,
            ..self.blank(time, &body.identity)
        }
    }

    fn handshake(&self, time: Timestamp, body: &HandshakeRecord) -> Row {
        let mut notes = Vec::new();
        if body.fast_open == Some(true) {
            notes.push("TCP Fast Open".to_owned());
        }
        if body.deferred == Some(true) {
            notes.push("deferred until data came".to_owned());
        }
        let mut style = GOOD;
        if let Some(count @ 1..) = body.syn_retransmits {
            style = ODD;
            let what = match body.identity.role {
                Some(Role::Passive) => "SYN-ACK",
                Some(Role::Active | Role::Simultaneous | Role::Unknown) | None => "SYN",
            };
            notes.push(plural(count.into(), &format!("{what} retransmit")));
        }
        Row {
            what: "open".to_owned(),
            style,
            took: body.handshake_us.map_or_else(dash, |us| self.took(us)),
            ..self.blank(time, &body.identity)
        }
        .noting(notes)
    }

    fn connection(&self, time: Timestamp, body: &ConnectionRecord) -> Row {
        let mut notes = vec![words(body.verdict)];
        if let Some(errno) = &body.errno {
            notes.push(errno.clone());
        }
        if let Some(reason) = &body.reset_reason {
            notes.push(format!("RST sent: {reason}"));
        }
        if body.established {
            if let Some(side) = body.closed_by {
                notes.push(match side {
                    "simultaneous" => "both sides closed at once".to_owned(),
                    side => format!("{side} side closed first"),
                });
            }
            if body.time_wait == Some(true) {
                notes.push("TIME_WAIT here".to_owned());
            }
            if let (Some(sent), Some(received)) = (body.bytes_sent, body.bytes_received) {
                notes.push(format!(
                    "sent {}, received {}",
                    bytes(sent),
                    bytes(received)
                ));
            }
            if let Some(count @ 1..) = body.retransmits {
                notes.push(plural(count.into(), "retransmit"));
            }
        }
        match body.completeness {
            Completeness::Full => {}
            Completeness::Seeded => notes.push("was there before".to_owned()),
            Completeness::Gap => notes.push("incomplete: events lost".to_owned()),
            Completeness::Partial => notes.push("incomplete: met in mid-life".to_owned()),
        }
        let style = match (body.established, body.verdict) {
            (true, Verdict::Graceful) => PLAIN,
            (true, _) => ODD,
            (false, Verdict::Cancelled) => ODD,
            (false, _) => BAD,
        };
        Row {
            what: if body.established { "close" } else { "fail" }.to_owned(),
            style,
            took: body.duration_us.map_or_else(dash, |us| self.took(us)),
            ..self.blank(time, &body.identity)
        }
        .noting(notes)
    }

    fn release(&self, time: Timestamp, body: &ReleaseRecord) -> Row {
        let note = match body.outcome {
            "time_wait" => "the peer's FIN came: TIME_WAIT",
            "refused" => "the peer sent more and got a RST",
            "reset" => "ended by a RST",
            "reused" => "a new connection took its place in TIME_WAIT",
            "no_fin" => "the peer never closed its side",
            _ => "gone, before it was seen how",
        };
        Row {
            what: "late".to_owned(),
            style: QUIET,
            took: body.fin_wait2_us.map_or_else(dash, |us| self.took(us)),
            ..self.blank(time, &body.identity)
        }
        .noting(vec![note.to_owned()])
    }

    fn blank(&self, time: Timestamp, identity: &Identity) -> Row {
        let end = |address: Option<&Address>, port: Option<u16>| match (address, port) {
            (Some(address), Some(port)) => address.with_port(port),
            (Some(address), None) => address.with_port("-"),
            (None, Some(port)) => format!("-:{port}"),
            (None, None) => dash(),
        };
        Row {
            time,
            process: process(identity),
            role: identity.role.map_or("listen", Role::name),
            local: end(identity.local_address.as_ref(), identity.local_port),
            remote: end(identity.remote_address.as_ref(), identity.remote_port),
            what: String::new(),
            style: PLAIN,
            took: String::new(),
            notes: if identity.pid_gone {
                vec!["its listener's process is gone".to_owned()]
            } else {
                Vec::new()
            },
        }
    }

    fn took(&self, micros: u64) -> String {
        duration(micros, self.style.ascii)
    }

    fn put(&mut self, row: Row, out: &mut Vec<u8>) {
        let time = row.time.to_zoned(self.style.zone.clone());
        let cells = [
            time.strftime("%H:%M:%S%.3f").to_string(),
            row.process,
            row.role.to_owned(),
            row.local,
            row.remote,
            row.what,
            row.took,
        ];
        let styles = [QUIET, PLAIN, PLAIN, PLAIN, PLAIN, row.style, PLAIN];
        self.line(&cells, styles, &row.notes.join(", "), row.style, out);
    }

    fn line(
        &mut self,
        cells: &[String; COLUMNS],
        styles: [Style; COLUMNS],
        notes: &str,
        notes_style: Style,
        out: &mut Vec<u8>,
    ) {
        let mut line = String::with_capacity(160);
        for (index, (cell, style)) in cells.iter().zip(styles).enumerate() {
            // Names are others' choice: nothing in them may move the terminal's cursor.
            let cell = &*visible(cell, self.style.ascii);
            let length = cell.chars().count();
            self.widths[index] = self.widths[index].max(length);
            let padding = self.widths[index] - length;
            // Durations are compared, so they end in one column.
            let (before, after) = if index == COLUMNS - 1 {
                (padding, 0)
            } else {
                (0, padding)
            };
            line.push_str(&" ".repeat(before));
            self.paint(&mut line, cell, style);
            line.push_str(&" ".repeat(after + 2));
        }
        self.paint(&mut line, &visible(notes, self.style.ascii), notes_style);
        out.extend_from_slice(line.trim_end().as_bytes());
        out.push(b'\n');
    }

    fn paint(&self, line: &mut String, text: &str, style: Style) {
        if self.style.color && !text.is_empty() {
            line.push_str(&format!("{style}{text}{style:#}"));
        } else {
            line.push_str(text);
        }
    }
}

/// `comm/pid`, and in a container `comm/pid@id` with as much of its id as its engine shows.
fn process(identity: &Identity) -> String {
    const SHOWN: usize = 12;
    let mut process = match (&identity.comm, identity.pid) {
        (Some(comm), Some(pid)) => format!("{comm}/{pid}"),
        (_, _) => dash(),
    };
    if let Some(id) = identity.container_id.as_deref() {
        process.push('@');
        process.push_str(id.get(..SHOWN).unwrap_or(id));
    }
    process
}

fn dash() -> String {
    "-".to_owned()
}

fn plural(count: u64, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// A verdict as words.
fn words(verdict: Verdict) -> String {
    verdict.name().replace('_', " ")
}
