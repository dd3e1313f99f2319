//! The maps, the read-only layout, and the exact counters.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, RingBuf},
};
use tcptrace_common::{
    CpuCounters, LISTENER_SLOTS, Layout, PORTS, RECOVERED_KINDS, STATE_SLOTS, SYN_BUCKETS, Scratch,
    SynBucket,
};

/// Every event; user space chooses the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// One entry per CPU; user space sets the number and maps the memory.
#[map]
pub static COUNTERS: Array<CpuCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry per CPU; user space sets the number.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// When SYNs arrived, until their handshakes end. An array and not the kernel's LRU map: it reports
/// evictions, and costs less. A SYN flood reaches it.
#[map]
pub static SYNS: Array<SynBucket> = Array::with_max_entries(SYN_BUCKETS, 0);

/// How many SYNs arrived, by local port; user space maps the memory.
#[map]
pub static SYNS_BY_PORT: Array<u64> = Array::with_max_entries(PORTS as u32, BPF_F_MMAPABLE);

/// Which processes may listen; user space maps the memory, and adds those from before the trace.
#[map]
pub static LISTENER_PROCESSES: Array<[u8; LISTENER_SLOTS]> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Filled in before loading, frozen, and then constant to the verifier.
#[unsafe(no_mangle)]
// SAFETY: a repr(C) struct of u32, of which zero is a value.
pub static LAYOUT: Layout = unsafe { core::mem::zeroed() };

/// Reads one value of [`LAYOUT`], as the loader left it.
macro_rules! layout {
    ($($field:ident).+) => {
        $crate::maps::load(&raw const $crate::maps::LAYOUT.$($field).+)
    };
}
pub(crate) use layout;

/// Reads a field of [`LAYOUT`]: volatile, because the compiler must not use the zeros of the
/// source.
#[inline(always)]
pub fn load(field: *const u32) -> u32 {
    // SAFETY: only `layout!` calls this, with a field of a static of integers.
    unsafe { field.read_volatile() }
}

/// Counts a transition, whatever happens to its event.
#[inline(always)]
pub fn count_transition(old: u8, new: u8) {
    let index = usize::from(old & 15) * STATE_SLOTS + usize::from(new & 15);
    if let Some(counters) = this_cpu() {
        // SAFETY: the index is below STATE_SLOTS squared.
        unsafe { add_one(&raw mut (*counters).transitions[index]) };
    }
}

/// Counts an event without room; `kind` is one of the `LOST_*`.
#[inline(always)]
pub fn count_loss(kind: usize) {
    if let Some(counters) = this_cpu() {
        // SAFETY: `kind` is a constant below LOST_KINDS.
        unsafe { add_one(&raw mut (*counters).lost[kind]) };
    }
}

/// Counts a run of a second copy that acted; `kind` is one of the `RECOVERED_*`.
#[inline(always)]
pub fn count_recovered(kind: usize) {
    if let Some(counters) = this_cpu() {
        // SAFETY: a map's value; the slots are a power of two.
        unsafe { add_one(&raw mut (*counters).recovered[kind % RECOVERED_KINDS]) };
    }
}

/// Counts a SYN of a listener's port.
#[inline(always)]
pub fn count_syn(port: u16) {
    if let Some(count) = SYNS_BY_PORT.get_ptr_mut(u32::from(port)) {
        // SAFETY: a map's value.
        unsafe { add_one(count) };
    }
}

/// Counts a SYN dropped for another, while its handshake may go on.
#[inline(always)]
pub fn count_eviction() {
    if let Some(counters) = this_cpu() {
        // SAFETY: a map's value.
        unsafe { add_one(&raw mut (*counters).syns_evicted) };
    }
}

/// Whether BTF gave a group of offsets; a constant to the verifier.
#[inline(always)]
pub fn has(group: u32) -> bool {
    layout!(groups) & group != 0
}

/// Returns this CPU's scratch.
#[inline(always)]
pub fn scratch() -> Option<*mut Scratch> {
    // SAFETY: a helper without arguments.
    SCRATCH.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)
}

#[inline(always)]
fn this_cpu() -> Option<*mut CpuCounters> {
    // SAFETY: a helper without arguments.
    COUNTERS.get_ptr_mut(unsafe { bpf_get_smp_processor_id() } as u32)
}

/// An atomic add: on 5.10 a softirq may run the program in the middle of another run of it. In
/// assembly, because core has no atomic read-modify-write for the BPF target.
#[inline(always)]
unsafe fn add_one(counter: *mut u64) {
    // SAFETY: the caller's pointer is into a map's value, aligned to 8 and alive.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64) };
}
