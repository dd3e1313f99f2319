//! What crosses the kernel boundary: the events, the states in them, the layout that user space
//! resolves for the programs, the counters, and the names both sides know each other by.
//!
//! Only integers and byte arrays cross. No enum, bool or Option does: a byte that is out of
//! range must be an error of the decoder, never undefined behaviour.
#![no_std]

mod counters;
mod event;
mod layout;
mod state;

pub use counters::*;
pub use event::*;
pub use layout::*;
pub use state::*;

/// The ring buffer that carries every event.
pub const MAP_EVENTS: &str = "EVENTS";
/// The memory-mapped array of [`CpuCounters`], one entry a CPU.
pub const MAP_COUNTERS: &str = "COUNTERS";
/// The read-only [`Layout`] that user space fills in before loading.
pub const GLOBAL_LAYOUT: &str = "LAYOUT";

/// `tp_btf/inet_sock_set_state`.
pub const PROGRAM_SET_STATE_BTF: &str = "set_state_btf";
/// The classic tracepoint `sock:inet_sock_set_state`.
pub const PROGRAM_SET_STATE_CLASSIC: &str = "set_state_classic";
/// `tp_btf/tcp_receive_reset`.
pub const PROGRAM_RECEIVE_RESET: &str = "receive_reset";
/// `tp_btf/tcp_send_reset`.
pub const PROGRAM_SEND_RESET: &str = "send_reset";
