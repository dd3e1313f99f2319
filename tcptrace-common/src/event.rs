//! The events, byte for byte as in the ring.
//!
//! Every event begins with an [`EventHeader`], whose `kind` tells which struct it is. Sizes and
//! offsets are asserted at compile time; padding is explicit and zero.

#[cfg(feature = "zerocopy")]
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::TcpState;

/// [`OpenEvent`]: CLOSE→SYN_SENT or CLOSE→LISTEN.
pub const KIND_OPEN: u8 = 1;
/// [`PassiveOpenEvent`]: LISTEN→SYN_RECV.
pub const KIND_PASSIVE_OPEN: u8 = 2;
/// [`EstablishedEvent`]: any state →ESTABLISHED.
pub const KIND_ESTABLISHED: u8 = 3;
/// [`StepEvent`]: a transition that needs only its header.
pub const KIND_STEP: u8 = 4;
/// [`ReleaseEvent`]: →FIN_WAIT1 or →LAST_ACK, by the closing process.
pub const KIND_RELEASE: u8 = 5;
/// [`CloseEvent`]: any state →CLOSE.
pub const KIND_CLOSE: u8 = 6;
/// [`ResetEvent`]: the kernel acts on a received RST (`tcp_receive_reset`).
pub const KIND_RESET_RECEIVED: u8 = 7;
/// [`ResetEvent`]: the kernel sends a RST (`tcp_send_reset`).
pub const KIND_RESET_SENT: u8 = 8;
/// [`AcceptEvent`]: accept() returned the connection to a process (`inet_csk_accept`).
pub const KIND_ACCEPT: u8 = 9;
/// [`TimewaitEvent`]: a timewait socket is to take over (`inet_twsk_alloc`).
pub const KIND_TIMEWAIT: u8 = 10;
/// [`TimewaitStepEvent`]: a segment reached a timewait socket that waited for the peer's FIN
/// (`tcp_timewait_state_process`).
pub const KIND_TIMEWAIT_STEP: u8 = 11;
/// [`PlaceEvent`]: a SYN-ACK of this listener is retransmitted (`tcp_retransmit_synack`).
pub const KIND_SYNACK_RETRANSMIT: u8 = 12;
/// [`SeedEvent`]: a socket found by a walk (`iter/tcp`).
pub const KIND_SEED: u8 = 13;
/// [`ProcessEvent`]: a listening process changed its name, by exec or itself (`task_rename`).
pub const KIND_RENAME: u8 = 14;
/// [`ProcessEvent`]: a listening process exited (`sched_process_exit`).
pub const KIND_EXIT: u8 = 15;
/// [`ConnectFailedEvent`]: connect() failed inside the kernel's own call (`tcp_v4_connect` and so on).
pub const KIND_CONNECT_FAILED: u8 = 16;
/// [`PlaceEvent`]: a process holds this socket, which is in another network namespace
/// (`iter/task_file`); both states are the current one.
pub const KIND_HELD: u8 = 17;

/// [`CgroupEvent`]: a cgroup is created (`cgroup_mkdir`).
pub const KIND_CGROUP: u8 = 18;

/// The most bytes of a cgroup's path, with the NUL.
pub const CGROUP_PATH: usize = 512;

/// Returns the kind of event of the transition `old` → `new` (the kernel's numbers).
///
/// Opens carry the identity, →ESTABLISHED what a handshake needs, →CLOSE what a record needs, and
/// the transitions of close() or shutdown() the closing process.
#[must_use]
#[inline(always)]
pub const fn kind_of_transition(old: u8, new: u8) -> u8 {
    const ESTABLISHED: u8 = TcpState::Established.raw();
    const SYN_SENT: u8 = TcpState::SynSent.raw();
    const SYN_RECV: u8 = TcpState::SynRecv.raw();
    const FIN_WAIT1: u8 = TcpState::FinWait1.raw();
    const CLOSE: u8 = TcpState::Close.raw();
    const CLOSE_WAIT: u8 = TcpState::CloseWait.raw();
    const LAST_ACK: u8 = TcpState::LastAck.raw();
    const LISTEN: u8 = TcpState::Listen.raw();
    match (old, new) {
        (_, CLOSE) => KIND_CLOSE,
        (_, ESTABLISHED) => KIND_ESTABLISHED,
        (CLOSE, SYN_SENT | LISTEN) => KIND_OPEN,
        (LISTEN, SYN_RECV) => KIND_PASSIVE_OPEN,
        (ESTABLISHED | SYN_RECV, FIN_WAIT1) | (CLOSE_WAIT, LAST_ACK) => KIND_RELEASE,
        _ => KIND_STEP,
    }
}

/// `fields`: the socket's user could be read (`sk_uid`).
pub const FIELDS_USER: u8 = 1;
/// `fields`: the socket's TCP fields could be read (`struct tcp_sock`).
pub const FIELDS_TCP: u8 = 2;
/// `fields`: the current task's thread group leader could be read, so `comm` is the process's;
/// without it `comm` is the calling thread's.
pub const FIELDS_TASK: u8 = 4;
/// `fields`: the current task is a kernel thread (`PF_KTHREAD`).
pub const FIELDS_KTHREAD: u8 = 8;
/// `fields`, of →FIN_WAIT1 and →LAST_ACK: our FIN may not leave at once, because data waits before
/// it, or the peer, the congestion window, pacing or the queue below has no room; of →FIN_WAIT2 and
/// →CLOSING: it has not left. Only with [`FIELDS_TCP`].
pub const FIELDS_UNSENT: u8 = 16;
/// `fields`, of transitions and resets: sent by the program's second copy, because the kernel
/// seemed to have skipped the first. It may still repeat what the first told.
pub const FIELDS_RECOVERED: u8 = 32;
/// All `fields` bits.
pub const FIELDS_ALL: u8 =
    FIELDS_USER | FIELDS_TCP | FIELDS_TASK | FIELDS_KTHREAD | FIELDS_UNSENT | FIELDS_RECOVERED;

/// `AF_INET`.
pub const FAMILY_INET: u16 = 2;
/// `AF_INET6`.
pub const FAMILY_INET6: u16 = 10;

/// `sock_flags`: SOCK_DEAD, close() has finished with the socket.
pub const SOCK_DEAD: u8 = 1;
/// `sock_flags`: SOCK_DONE, the peer's FIN was received (`tcp_fin`).
pub const SOCK_DONE: u8 = 2;
/// `sock_flags`: `sk->sk_socket` is set: a descriptor exists for it.
pub const SOCK_HAS_SOCKET: u8 = 4;
/// `sock_flags`: `tcp_sock.linger2` is negative, so FIN_WAIT2 is skipped with a RST.
pub const SOCK_LINGER2_NEGATIVE: u8 = 8;
/// `sock_flags`, of FIN_WAIT2→CLOSE and CLOSING→CLOSE: the namespace has as many timewait sockets
/// as `tcp_max_tw_buckets` allows, or nearly, so there may have been no room for this one.
pub const SOCK_TIMEWAIT_FULL: u8 = 16;
/// `sock_flags`: TCP_REPAIR is on, so a close sends nothing (`tcp_disconnect`).
pub const SOCK_REPAIR: u8 = 32;
/// All `sock_flags` bits.
pub const SOCK_FLAGS_ALL: u8 = SOCK_DEAD
    | SOCK_DONE
    | SOCK_HAS_SOCKET
    | SOCK_LINGER2_NEGATIVE
    | SOCK_TIMEWAIT_FULL
    | SOCK_REPAIR;

/// `open_flags`: `tcp_create_openreq_child` was seen, so the request's fields are known.
pub const OPEN_REQUEST_SEEN: u32 = 1;
/// `open_flags`: the child was made from a SYN: TCP Fast Open (RFC 7413).
pub const OPEN_FAST: u32 = 2;
/// `open_flags`: whether the listener has `TCP_DEFER_ACCEPT` is known.
pub const OPEN_DEFER_KNOWN: u32 = 4;
/// `open_flags`: the listener has `TCP_DEFER_ACCEPT`.
pub const OPEN_DEFERRED: u32 = 8;
/// All `open_flags` bits.
pub const OPEN_ALL: u32 = OPEN_REQUEST_SEEN | OPEN_FAST | OPEN_DEFER_KNOWN | OPEN_DEFERRED;

/// `bind_flags`: the other bits could be read.
pub const BIND_KNOWN: u32 = 1;
/// `bind_flags`: SO_REUSEPORT: other sockets may listen at the same place.
pub const BIND_REUSEPORT: u32 = 2;
/// `bind_flags`: IPV6_V6ONLY: it accepts no IPv4.
pub const BIND_V6ONLY: u32 = 4;
/// `bind_flags`: IP_TRANSPARENT, inherited from the listener: a proxy that accepts connections to
/// other addresses.
pub const BIND_TRANSPARENT: u32 = 8;
/// `bind_flags`: an sk_lookup program chooses listeners in this namespace, whatever they listen at.
pub const BIND_STEERED: u32 = 16;
/// All `bind_flags` bits.
pub const BIND_ALL: u32 =
    BIND_KNOWN | BIND_REUSEPORT | BIND_V6ONLY | BIND_TRANSPARENT | BIND_STEERED;

/// `handshake_flags`: `TCP_FASTOPEN_CONNECT`: the SYN left at the first send.
pub const HANDSHAKE_FASTOPEN_CONNECT: u32 = 1;
/// `handshake_flags`: data in the SYN was acknowledged by the SYN-ACK, or accepted from the SYN.
pub const HANDSHAKE_SYN_DATA: u32 = 2;
/// `handshake_flags`: sock_ops saw the segment that completed a passive handshake.
pub const HANDSHAKE_ACK_SEEN: u32 = 4;
/// `handshake_flags`: that segment carried data or a FIN, so it may have waited for it.
pub const HANDSHAKE_ACK_DATA: u32 = 8;
/// `handshake_flags`: TCP_REPAIR restored the socket: no SYN was sent.
pub const HANDSHAKE_REPAIR: u32 = 16;
/// All `handshake_flags` bits.
pub const HANDSHAKE_ALL: u32 = HANDSHAKE_FASTOPEN_CONNECT
    | HANDSHAKE_SYN_DATA
    | HANDSHAKE_ACK_SEEN
    | HANDSHAKE_ACK_DATA
    | HANDSHAKE_REPAIR;

/// `reason`: the kernel tells none (before Linux 6.10).
pub const REASON_NONE: u32 = u32::MAX;

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
pub struct Endpoints {
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
pub struct Task {
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
    pub endpoints: Endpoints,
    /// The id of the cgroup the socket belongs to (cgroup v2), 0 when it could not be read.
    pub cgroup: u64,
    /// `sk_uid`: the user that owns the socket.
    pub uid: u32,
    /// `BIND_*` bits.
    pub bind_flags: u32,
    /// The calling process.
    pub task: Task,
}

/// A child socket was made for a handshake that is completing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct PassiveOpenEvent {
    /// The header. Up to Linux 6.14 its cookie is the listener's.
    pub header: EventHeader,
    /// Up to Linux 6.14 the remote end is not set yet.
    pub endpoints: Endpoints,
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
    pub endpoints: Endpoints,
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
    pub task: Task,
}

/// The full socket has ended, whether a timewait socket lives on or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct CloseEvent {
    /// The header.
    pub header: EventHeader,
    /// Both ends.
    pub endpoints: Endpoints,
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
    pub endpoints: Endpoints,
    /// `enum sk_rst_reason` of this kernel, or [`REASON_NONE`].
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
    pub endpoints: Endpoints,
    /// The process that called accept().
    pub task: Task,
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
    pub endpoints: Endpoints,
    /// As in [`OpenEvent`].
    pub cgroup: u64,
    /// As in [`OpenEvent`].
    pub uid: u32,
    /// The errno.
    pub error: u32,
    /// The process that called connect().
    pub task: Task,
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
    pub task: Task,
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
    pub endpoints: Endpoints,
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
    pub endpoints: Endpoints,
}

/// A socket found by a walk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "zerocopy", derive(FromBytes, Immutable, IntoBytes))]
#[repr(C)]
pub struct SeedEvent {
    /// The header; both states are the current one.
    pub header: EventHeader,
    /// Both ends.
    pub endpoints: Endpoints,
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
    Endpoints = 48 {
        local_address @ 0, remote_address @ 16, local_port @ 32, remote_port @ 34, netns @ 36,
        interface @ 40, netns_cookie @ 44,
    }
    Task = 24 { pid @ 0, reserved @ 4, comm @ 8 }
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
