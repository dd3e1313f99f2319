//! The event stream as a file.

pub mod format;
pub mod reader;
