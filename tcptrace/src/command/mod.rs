//! The commands. Each runs with its configuration until it ends or is told to stop.

pub mod capture;
pub mod check;
pub mod completions;
pub mod daemon;
pub mod explain;
mod reload;
pub mod replay;
mod start;
mod startup;
pub mod tail;
