//! The feed: events in order, from the kernel or from a file.

pub mod decode;
pub mod event;
pub mod file;
pub mod item;
pub mod name;
mod socket;
