//! What one program leaves for another on the same CPU, and what is remembered of a SYN: the only
//! state that the kernel side keeps, for no other place has it.

/// One CPU's scratch: an entry of the array `SCRATCH`.
///
/// `tcp_create_openreq_child` has the request and makes the child; the child's LISTEN→SYN_RECV
/// comes from within it, on the same CPU. `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB` comes just before the
/// child's SYN_RECV→ESTABLISHED. `tcp_timewait_state_process` is seen at its beginning
/// and at its end. Neither lets another run of itself in between; but a program's run may be
/// skipped, so that each says whom it is for.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Scratch {
    /// `snt_synack` of the request, microseconds.
    pub synack_us: u64,
    /// The listener's address.
    pub listener: u64,
    /// The request's `skc_net`.
    pub net: u64,
    /// `skc_dport` and `skc_num` of the listener: what the child has as well, up to Linux 6.14.
    pub listener_ports: u32,
    /// `skc_dport` and `skc_num` of the request: what the child has, from Linux 6.15 on.
    pub request_ports: u32,
    /// `num_retrans` of the request.
    pub synack_retransmits: u32,
    /// `OPEN_*` bits; 0 when there is nothing of a request here.
    pub open_flags: u32,
    /// The child whose handshake is being completed; 0 when there is nothing of one here.
    pub child: u64,
    /// When its SYN came in, nanoseconds; 0 when that is not known.
    pub syn_ns: u64,
    /// `HANDSHAKE_*` bits of the segment that completes it.
    pub handshake_flags: u32,
    /// What `timewait` was in: FIN_WAIT2 or TIME_WAIT.
    pub timewait_state: u32,
    /// The timewait socket whose turn it is; else 0.
    pub timewait: u64,
    /// Two cache lines, so that CPUs do not share one.
    pub padding: [u64; 7],
}

const _: () = assert!(size_of::<Scratch>() == 128);

/// How many marks a bucket holds: a cache line of them. A CPU begins to look for room at its number modulo this.
pub const MARK_WAYS: usize = 8;
/// How many buckets of marks there are, a power of two.
pub const MARK_BUCKETS: u32 = 1024;

/// How many SYNs a bucket remembers; the oldest goes first.
pub const SYN_WAYS: usize = 4;

/// SYNs that came in: an entry of the array `SYNS`, and a cache line, for that is what it costs.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SynBucket {
    /// When each came in, nanoseconds; 0 when there is none. The lowest bit is
    /// [`SYN_AMBIGUOUS`].
    pub time_ns: [u64; SYN_WAYS],
    /// Of whom: 64 bits of a hash with a secret seed over addresses, ports and namespace. Two of
    /// one bucket are the same in one case of 2^52.
    pub tag: [u64; SYN_WAYS],
}

/// Two handshakes may be meant, whose namespaces cannot be told apart.
pub const SYN_AMBIGUOUS: u64 = 1;

const _: () = assert!(size_of::<SynBucket>() == 64);

/// How many buckets there are, a power of two.
pub const SYN_BUCKETS: u32 = 4096;
/// A SYN that is older than this, nanoseconds, is of no handshake any more: a listener gives a
/// request up after 63 s (`tcp_synack_retries` 5), or twice that with one more.
pub const SYN_LIFE_NS: u64 = 127_000_000_000;
/// One byte a process id, modulo this: not 0 when such a process may listen, so that only of few it
/// is told that they have another name or are over. None is ever taken back: two processes may share one.
pub const LISTENER_SLOTS: usize = 1 << 16;
/// One count a local port.
pub const PORTS: usize = 1 << 16;
