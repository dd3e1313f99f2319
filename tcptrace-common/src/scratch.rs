//! What one program leaves for another on the same CPU, and what is remembered of a SYN: the only
//! state that the kernel side keeps, for no other place has it.

/// One CPU's scratch: an entry of the array `SCRATCH`.
///
/// `tcp_create_openreq_child` has the request and makes the child; the child's LISTEN→SYN_RECV
/// comes from within it, on the same CPU. `BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB` comes just before the
/// child's SYN_RECV→ESTABLISHED. `tcp_timewait_state_process` is seen at its beginning
/// and at its end. Neither lets another run of itself in between.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Scratch {
    /// `snt_synack` of the request, microseconds.
    pub synack_us: u64,
    /// `num_retrans` of the request.
    pub synack_retransmits: u32,
    /// `OPEN_*` bits; 0 when there is nothing here.
    pub open_flags: u32,
    /// `HANDSHAKE_*` bits of the segment that completes a handshake; 0 when there is nothing here.
    pub handshake_flags: u32,
    /// Zero.
    pub reserved: u32,
    /// The listener's address.
    pub listener: u64,
    /// The timewait socket whose turn it is, if it is in FIN_WAIT2; else 0.
    pub timewait: u64,
    /// A cache line, so that CPUs do not share one.
    pub padding: [u64; 3],
}

const _: () = assert!(size_of::<Scratch>() == 64);

/// A connection whose SYN came in, as sock_ops and the child socket both know it: a key of `SYNS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SynKey {
    /// Network byte order; an IPv4 address, mapped or not, in the first four bytes.
    pub local_address: [u32; 4],
    /// As `local_address`.
    pub remote_address: [u32; 4],
    /// `net.net_cookie`; 0 where the kernel does not tell it.
    pub net_cookie: u64,
    /// Host byte order.
    pub local_port: u16,
    /// Host byte order.
    pub remote_port: u16,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SynKey>() == 48);
