//! Comma-separated values: one header, one line a record, empty where a record has no such field.

use serde_json::Value;

use crate::record::Record;

/// Every field of every kind of record, in the order printed. New ones go to the end.
const COLUMNS: [&str; 56] = [
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
];

/// Appends the header.
pub(super) fn header(out: &mut Vec<u8>) {
    write(COLUMNS.iter(), out);
}

/// Appends a record's line. The JSON of a record is its one shape, and this follows it.
pub(super) fn row(record: &Record, out: &mut Vec<u8>) {
    let value = serde_json::to_value(record).unwrap_or_default();
    write(
        COLUMNS.iter().map(|column| match &value[column] {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        }),
        out,
    );
}

fn write(fields: impl Iterator<Item = impl AsRef<[u8]>>, out: &mut Vec<u8>) {
    let start = out.len();
    let mut writer = csv::Writer::from_writer(&mut *out);
    let written = writer
        .write_record(fields)
        .and_then(|()| Ok(writer.flush()?));
    drop(writer);
    if let Err(error) = written {
        out.truncate(start);
        tracing::error!("a record could not be written as CSV: {error}");
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
