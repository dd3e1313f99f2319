//! Records: what every output shows, in one shape, `tcptrace/1`.
//!
//! An absent field is unknown. Times are RFC 3339 with nanoseconds; durations are integers that end
//! in `_us`. Nothing is decided here: records copy what the tracker reports.

mod address;
mod recorder;
#[cfg(test)]
#[path = "schema_tests.rs"]
mod schema;
mod shapes;

pub use self::{
    address::Address,
    recorder::Recorder,
    shapes::{
        ConnectionRecord, HandshakeRecord, Identity, LossRecord, LostAt, Record, RecordBody,
        RecordedHandshake, ReleaseRecord, RowLoss, SummaryRecord,
    },
};
