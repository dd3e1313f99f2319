//! One JSON object a line.

use crate::record::Record;

/// Appends a record's line.
pub(super) fn line(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    match serde_json::to_writer(&mut *out, record) {
        Ok(()) => out.push(b'\n'),
        // Nothing in a record can fail to serialize; half a line must not be left all the same.
        Err(error) => {
            out.truncate(start);
            tracing::error!("a record could not be written as JSON: {error}");
        }
    }
}
