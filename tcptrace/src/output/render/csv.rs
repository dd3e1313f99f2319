//! CSV: a header, then one line per record, with empty cells for absent fields.

use std::{io, ops::Range};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use crate::{output::record::Record, text::visible};

/// Every field of every kind of record, in the order printed. New ones are appended.
const COLUMNS: [&str; 75] = [
    "type",
    "time",
    "host",
    "boot_id",
    "id",
    "role",
    "family",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "netns",
    "pid",
    "comm",
    "pid_source",
    "from",
    "to",
    "in_state_us",
    "handshake_us",
    "handshake_source",
    "syn_retransmits",
    "uid",
    "cgroup_id",
    "opened_at",
    "established_at",
    "closed_at",
    "established_us",
    "half_closed_us",
    "duration_us",
    "closed_by",
    "last_state",
    "verdict",
    "established",
    "errno",
    "errno_number",
    "peer_fin",
    "bytes_sent",
    "bytes_received",
    "segments_sent",
    "segments_received",
    "retransmits",
    "srtt_us",
    "completeness",
    "lost",
    "where",
    "schema",
    "deferred",
    "fast_open",
    "accept_wait_us",
    "fin_wait2_us",
    "last_ack_us",
    "reset_reason",
    "time_wait",
    "time_wait_source",
    "peer_fin_at",
    "outcome",
    "run_id",
    "end_seen",
    "interface",
    "pid_gone",
    "cgroup",
    "container_id",
    "pod_uid",
    "unit",
    "interval_us",
    "opened",
    "failed",
    "closed",
    "open",
    "verdicts",
    "handshakes_measured",
    "handshake_p50_us",
    "handshake_p99_us",
    "handshake_max_us",
    "netns_cookie",
];

/// Writes records as CSV.
pub struct Csv {
    /// On a terminal hostile characters are replaced; as data nothing is.
    terminal: bool,
    /// Quotes values.
    writer: csv_core::Writer,
    fields: JsonFields,
    /// The column of each field of the last record, in the order of its JSON. The next record most
    /// often has the same.
    columns: Vec<usize>,
}

impl Csv {
    pub(super) fn new(terminal: bool) -> Self {
        Self {
            terminal,
            writer: csv_core::Writer::new(),
            fields: JsonFields::default(),
            columns: Vec::new(),
        }
    }

    /// Appends the names of the columns.
    pub(super) fn header(&mut self, out: &mut Vec<u8>) {
        for (index, name) in COLUMNS.iter().enumerate() {
            self.cell(index, name.as_bytes(), out);
        }
        out.push(b'\n');
    }

    /// Appends a record's line: the fields of its JSON, each in its column.
    pub(super) fn row(&mut self, record: &Record, out: &mut Vec<u8>) {
        self.fields.text.clear();
        self.fields.ends.clear();
        let formatter = PlainFormatter::default();
        let mut serializer = Serializer::with_formatter(&mut self.fields, formatter);
        if let Err(error) = record.serialize(&mut serializer) {
            tracing::error!("a record could not be written as CSV: {error}");
            return;
        }
        // Where each column's value is in `text`.
        let mut values = [const { 0..0 }; COLUMNS.len()];
        for (index, (name, value)) in self.fields.iter().enumerate() {
            let name = &self.fields.text[name];
            let before = self.columns.get(index).copied().unwrap_or(0);
            let column = if COLUMNS[before].as_bytes() == name {
                before
            } else if let Some(column) = COLUMNS.iter().position(|it| it.as_bytes() == name) {
                self.columns.resize(self.columns.len().max(index + 1), 0);
                self.columns[index] = column;
                column
            } else {
                continue;
            };
            values[column] = value;
        }
        let text = std::mem::take(&mut self.fields.text);
        for (index, value) in values.into_iter().enumerate() {
            let value = &text[value];
            if self.terminal && !value.is_empty() {
                let value = visible(str::from_utf8(value).unwrap_or_default(), false);
                self.cell(index, value.as_bytes(), out);
            } else {
                self.cell(index, value, out);
            }
        }
        self.fields.text = text;
        out.push(b'\n');
    }

    /// Appends a value, and before it what ends the one before.
    fn cell(&mut self, index: usize, value: &[u8], out: &mut Vec<u8>) {
        if index > 0 {
            out.push(b',');
        }
        // What the writer would copy as it is: most values.
        let is_plain = |byte: &u8| !matches!(byte, b'"' | b',' | b'\n' | b'\r');
        if value.iter().all(is_plain) {
            out.extend_from_slice(value);
            return;
        }
        let start = out.len();
        // At most each byte twice, and two quotation marks.
        out.resize(start + 2 * value.len() + 2, 0);
        let (_, _, value) = self.writer.field(value, &mut out[start..]);
        let (_, end) = self.writer.finish(&mut out[start + value..]);
        out.truncate(start + value + end);
    }
}

/// The names and values of a flat JSON object, one after the other, and the end of each.
#[derive(Default)]
struct JsonFields {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl JsonFields {
    /// Returns where each name and its value are in the text.
    fn iter(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let mut start = 0;
        self.ends.chunks_exact(2).map(move |ends| {
            let (name, value) = (start..ends[0], ends[0]..ends[1]);
            start = ends[1];
            (name, value)
        })
    }
}

/// A write appends text; a flush ends a name or a value.
impl io::Write for JsonFields {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ends.push(self.text.len());
        Ok(())
    }
}

/// A formatter without JSON's braces, quotation marks and escapes. A nested object becomes
/// `name=value name=value`.
#[derive(Default)]
struct PlainFormatter {
    /// How many objects are open.
    depth: usize,
}

impl Formatter for PlainFormatter {
    fn begin_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.depth += 1;
        Ok(())
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.depth -= 1;
        Ok(())
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if self.depth > 1 && !first {
            to.write_all(b" ")?;
        }
        Ok(())
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        if self.depth > 1 {
            return to.write_all(b"=");
        }
        to.flush()
    }

    fn end_object_value<W: ?Sized + io::Write>(&mut self, to: &mut W) -> io::Result<()> {
        if self.depth > 1 {
            return Ok(());
        }
        to.flush()
    }

    fn begin_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn end_string<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        to.write_all(&[match escape {
            CharEscape::Quote => b'"',
            CharEscape::ReverseSolidus => b'\\',
            CharEscape::Solidus => b'/',
            CharEscape::Backspace => 8,
            CharEscape::FormFeed => 12,
            CharEscape::LineFeed => b'\n',
            CharEscape::CarriageReturn => b'\r',
            CharEscape::Tab => b'\t',
            CharEscape::AsciiControl(byte) => byte,
        }])
    }
}

#[cfg(test)]
mod tests {
    use super::COLUMNS;

    #[test]
    fn no_column_stands_twice() {
        let mut sorted = COLUMNS.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), COLUMNS.len());
    }
}
