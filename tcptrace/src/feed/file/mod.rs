//! The event stream as a file.

pub mod capture;
pub mod destination;
pub mod format;
mod reader;
