//! The kernel side: loads the programs, attaches them, and hands out bytes.
//!
//! The only module that imports aya. It does not know what an event means; the rest of the program
//! can be fed from a file.

mod attach;
pub mod btf;
mod config;
mod counters;
mod error;
mod hooks;
mod layout;
mod load;
mod loaded;
mod program;
mod report;
mod resolve;
mod tracefs;

pub use self::{
    config::{AttachMode, ProbeConfig},
    counters::{KernelCounts, LOST_EVENTS, SynCounts, state_name},
    hooks::{Exclusion, Hook, HookStatus, Source},
    loaded::{Losses, Probe, SocketWalk, count_runs},
    program::{ProgramMisses, ProgramRuns, SKIPPED_EVENTS, Skipped},
    report::{Report, missing, summary},
};
