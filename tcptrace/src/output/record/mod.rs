//! Records: what every output shows, in the one shape that DESIGN calls `tcptrace/1`.
//!
//! A field that is absent is not known. Times are RFC 3339 with nanoseconds; durations end in
//! `_us` and are integers. Nothing here decides anything: it copies what the tracker says.

mod address;
mod recorder;
mod shapes;

pub use self::{
    address::Address,
    recorder::Recorder,
    shapes::{
        ConnectionRecord, HandshakeFields, HandshakeRecord, Identity, LossRecord, LostAt, Record,
        RecordBody, ReleaseRecord, RowLoss, SummaryRecord,
    },
};
