//! What one program leaves for another on the same CPU, and what is remembered of a SYN: the only
//! state of the kernel side, available nowhere else.

use crate::counters::RECOVERED_KINDS;

/// One CPU's scratch: an entry of the array `SCRATCH`.
///
/// `tcp_create_openreq_child` has the request and makes the child; the child's LISTEN→SYN_RECV
/// comes from within it, on the same CPU. `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB` comes just before
/// the child's SYN_RECV→ESTABLISHED. `tcp_timewait_state_process` is seen at its beginning and at
/// its end. None of them is interrupted by another run of itself; but a program's run may be
/// skipped, so each entry names its socket.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Scratch {
    /// What the first copy of a program that has two ran for last, by its `RECOVERED_*`.
    pub marks: [Mark; RECOVERED_KINDS],
    /// `snt_synack` of the request, microseconds.
    pub synack_us: u64,
    /// The listener's address.
    pub listener: u64,
    /// The request's `skc_net`.
    pub net: u64,
    /// `skc_dport` and `skc_num` of the listener, which the child has too up to Linux 6.14.
    pub listener_ports: u32,
    /// `skc_dport` and `skc_num` of the request, which the child has too from Linux 6.15.
    pub request_ports: u32,
    /// `num_retrans` of the request.
    pub synack_retransmits: u32,
    /// `OPEN_*` bits; 0 without a request.
    pub open_flags: u32,
    /// The child whose handshake is completing; 0 without one.
    pub child: u64,
    /// When its SYN arrived, nanoseconds; 0 when not known.
    pub syn_ns: u64,
    /// `HANDSHAKE_*` bits of the segment that completes it.
    pub handshake_flags: u32,
    /// The state of `timewait`: FIN_WAIT2 or TIME_WAIT.
    pub timewait_state: u32,
    /// The timewait socket being processed; otherwise 0.
    pub timewait: u64,
    /// Whole cache lines, so that CPUs do not share one.
    pub padding: [u64; 7],
}

const _: () = assert!(size_of::<Scratch>() == 192);

/// The cause of a program's run.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Mark {
    /// The socket's address.
    pub socket: u64,
    /// What happened to it, in the lowest byte, and when, in jiffies.
    pub what: u64,
}

/// How many SYNs a bucket remembers; the oldest is dropped first.
pub const SYN_WAYS: usize = 4;

/// Incoming SYNs: an entry of the array `SYNS`, one cache line.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SynBucket {
    /// When each arrived, nanoseconds; 0 for none. The lowest bit is [`SYN_AMBIGUOUS`].
    pub time_ns: [u64; SYN_WAYS],
    /// A 64-bit hash, with a secret seed, of addresses, ports and namespace. Two of one bucket are
    /// equal in one case of 2^52.
    pub tag: [u64; SYN_WAYS],
}

/// Two handshakes are possible, whose namespaces cannot be told apart.
pub const SYN_AMBIGUOUS: u64 = 1;

const _: () = assert!(size_of::<SynBucket>() == 64);

/// How many buckets there are, a power of two.
pub const SYN_BUCKETS: u32 = 4096;
/// A SYN older than this, nanoseconds, belongs to no handshake any more: a listener gives a request
/// up after 63 s (`tcp_synack_retries` 5), or twice that with one more.
pub const SYN_LIFE_NS: u64 = 127_000_000_000;
/// One byte per process id, modulo this: not 0 when such a process may listen, so that names and
/// exits of few processes are reported. None is ever taken back: two processes may share one.
pub const LISTENER_SLOTS: usize = 1 << 16;
/// One count per local port.
pub const PORTS: usize = 1 << 16;
