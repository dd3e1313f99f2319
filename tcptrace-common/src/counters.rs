//! Counters that stay exact however full the ring is.

/// One slot a raw state number: the kernel has 13 states, a power of two lets the verifier see
/// the bound.
pub const STATE_SLOTS: usize = 16;

/// `lost`: a transition's event found the ring full.
pub const LOST_TRANSITION: usize = 0;
/// `lost`: a reset's event found the ring full.
pub const LOST_RESET: usize = 1;
/// How many kinds of loss there are, with room for more.
pub const LOST_KINDS: usize = 8;

/// One CPU's counters: an entry of the memory-mapped array `COUNTERS`.
///
/// An mmapable array indexed by CPU is used in place of a per-CPU array: reading a per-CPU array
/// takes a bpf(2) call, during which classic tracepoint programs on that CPU are skipped and
/// nobody counts it. Reading mapped memory disturbs nothing.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct CpuCounters {
    /// Transitions of TCP sockets, at index `from * STATE_SLOTS + to`.
    pub transitions: [u64; STATE_SLOTS * STATE_SLOTS],
    /// Events lost, by `LOST_*`.
    pub lost: [u64; LOST_KINDS],
}

// A multiple of a cache line, so that CPUs do not share one.
const _: () = assert!(size_of::<CpuCounters>() == 33 * 64);
