//! Counters that stay exact however full the ring is.

/// One slot per raw state number: the kernel has 13 states, and a power of two lets the verifier
/// see the bound.
pub const STATE_SLOTS: usize = 16;

/// `lost`: a transition's event found the ring full.
pub const LOST_TRANSITION: usize = 0;
/// `lost`: a reset's event found the ring full.
pub const LOST_RESET: usize = 1;
/// `lost`: an accept's event found the ring full.
pub const LOST_ACCEPT: usize = 2;
/// `lost`: a timewait socket's event found the ring full.
pub const LOST_TIMEWAIT: usize = 3;
/// `lost`: a SYN-ACK retransmit's event found the ring full.
pub const LOST_SYNACK_RETRANSMIT: usize = 4;
/// `lost`: a socket found by a walk found the ring full. The next walk will find it.
pub const LOST_SEED: usize = 5;
/// `lost`: a listening process's new name or exit found the ring full.
pub const LOST_PROCESS: usize = 6;
/// `lost`: a failed connect()'s event found the ring full.
pub const LOST_CONNECT: usize = 7;
/// `lost`: the path of a new cgroup found the ring full.
pub const LOST_CGROUP: usize = 8;
/// How many kinds of loss there are.
pub const LOST_KINDS: usize = 9;

/// `recovered`: a transition, of any protocol.
pub const RECOVERED_TRANSITION: usize = 0;
/// `recovered`: a received RST.
pub const RECOVERED_RESET_RECEIVED: usize = 1;
/// `recovered`: a sent RST.
pub const RECOVERED_RESET_SENT: usize = 2;
/// How many programs have a second copy, with room for more; a power of two.
pub const RECOVERED_KINDS: usize = 4;

/// One CPU's counters: an entry of the memory-mapped array `COUNTERS`.
///
/// An mmapable array indexed by CPU is used in place of a per-CPU array: reading a per-CPU array
/// takes a bpf(2) call, during which classic tracepoint programs on that CPU are skipped and not
/// counted. Reading mapped memory disturbs nothing.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CpuCounters {
    /// Transitions of TCP sockets, at index `from * STATE_SLOTS + to`.
    pub transitions: [u64; STATE_SLOTS * STATE_SLOTS],
    /// Events lost, by `LOST_*`.
    pub lost: [u64; LOST_KINDS],
    /// SYNs dropped for newer ones before their handshakes ended.
    pub syns_evicted: u64,
    /// Skipped runs of programs that their second copies made up for, by `RECOVERED_*`; includes
    /// those that repeat what the first copy had told, which user space finds out.
    pub recovered: [u64; RECOVERED_KINDS],
    /// Zero.
    pub padding: [u64; 2],
}

// A multiple of a cache line, so that CPUs do not share one.
const _: () = assert!(size_of::<CpuCounters>() == 34 * 64);
