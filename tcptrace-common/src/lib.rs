//! What crosses the kernel boundary: the events, the states in them, the layout that user space
//! resolves for the programs, the counters, and the names that both sides use.
//!
//! Only integers and byte arrays cross. No enum, bool or Option does: a byte out of range must be
//! an error of the decoder, never undefined behaviour.
#![no_std]

mod counters;
mod event;
mod kinds;
mod layout;
mod scratch;
mod state;

pub use counters::*;
pub use event::*;
pub use kinds::*;
pub use layout::*;
pub use scratch::*;
pub use state::*;

/// The ring buffer that carries every event.
pub const MAP_EVENTS: &str = "EVENTS";
/// The memory-mapped array of [`CpuCounters`], one entry a CPU.
pub const MAP_COUNTERS: &str = "COUNTERS";
/// The read-only [`Layout`] that user space fills in before loading.
pub const GLOBAL_LAYOUT: &str = "LAYOUT";

/// `tp_btf/inet_sock_set_state`.
pub const PROGRAM_SET_STATE_BTF: &str = "set_state_btf";
/// The programs with a second copy, for what the kernel skips of the first: first, and second. In
/// the order of `RECOVERED_*`.
pub const SECOND_COPIES: [(&str, &str); 3] = [
    (PROGRAM_SET_STATE_BTF, "set_state_second"),
    (PROGRAM_RECEIVE_RESET, "receive_reset_second"),
    (PROGRAM_SEND_RESET, "send_reset_second"),
];
/// The classic tracepoint `sock:inet_sock_set_state`.
pub const PROGRAM_SET_STATE_CLASSIC: &str = "set_state_classic";
/// `tp_btf/tcp_receive_reset`.
pub const PROGRAM_RECEIVE_RESET: &str = "receive_reset";
/// `tp_btf/tcp_send_reset`.
pub const PROGRAM_SEND_RESET: &str = "send_reset";
/// `fentry/tcp_create_openreq_child`.
pub const PROGRAM_CREATE_CHILD: &str = "create_child";
/// sock_ops, for incoming SYNs.
pub const PROGRAM_SYN: &str = "syn";
/// `fexit/inet_csk_accept`.
pub const PROGRAM_ACCEPT: &str = "accept";
/// The classic tracepoints `syscalls:sys_exit_accept` and `sys_exit_accept4`.
pub const PROGRAMS_ACCEPT_EXIT: [&str; 2] = ["accept_exit", "accept4_exit"];
/// `fexit` of the functions that connect() calls: function, and program.
pub const PROGRAMS_CONNECT: [(&str, &str); 5] = [
    ("tcp_v4_connect", "connect_v4"),
    ("tcp_v6_connect", "connect_v6"),
    ("tcp_v4_pre_connect", "pre_connect_v4"),
    ("tcp_v6_pre_connect", "pre_connect_v6"),
    ("security_socket_connect", "security_connect"),
];
/// The classic tracepoint `syscalls:sys_exit_connect`.
pub const PROGRAM_CONNECT_EXIT: &str = "connect_exit";
/// `fexit/inet_twsk_alloc`.
pub const PROGRAM_TIMEWAIT: &str = "timewait";
/// `fentry/tcp_timewait_state_process`.
pub const PROGRAM_TIMEWAIT_BEGIN: &str = "timewait_begin";
/// `fexit/tcp_timewait_state_process`.
pub const PROGRAM_TIMEWAIT_END: &str = "timewait_end";
/// `tp_btf/tcp_retransmit_synack`.
pub const PROGRAM_RETRANSMIT_SYNACK: &str = "retransmit_synack";
/// `tp_btf/task_rename`.
pub const PROGRAM_PROCESS_RENAME: &str = "process_rename";
/// `tp_btf/sched_process_exit`.
pub const PROGRAM_PROCESS_EXIT: &str = "process_exit";
/// `tp_btf/cgroup_mkdir`.
pub const PROGRAM_CGROUP_MADE: &str = "cgroup_made";
/// `iter/tcp`.
pub const PROGRAM_SEED: &str = "seed";
/// `iter/task_file`.
pub const PROGRAM_HELD: &str = "held";
/// The per-CPU scratch, one entry a CPU.
pub const MAP_SCRATCH: &str = "SCRATCH";
/// The memory-mapped array of processes that may listen, [`LISTENER_SLOTS`] bytes.
pub const MAP_LISTENER_PROCESSES: &str = "LISTENER_PROCESSES";
/// The memory-mapped array of SYNs by local port, [`PORTS`] words.
pub const MAP_SYNS_BY_PORT: &str = "SYNS_BY_PORT";
