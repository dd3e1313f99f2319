//! The kernel side: loads the programs, attaches them, and hands out bytes.
//!
//! The only module that imports aya. It does not know what an event means; the rest of the program
//! can be fed from a file.

mod attach;
pub mod btf;
mod cgroup_link;
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

/// Reads what the programs need from BTF. Whatever the bytes are, each type is found or not.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz_btf(bytes: &[u8]) {
    let tracepoints = ["inet_sock_set_state", "tcp_retransmit_skb"];
    let functions = ["inet_csk_accept", "inet_twsk_alloc"];
    if let Ok(types) = layout::KernelTypes::parse(bytes.to_vec(), &tracepoints, &functions) {
        drop((
            types.named_only(),
            types.request(),
            types.timewait(),
            types.file(),
        ));
        drop((
            types.accept(),
            types.process(),
            types.call(),
            types.cgroup(),
        ));
    }
}

/// Reads the format of a tracepoint's record.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz_tracefs(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes) {
        drop((tracefs::parse(text), tracefs::parse_exit_ret(text)));
    }
}

pub use self::{
    config::{AttachMode, ProbeConfig},
    counters::{KernelCounts, LOST_EVENTS, SynCounts, state_name},
    hooks::{Exclusion, Hook, HookStatus, Source},
    loaded::{Losses, Probe, SocketWalk, count_runs},
    program::{ProgramMisses, ProgramRuns, SKIPPED_EVENTS, Skipped},
    report::{Report, missing, summary},
};
