//! What comes in, in true order: from the kernel by the pump, or from a file.

pub mod decode;
pub mod event;
pub mod file;
pub mod item;
pub mod names;
mod socket;
