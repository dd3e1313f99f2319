//! What an event tells of its socket.

use std::{net::IpAddr, num::NonZeroU32};

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// IPv4-mapped addresses are IPv4 here.
    pub local_address: IpAddr,
    /// IPv4-mapped addresses are IPv4 here; unspecified while unknown.
    pub remote_address: IpAddr,
    /// 0 while unknown.
    pub local_port: u16,
    /// 0 while unknown.
    pub remote_port: u16,
    /// The network namespace, if it could be read.
    pub netns: Option<NetnsId>,
    /// The interface that the socket is bound to, as for a link-local address.
    pub interface: Option<u32>,
}

/// A network namespace. The kernel reuses its inode number as soon as it is gone, but never its
/// cookie within a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    /// `net.ns.inum`, as in `net:[4026531840]`.
    pub inode: u32,
    /// `net.net_cookie`; `None` if not available (before Linux 5.14).
    pub cookie: Option<NonZeroU32>,
}

impl NetnsId {
    /// A namespace known by its inode number alone.
    pub const fn without_cookie(inode: u32) -> Self {
        Self {
            inode,
            cookie: None,
        }
    }

    /// Whether both are the same, or nothing known tells them apart.
    pub fn may_be(self, other: Self) -> bool {
        let cookies = self.cookie.zip(other.cookie);
        self.inode == other.inode && cookies.is_none_or(|(one, other)| one == other)
    }
}

/// Which other sockets may listen where a socket does, or take its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// IPV6_V6ONLY.
    pub v6_only: bool,
    /// IP_TRANSPARENT: it accepts connections to other addresses.
    pub transparent: bool,
    /// An sk_lookup program chooses listeners in this namespace.
    pub steered: bool,
}

/// The owner of a socket: its creator's user and cgroup, or the listener's for a child; not the
/// current task's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOwner {
    /// `sk_uid`.
    pub uid: Option<u32>,
    /// The cgroup's id.
    pub cgroup: Option<u64>,
}

/// Bytes of a task's name (`TASK_COMM_LEN`).
pub const COMM_SIZE: usize = 16;

/// The current task at an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// The process (thread group) id.
    pub pid: u32,
    /// NUL-padded.
    pub comm: [u8; COMM_SIZE],
    /// A kernel thread.
    pub kernel: bool,
}

/// What is known of the request that a child was made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeRequest {
    /// The request's own fields (`tcp_create_openreq_child`).
    pub seen: Option<RequestFields>,
    /// Whether the listener has `TCP_DEFER_ACCEPT`; `None` if not known.
    pub deferred: Option<bool>,
    /// The kernel's address of the listener.
    pub listener: Option<u64>,
}

/// The fields of a request at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestFields {
    /// When the first SYN-ACK was sent, microseconds of CLOCK_MONOTONIC; `None` when the kernel
    /// kept no time: SYN cookies, and Fast Open, whose child comes first.
    pub synack_us: Option<u64>,
    /// SYN-ACK retransmits.
    pub synack_retransmits: u32,
    /// The child was made from a SYN: TCP Fast Open (RFC 7413).
    pub fast_open: bool,
}

/// What a finished handshake leaves in the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeFields {
    /// Smoothed round-trip time, microseconds; 0 without a sample.
    pub srtt_us: u32,
    /// SYN or SYN-ACK retransmits.
    pub retransmits: u32,
    /// When the SYN arrived, as sock_ops saw it, nanoseconds of CLOCK_MONOTONIC.
    pub syn_ns: Option<u64>,
    /// `TCP_FASTOPEN_CONNECT`: the SYN left at the first send, not at connect().
    pub fastopen_connect: bool,
    /// Data in the SYN was acknowledged by the SYN-ACK, or accepted from the SYN.
    pub syn_data: bool,
    /// TCP_REPAIR restored the socket: no SYN was sent.
    pub repair: bool,
    /// Whether the segment that completed a passive handshake carried data; `None` when it was not
    /// seen.
    pub last_ack_data: Option<bool>,
}

/// A closing socket's fields: its life and its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseFields {
    /// Payload handed to IP, without retransmissions; counted again each time IP did not take it.
    pub bytes_sent: u64,
    /// What the peer acknowledged, with our FIN, and the SYN of connect().
    pub bytes_acked: u64,
    /// Payload received, without the peer's FIN.
    pub bytes_received: u64,
    /// Segments sent, with SYN, FIN and bare ACKs.
    pub segments_sent: u32,
    pub segments_received: u32,
    /// Segments retransmitted.
    pub retransmits: u32,
    /// Smoothed round-trip time, microseconds; 0 without a sample.
    pub srtt_us: u32,
    /// `sk_err`, 0 for none.
    pub error: u16,
    /// Bytes received and never read.
    pub unread: u32,
    /// Bytes not acknowledged, with our FIN.
    pub unacknowledged: u32,
    /// Of those, the bytes that have left.
    pub in_flight: u32,
    /// The window the peer last offered.
    pub send_window: u32,
    pub receive_shut: bool,
    pub send_shut: bool,
    /// close() has finished with the socket (SOCK_DEAD).
    pub dead: bool,
    /// The peer's FIN was received (SOCK_DONE).
    pub peer_fin: bool,
    /// A descriptor exists for it; false before accept() and after close().
    pub has_socket: bool,
    /// The namespace had as many timewait sockets as allowed, or nearly.
    pub time_wait_full: bool,
    /// TCP_LINGER2 is negative.
    pub linger2_negative: bool,
    /// TCP_REPAIR is on, so the close sent nothing.
    pub repair: bool,
    /// Unanswered zero-window or keepalive probes.
    pub probes_out: u8,
}

impl CloseFields {
    /// Whether everything written has left, and our FIN if there was one.
    pub const fn all_left(&self) -> bool {
        self.in_flight == self.unacknowledged
    }
}
