//! The event stream as a file.

pub mod format;
mod reader;
