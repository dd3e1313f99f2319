//! The events, byte for byte as in the ring.
//!
//! Every event begins with an [`EventHeader`], whose `kind` tells which struct it is. Sizes and
//! offsets are asserted at compile time; padding is explicit and zero.

#[cfg(feature = "zerocopy")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::CGROUP_PATH;

/// The start of every event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct EventHeader {
    /// `bpf_ktime_get_ns`: CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// The kernel's address of the socket. Reused within microseconds of a socket's end.
    pub socket: u64,
    /// `skc_cookie`, 0 until something asked the kernel for it.
    pub cookie: u64,
    /// One of the `KIND_*`.
    pub kind: u8,
    /// The state left, as the kernel numbers it; for resets the current state.
    pub old_state: u8,
    /// The state entered; for resets the current state.
    pub new_state: u8,
    /// `FIELDS_*` bits: which of the fields below could be read.
    pub fields: u8,
    /// `AF_INET` or `AF_INET6`; 0 for a process.
    pub family: u16,
    /// Zero.
    pub reserved: u16,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct RawEndpoints {
    /// Network byte order; an IPv4 address in the first four bytes, the rest zero.
    pub local_address: [u8; 16],
    /// As `local_address`; zero when not known yet.
    pub remote_address: [u8; 16],
    /// Host byte order; 0 when not known yet.
    pub local_port: u16,
    /// Host byte order; 0 when not known yet.
    pub remote_port: u16,
    /// `net.ns.inum`, 0 when it could not be read.
    pub netns: u32,
    /// `skc_bound_dev_if`: the interface that the socket is bound to, as for a link-local address;
    /// 0 for none.
    pub interface: u32,
    /// `net.net_cookie`, never reused within a boot; 0 when it could not be read, does not exist
    /// yet (before Linux 5.12), or has more than 32 bits. The kernel counts from 1.
    pub netns_cookie: u32,
}

/// The current task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct RawTask {
    /// The process (thread group), in the initial pid namespace; 0 is the idle task.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
    /// NUL-terminated.
    pub comm: [u8; 16],
}

/// The beginning of an active open or of listening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct OpenEvent {
    /// The header.
    pub header: EventHeader,
    /// The local port is 0 unless the socket was bound.
    pub endpoints: RawEndpoints,
    /// The id of the cgroup the socket belongs to (cgroup v2), 0 when it could not be read.
    pub cgroup: u64,
    /// `sk_uid`: the user that owns the socket.
    pub uid: u32,
    /// `BIND_*` bits.
    pub bind_flags: u32,
    /// The calling process.
    pub task: RawTask,
}

/// A child socket was made for a handshake that is completing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct PassiveOpenEvent {
    /// The header. Up to Linux 6.14 its cookie is the listener's.
    pub header: EventHeader,
    /// Up to Linux 6.14 the remote end is not set yet.
    pub endpoints: RawEndpoints,
    /// The listener's, as in [`OpenEvent`].
    pub cgroup: u64,
    /// The listener's, as in [`OpenEvent`].
    pub uid: u32,
    /// `OPEN_*` bits.
    pub open_flags: u32,
    /// `tcp_request_sock.snt_synack`: when the first SYN-ACK was sent, microseconds of
    /// CLOCK_MONOTONIC; 0 when there was none (SYN cookies, Fast Open) or it is not known.
    pub synack_us: u64,
    /// `request_sock.num_retrans`: SYN-ACK retransmits.
    pub synack_retransmits: u32,
    /// `BIND_*` bits, inherited from the listener.
    pub bind_flags: u32,
    /// The kernel's address of the listener; 0 when it is not known.
    pub listener: u64,
}

/// A handshake completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct EstablishedEvent {
    /// The header.
    pub header: EventHeader,
    /// Both ends, complete.
    pub endpoints: RawEndpoints,
    /// `srtt_us >> 3`: smoothed round-trip time, microseconds; 0 without a sample.
    pub srtt_us: u32,
    /// `total_retrans`: SYN or SYN-ACK retransmits so far.
    pub retransmits: u32,
    /// When the SYN arrived, as sock_ops saw it: CLOCK_MONOTONIC, nanoseconds; 0 when not known.
    pub syn_ns: u64,
    /// `HANDSHAKE_*` bits.
    pub handshake_flags: u32,
    /// Zero.
    pub reserved: u32,
}

/// A transition without details.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct StepEvent {
    /// The header.
    pub header: EventHeader,
}

/// Our side closes its direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct ReleaseEvent {
    /// The header.
    pub header: EventHeader,
    /// Usually the closing process; a kernel thread when the last reference was dropped elsewhere.
    pub task: RawTask,
}

/// The full socket has ended, whether a timewait socket lives on or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct CloseEvent {
    /// The header.
    pub header: EventHeader,
    /// Both ends.
    pub endpoints: RawEndpoints,
    /// `bytes_sent - bytes_retrans`: payload handed to IP; counted again each time IP did not take
    /// it.
    pub bytes_sent: u64,
    /// `bytes_acked`: what the peer acknowledged, with our FIN, and the SYN of connect().
    pub bytes_acked: u64,
    /// `bytes_received`: payload, and one for the peer's FIN.
    pub bytes_received: u64,
    /// `segs_out`.
    pub segments_sent: u32,
    /// `segs_in`.
    pub segments_received: u32,
    /// `total_retrans`: segments retransmitted.
    pub retransmits: u32,
    /// `srtt_us >> 3`, microseconds; 0 without a sample.
    pub srtt_us: u32,
    /// `sk_err`: an errno, 0 for none.
    pub error: u32,
    /// `rcv_nxt - copied_seq`: bytes the application did not read; may count the peer's FIN.
    pub unread: u32,
    /// `write_seq - snd_una`: bytes the peer has not acknowledged.
    pub unacknowledged: u32,
    /// `snd_wnd`: the window the peer last offered.
    pub send_window: u32,
    /// `sk_shutdown`: bit 0 receive, bit 1 send.
    pub shutdown: u8,
    /// `SOCK_*` bits.
    pub sock_flags: u8,
    /// `icsk_probes_out`: unanswered zero-window or keepalive probes.
    pub probes_out: u8,
    /// Zero.
    pub reserved: u8,
    /// `snd_nxt - snd_una`: bytes that have left and are not acknowledged.
    pub in_flight: u32,
}

/// A RST was received or sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct ResetEvent {
    /// The header; both states are the current one.
    pub header: EventHeader,
    /// Both ends.
    pub endpoints: RawEndpoints,
    /// `enum sk_rst_reason` of this kernel, or [`REASON_NONE`](crate::REASON_NONE).
    pub reason: u32,
    /// Zero.
    pub reserved: u32,
}

/// accept() returned a connection to a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct AcceptEvent {
    /// The header; both states are the current one.
    pub header: EventHeader,
    /// Both ends.
    pub endpoints: RawEndpoints,
    /// The process that called accept().
    pub task: RawTask,
    /// The kernel's address of the listener; 0 when it is not known.
    pub listener: u64,
}

/// A connect() failed, before SYN_SENT or in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct ConnectFailedEvent {
    /// The header; both states are the current one.
    pub header: EventHeader,
    /// The remote end is the one connected to.
    pub endpoints: RawEndpoints,
    /// As in [`OpenEvent`].
    pub cgroup: u64,
    /// As in [`OpenEvent`].
    pub uid: u32,
    /// The errno.
    pub error: u32,
    /// The process that called connect().
    pub task: RawTask,
    /// 1 when TCP was not called: a security module or a cgroup's program refused.
    pub policy: u32,
    /// Zero.
    pub reserved: u32,
}

/// A listening process changed its name, or exited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct ProcessEvent {
    /// The header, without socket, state and family.
    pub header: EventHeader,
    /// The process, with its name from then on.
    pub task: RawTask,
}

/// A cgroup of the v2 hierarchy is created. No process can be in it yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct CgroupEvent {
    /// The header, without socket, state and family.
    pub header: EventHeader,
    /// The cgroup's id.
    pub cgroup: u64,
    /// Bytes of the path with its NUL; 0 when it does not fit or cannot be read.
    pub length: u32,
    /// Zero.
    pub reserved: u32,
    /// The path, from the root of the hierarchy; the bytes after it mean nothing.
    pub path: [u8; CGROUP_PATH],
}

/// A timewait socket is to take over from a full one; →CLOSE follows at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct TimewaitEvent {
    /// The full socket's header; both states are the current one.
    pub header: EventHeader,
    /// The kernel's address of the timewait socket; 0 when there was no room for one
    /// (`tcp_max_tw_buckets`, memory).
    pub timewait: u64,
    /// The timewait socket's first state: FIN_WAIT2 or TIME_WAIT.
    pub substate: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

/// A segment reached a timewait socket and changed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct TimewaitStepEvent {
    /// The timewait socket's header; the states are its `tw_substate` before and after.
    pub header: EventHeader,
    /// Both ends.
    pub endpoints: RawEndpoints,
    /// `enum tcp_tw_status`: what the kernel does about the segment.
    pub status: u32,
    /// 1 when it was a RST, and the timewait socket is gone.
    pub reset: u32,
}

/// A socket and its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct PlaceEvent {
    /// The header; both states are the current one.
    pub header: EventHeader,
    /// Both ends; a listener has only its own.
    pub endpoints: RawEndpoints,
}

/// A socket found by a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct SeedEvent {
    /// The header; both states are the current one.
    pub header: EventHeader,
    /// Both ends.
    pub endpoints: RawEndpoints,
    /// As in [`OpenEvent`].
    pub cgroup: u64,
    /// As in [`OpenEvent`].
    pub uid: u32,
    /// `BIND_*` bits.
    pub bind_flags: u32,
    /// The inode of its file, 0 when it has none or it could not be read.
    pub inode: u64,
}

macro_rules! layout {
    ($($event:ty = $size:literal { $($field:ident @ $offset:literal),+ $(,)? })+) => {
        $(
            const _: () = assert!(size_of::<$event>() == $size);
            const _: () = assert!(align_of::<$event>() <= 8 && $size % 4 == 0);
            $(const _: () = assert!(core::mem::offset_of!($event, $field) == $offset);)+
        )+
    };
}

layout! {
    EventHeader = 32 {
        time_ns @ 0, socket @ 8, cookie @ 16, kind @ 24, old_state @ 25, new_state @ 26,
        fields @ 27, family @ 28, reserved @ 30,
    }
    RawEndpoints = 48 {
        local_address @ 0, remote_address @ 16, local_port @ 32, remote_port @ 34, netns @ 36,
        interface @ 40, netns_cookie @ 44,
    }
    RawTask = 24 { pid @ 0, reserved @ 4, comm @ 8 }
    OpenEvent = 120 { header @ 0, endpoints @ 32, cgroup @ 80, uid @ 88, bind_flags @ 92, task @ 96 }
    PassiveOpenEvent = 120 {
        header @ 0, endpoints @ 32, cgroup @ 80, uid @ 88, open_flags @ 92, synack_us @ 96,
        synack_retransmits @ 104, bind_flags @ 108, listener @ 112,
    }
    EstablishedEvent = 104 {
        header @ 0, endpoints @ 32, srtt_us @ 80, retransmits @ 84, syn_ns @ 88,
        handshake_flags @ 96, reserved @ 100,
    }
    StepEvent = 32 { header @ 0 }
    ReleaseEvent = 56 { header @ 0, task @ 32 }
    CloseEvent = 144 {
        header @ 0, endpoints @ 32, bytes_sent @ 80, bytes_acked @ 88, bytes_received @ 96,
        segments_sent @ 104, segments_received @ 108, retransmits @ 112, srtt_us @ 116, error @ 120,
        unread @ 124, unacknowledged @ 128, send_window @ 132, shutdown @ 136, sock_flags @ 137,
        probes_out @ 138, reserved @ 139, in_flight @ 140,
    }
    ResetEvent = 88 { header @ 0, endpoints @ 32, reason @ 80, reserved @ 84 }
    AcceptEvent = 112 { header @ 0, endpoints @ 32, task @ 80, listener @ 104 }
    TimewaitEvent = 48 { header @ 0, timewait @ 32, substate @ 40, reserved @ 41 }
    TimewaitStepEvent = 88 { header @ 0, endpoints @ 32, status @ 80, reset @ 84 }
    PlaceEvent = 80 { header @ 0, endpoints @ 32 }
    SeedEvent = 104 { header @ 0, endpoints @ 32, cgroup @ 80, uid @ 88, bind_flags @ 92, inode @ 96 }
    CgroupEvent = 560 { header @ 0, cgroup @ 32, length @ 40, reserved @ 44, path @ 48 }
    ProcessEvent = 56 { header @ 0, task @ 32 }
    ConnectFailedEvent = 128 {
        header @ 0, endpoints @ 32, cgroup @ 80, uid @ 88, error @ 92, task @ 96, policy @ 120,
        reserved @ 124,
    }
}
