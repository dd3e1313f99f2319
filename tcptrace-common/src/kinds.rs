//! The kinds of events, and the flags in them.

use crate::TcpState;

/// [`OpenEvent`](crate::OpenEvent): CLOSE→SYN_SENT or CLOSE→LISTEN.
pub const KIND_OPEN: u8 = 1;
/// [`PassiveOpenEvent`](crate::PassiveOpenEvent): LISTEN→SYN_RECV.
pub const KIND_PASSIVE_OPEN: u8 = 2;
/// [`EstablishedEvent`](crate::EstablishedEvent): any state →ESTABLISHED.
pub const KIND_ESTABLISHED: u8 = 3;
/// [`StepEvent`](crate::StepEvent): a transition that needs only its header.
pub const KIND_STEP: u8 = 4;
/// [`ReleaseEvent`](crate::ReleaseEvent): →FIN_WAIT1 or →LAST_ACK, by the closing process.
pub const KIND_RELEASE: u8 = 5;
/// [`CloseEvent`](crate::CloseEvent): any state →CLOSE.
pub const KIND_CLOSE: u8 = 6;
/// [`ResetEvent`](crate::ResetEvent): the kernel acts on a received RST (`tcp_receive_reset`).
pub const KIND_RESET_RECEIVED: u8 = 7;
/// [`ResetEvent`](crate::ResetEvent): the kernel sends a RST (`tcp_send_reset`).
pub const KIND_RESET_SENT: u8 = 8;
/// [`AcceptEvent`](crate::AcceptEvent): accept() returned the connection to a process
/// (`inet_csk_accept`).
pub const KIND_ACCEPT: u8 = 9;
/// [`TimewaitEvent`](crate::TimewaitEvent): a timewait socket is to take over (`inet_twsk_alloc`).
pub const KIND_TIMEWAIT: u8 = 10;
/// [`TimewaitStepEvent`](crate::TimewaitStepEvent): a segment reached a timewait socket that waited
/// for the peer's FIN (`tcp_timewait_state_process`).
pub const KIND_TIMEWAIT_STEP: u8 = 11;
/// [`PlaceEvent`](crate::PlaceEvent): a SYN-ACK of this listener is retransmitted
/// (`tcp_retransmit_synack`).
pub const KIND_SYNACK_RETRANSMIT: u8 = 12;
/// [`SeedEvent`](crate::SeedEvent): a socket found by a walk (`iter/tcp`).
pub const KIND_SEED: u8 = 13;
/// [`ProcessEvent`](crate::ProcessEvent): a listening process changed its name, by exec or itself
/// (`task_rename`).
pub const KIND_RENAME: u8 = 14;
/// [`ProcessEvent`](crate::ProcessEvent): a listening process exited (`sched_process_exit`).
pub const KIND_EXIT: u8 = 15;
/// [`ConnectFailedEvent`](crate::ConnectFailedEvent): connect() failed inside the kernel's own call
/// (`tcp_v4_connect` and so on).
pub const KIND_CONNECT_FAILED: u8 = 16;
/// [`PlaceEvent`](crate::PlaceEvent): a process holds this socket, which is in another network
/// namespace (`iter/task_file`); both states are the current one.
pub const KIND_HELD: u8 = 17;

/// [`CgroupEvent`](crate::CgroupEvent): a cgroup is created (`cgroup_mkdir`).
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
