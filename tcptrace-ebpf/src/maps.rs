//! The maps, the read-only layout, and the exact counters.

use core::arch::asm;

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    helpers::bpf_get_smp_processor_id,
    macros::map,
    maps::{Array, RingBuf},
};
use tcptrace_common::{
    CpuCounters, FileLayout, FunctionLayout, LISTENER_SLOTS, Layout, MARK_BUCKETS, MARK_WAYS,
    PORTS, RECOVERED_KINDS, RecordLayout, RequestLayout, STATE_SLOTS, SYN_BUCKETS, Scratch,
    SockLayout, SynBucket, TaskLayout, TcpLayout,
};

/// Every event; user space chooses the size.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// One entry a CPU; user space sets the number and maps the memory.
#[map]
pub static COUNTERS: Array<CpuCounters> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// One entry a CPU; user space sets the number.
#[map]
pub static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);

/// The causes of the runs of the first copies of programs, until the second ones have looked.
#[map]
pub static MARKS: Array<[u64; MARK_WAYS]> = Array::with_max_entries(MARK_BUCKETS, 0);

/// When SYNs came in, until their handshakes are over. An array and not the kernel's LRU map:
/// it tells what it evicts, and costs less. A SYN flood reaches it.
#[map]
pub static SYNS: Array<SynBucket> = Array::with_max_entries(SYN_BUCKETS, 0);

/// How many SYNs came in, by local port; user space maps the memory.
#[map]
pub static SYNS_BY_PORT: Array<u64> = Array::with_max_entries(PORTS as u32, BPF_F_MMAPABLE);

/// Which processes may listen; user space maps the memory, and adds those that listened before.
#[map]
pub static LISTENER_PROCESSES: Array<[u8; LISTENER_SLOTS]> =
    Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Filled in before loading, frozen, and then constant to the verifier.
#[unsafe(no_mangle)]
pub static LAYOUT: Layout = Layout {
    groups: 0,
    sock: SockLayout {
        sk_protocol: 0,
        sk_err: 0,
        sk_shutdown: 0,
        sk_socket: 0,
        socket_inode: 0,
        sk_uid: 0,
        sk_cgrp_data: 0,
        inet_sport: 0,
        net_ns_inum: 0,
        net_cookie: 0,
        net_tw_count: 0,
        net_tw_limit: 0,
        cgroup_kn: 0,
        kernfs_node_id: 0,
        cgroup_root: 0,
        hierarchy_id: 0,
        reuseport: 0,
        reuseport_mask: 0,
        ipv6only: 0,
        ipv6only_mask: 0,
        transparent: 0,
        transparent_mask: 0,
        net_lookup: 0,
        sk_txhash: 0,
        sk_wmem_alloc: 0,
        sk_pacing_rate: 0,
        sk_pacing_shift: 0,
    },
    tcp: TcpLayout {
        bytes_sent: 0,
        bytes_retrans: 0,
        bytes_received: 0,
        segs_out: 0,
        segs_in: 0,
        total_retrans: 0,
        srtt_us: 0,
        rcv_nxt: 0,
        copied_seq: 0,
        write_seq: 0,
        bytes_acked: 0,
        snd_nxt: 0,
        snd_una: 0,
        snd_wnd: 0,
        linger2: 0,
        icsk_probes_out: 0,
        rskq_defer_accept: 0,
        fastopen_connect: 0,
        fastopen_connect_mask: 0,
        syn_data_acked: 0,
        syn_data_acked_mask: 0,
        repair: 0,
        repair_mask: 0,
        packets_out: 0,
        sacked_out: 0,
        lost_out: 0,
        retrans_out: 0,
        snd_cwnd: 0,
        tcp_wstamp_ns: 0,
    },
    task: TaskLayout {
        flags: 0,
        group_leader: 0,
        comm: 0,
        tgid: 0,
        signal: 0,
        signal_live: 0,
        nsproxy: 0,
        net_ns: 0,
    },
    request: RequestLayout {
        snt_synack: 0,
        num_retrans: 0,
        skb_head: 0,
        skb_transport_header: 0,
        tw_substate: 0,
        tw_pprev: 0,
        netns_cookie: 0,
        syn_seed: 0,
    },
    file: FileLayout {
        files: 0,
        fdt: 0,
        fd: 0,
        max_fds: 0,
        private_data: 0,
        socket_file: 0,
        socket_sk: 0,
        exit_ret: 0,
        call_first: 0,
        call_second: 0,
    },
    function: FunctionLayout {
        accept_parameters: 0,
        timewait_parameters: 0,
        reset_has_reason: 0,
    },
    record: RecordLayout {
        skaddr: 0,
        oldstate: 0,
        newstate: 0,
        sport: 0,
        dport: 0,
        family: 0,
        protocol: 0,
        protocol_size: 0,
        saddr: 0,
        daddr: 0,
        saddr_v6: 0,
        daddr_v6: 0,
    },
};

/// One value of [`LAYOUT`], as the loader left it.
macro_rules! layout {
    ($($field:ident).+) => {
        $crate::maps::load(&raw const $crate::maps::LAYOUT.$($field).+)
    };
}
pub(crate) use layout;

/// Reads a field of [`LAYOUT`]: volatile, for the compiler must not use the zeros of the source.
#[inline(always)]
pub fn load(field: *const u32) -> u32 {
    // SAFETY: only `layout!` calls this, with a field of a static of integers.
    unsafe { field.read_volatile() }
}

/// Counts a transition, whatever becomes of its event.
#[inline(always)]
pub fn count_transition(old: u8, new: u8) {
    let index = usize::from(old & 15) * STATE_SLOTS + usize::from(new & 15);
    if let Some(counters) = this_cpu() {
        // SAFETY: the index is below STATE_SLOTS squared.
        unsafe { add_one(&raw mut (*counters).transitions[index]) };
    }
}

/// Counts an event that found no room; `kind` is one of the `LOST_*`.
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

/// Counts a SYN that is forgotten for another, while its handshake may go on.
#[inline(always)]
pub fn count_eviction() {
    if let Some(counters) = this_cpu() {
        // SAFETY: a map's value.
        unsafe { add_one(&raw mut (*counters).syns_evicted) };
    }
}

/// BTF gave a group of offsets; to the verifier a constant.
#[inline(always)]
pub fn has(group: u32) -> bool {
    layout!(groups) & group != 0
}

/// This CPU's scratch.
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

/// An atomic add: on 5.10 a softirq may run the program in the middle of another run of it.
/// Spelt in assembly because core has no atomic read-modify-write for the BPF target.
#[inline(always)]
unsafe fn add_one(counter: *mut u64) {
    // SAFETY: the caller's pointer is into a map's value, aligned to 8 and alive.
    unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) counter, in(reg) 1_u64) };
}
