//! The event stream as a file: a feed to it, and back from it.

pub mod capture;
pub mod destination;
pub mod format;
mod reader;
pub mod replay;
