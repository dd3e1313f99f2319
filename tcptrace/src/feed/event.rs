//! Events as user space knows them: what the kernel sent, checked.
//!
//! The wire structs of `tcptrace-common` hold raw integers; these hold states, addresses and
//! options. [`decode`](crate::feed::decode::decode) makes one out of the other and is the only way.

use std::{net::IpAddr, num::NonZeroU32};

use tcptrace_common::TcpState;

/// One event from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// The kernel's address of the socket.
    pub socket: u64,
    /// `skc_cookie`; `None` until somebody asked for it.
    pub cookie: Option<u64>,
    /// The kernel is believed to have skipped the program; the second copy of it told. If it
    /// repeats what was told just before, it is not so.
    pub recovered: bool,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// A state transition (`inet_sock_set_state`).
    Transition(Transition),
    /// The kernel acts on a RST that came in (`tcp_receive_reset`).
    ResetReceived(Endpoints),
    /// The kernel sends a RST (`tcp_send_reset`).
    ResetSent {
        /// Both ends.
        endpoints: Endpoints,
        /// `enum sk_rst_reason` of that kernel; `None` before Linux 6.10.
        reason: Option<u32>,
    },
    /// accept() gave the connection to a process (`inet_csk_accept`).
    Accept {
        /// The state it was in.
        state: TcpState,
        /// Both ends.
        endpoints: Endpoints,
        /// Who called.
        task: Task,
        /// The kernel's address of the listener that it came by.
        listener: Option<u64>,
    },
    /// A timewait socket was to take over (`inet_twsk_alloc`); →CLOSE follows.
    Timewait {
        /// The kernel's address of it; `None` when there was no room for one.
        timewait: Option<u64>,
        /// It begins in FIN_WAIT2, still without the peer's FIN; else in TIME_WAIT.
        awaits_fin: bool,
    },
    /// What became of a timewait socket in FIN_WAIT2 (`tcp_timewait_state_process`); the event's
    /// socket is the timewait socket.
    TimewaitStep {
        /// Both ends.
        endpoints: Endpoints,
        /// What came to it.
        arrived: TimewaitArrival,
    },
    /// A listener's SYN-ACK is sent again (`tcp_retransmit_synack`).
    SynackRetransmit(Endpoints),
    /// A socket that is there (`iter/tcp`).
    Seed(Seed),
    /// connect() failed, before SYN_SENT or in it (`tcp_v4_connect` and what is asked before).
    ConnectFailed(ConnectFailure),
    /// A process holds the event's socket, in another network namespace than its own
    /// (`iter/task_file`).
    Held(Endpoints),
    /// A process that listens has another name, by exec or by its own choice (`task_rename`).
    Rename(Task),
    /// A process that listened is over (`sched_process_exit`).
    Exit(Task),
}

impl Body {
    /// Both ends, where they came along.
    pub const fn endpoints(&self) -> Option<&Endpoints> {
        match self {
            Self::Transition(transition) => transition.details.endpoints(),
            Self::ResetReceived(endpoints)
            | Self::SynackRetransmit(endpoints)
            | Self::Held(endpoints)
            | Self::ResetSent { endpoints, .. }
            | Self::Accept { endpoints, .. }
            | Self::TimewaitStep { endpoints, .. }
            | Self::ConnectFailed(ConnectFailure { endpoints, .. })
            | Self::Seed(Seed { endpoints, .. }) => Some(endpoints),
            Self::Timewait { .. } | Self::Rename(_) | Self::Exit(_) => None,
        }
    }

    /// Returns the numbers in it that have names.
    pub fn numbers(&self) -> Numbers {
        let (endpoints, cgroup) = match self {
            Self::Transition(transition) => match &transition.details {
                Details::Open {
                    endpoints, owner, ..
                }
                | Details::PassiveOpen {
                    endpoints, owner, ..
                } => (endpoints, owner.cgroup),
                Details::Established { endpoints, .. } => (endpoints, None),
                Details::Step | Details::Release { .. } | Details::Close { .. } => {
                    return Numbers::default();
                }
            },
            Self::Seed(Seed {
                endpoints, owner, ..
            })
            | Self::ConnectFailed(ConnectFailure {
                endpoints, owner, ..
            }) => (endpoints, owner.cgroup),
            Self::ResetReceived(_)
            | Self::ResetSent { .. }
            | Self::Accept { .. }
            | Self::Timewait { .. }
            | Self::TimewaitStep { .. }
            | Self::SynackRetransmit(_)
            | Self::Held(_)
            | Self::Rename(_)
            | Self::Exit(_) => return Numbers::default(),
        };
        Numbers {
            cgroup,
            interface: endpoints.netns.zip(endpoints.interface),
        }
    }
}

/// A socket that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    /// The state it is in.
    pub state: TcpState,
    /// Both ends; the remote one unspecified for a listener.
    pub endpoints: Endpoints,
    /// Whose it is.
    pub owner: SocketOwner,
    /// Of the file that a process has it by.
    pub inode: Option<u64>,
    /// Who else may listen where it does.
    pub bind: Option<Bind>,
}

/// A connect() that failed inside the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// The remote end is the one that was asked for; the local one is unspecified unless bound.
    pub endpoints: Endpoints,
    /// Whose socket it is.
    pub owner: SocketOwner,
    /// Who called.
    pub task: Task,
    /// An errno.
    pub error: u16,
    /// A security module or a cgroup's program refused, before TCP was asked.
    pub policy: bool,
}

/// What ends FIN_WAIT2 on a timewait socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimewaitArrival {
    /// The peer's FIN: TIME_WAIT begins.
    Fin,
    /// Data or a SYN that nobody is there for: the kernel answers with a RST.
    Refused,
    /// A RST: the timewait socket is gone, whichever state it was in.
    Reset,
}

/// A state transition, with what the kernel side sends along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state left.
    pub old: TcpState,
    /// The state entered.
    pub new: TcpState,
    /// What came with it.
    pub details: Details,
    /// Our FIN has left by then (→FIN_WAIT2, →CLOSING), or leaves at once (→FIN_WAIT1, →LAST_ACK): nothing
    /// holds it back: no data before it, no window, no pacing. `None` elsewhere, and where it cannot be read.
    pub fin_left: Option<bool>,
}

/// What comes with a transition, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// CLOSE→SYN_SENT, CLOSE→LISTEN.
    Open {
        /// Both ends; the local port is 0 unless bound.
        endpoints: Endpoints,
        /// Whose socket it is.
        owner: SocketOwner,
        /// Who made the call.
        task: Task,
        /// What else may listen where it does.
        bind: Option<Bind>,
    },
    /// LISTEN→SYN_RECV.
    PassiveOpen {
        /// Both ends; the remote one is missing up to Linux 6.14.
        endpoints: Endpoints,
        /// The listener's.
        owner: SocketOwner,
        /// How the handshake began.
        request: Request,
        /// The listener's.
        bind: Option<Bind>,
    },
    /// →ESTABLISHED.
    Established {
        /// Both ends.
        endpoints: Endpoints,
        /// What the handshake left in the socket; `None` without BTF.
        handshake: Option<HandshakeFields>,
    },
    /// Nothing but the states.
    Step,
    /// →FIN_WAIT1 or →LAST_ACK by a call.
    Release {
        /// Who closes, normally.
        task: Task,
    },
    /// →CLOSE.
    Close {
        /// Both ends.
        endpoints: Endpoints,
        /// The socket's last word; `None` without BTF.
        fields: Option<CloseFields>,
    },
}

impl Details {
    /// Returns the fields of a finished handshake.
    pub const fn handshake(&self) -> Option<&HandshakeFields> {
        match self {
            Self::Established {
                handshake: Some(fields),
                ..
            } => Some(fields),
            Self::Established {
                handshake: None, ..
            }
            | Self::Open { .. }
            | Self::PassiveOpen { .. }
            | Self::Step
            | Self::Release { .. }
            | Self::Close { .. } => None,
        }
    }

    /// Returns the socket's fields at →CLOSE.
    pub const fn close(&self) -> Option<CloseFields> {
        match self {
            Self::Close { fields, .. } => *fields,
            Self::Open { .. }
            | Self::PassiveOpen { .. }
            | Self::Established { .. }
            | Self::Step
            | Self::Release { .. } => None,
        }
    }

    /// Both ends, where they came along.
    pub const fn endpoints(&self) -> Option<&Endpoints> {
        match self {
            Self::Open { endpoints, .. }
            | Self::PassiveOpen { endpoints, .. }
            | Self::Established { endpoints, .. }
            | Self::Close { endpoints, .. } => Some(endpoints),
            Self::Step | Self::Release { .. } => None,
        }
    }
}

/// The numbers in an event that have names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// A cgroup's id.
    pub cgroup: Option<u64>,
    /// A network namespace and an interface in it.
    pub interface: Option<(NetnsId, u32)>,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// IPv4-mapped addresses are IPv4 here.
    pub local_address: IpAddr,
    /// As `local_address`; unspecified while unknown.
    pub remote_address: IpAddr,
    /// 0 while unknown.
    pub local_port: u16,
    /// 0 while unknown.
    pub remote_port: u16,
    /// The network namespace, where it could be read.
    pub netns: Option<NetnsId>,
    /// The interface that the socket is bound to, as to a link-local address.
    pub interface: Option<u32>,
}

/// A network namespace. The kernel gives its inode number to another one as soon as it is gone, its
/// cookie to none until the next boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsId {
    /// `net.ns.inum`, as in `net:[4026531840]`.
    pub inode: u32,
    /// `net.net_cookie`; `None` where it cannot be had (before Linux 5.14).
    pub cookie: Option<NonZeroU32>,
}

impl NetnsId {
    /// One that is known by its inode number alone.
    pub const fn without_cookie(inode: u32) -> Self {
        Self {
            inode,
            cookie: None,
        }
    }

    /// They are the same, or nothing that is known tells them apart.
    pub fn may_be(self, other: Self) -> bool {
        let cookies = self.cookie.zip(other.cookie);
        self.inode == other.inode && cookies.is_none_or(|(one, other)| one == other)
    }
}

/// Who else may listen where a socket does, or take what comes in there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bind {
    /// SO_REUSEPORT.
    pub reuse_port: bool,
    /// IPV6_V6ONLY.
    pub v6_only: bool,
    /// IP_TRANSPARENT: what is sent to others.
    pub transparent: bool,
    /// An sk_lookup program chooses listeners in this namespace.
    pub steered: bool,
}

/// Whose socket it is: the creator's, or the listener's for a child. Not the current task's.
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
    /// The process (thread group).
    pub pid: u32,
    /// NUL-padded.
    pub comm: [u8; COMM_SIZE],
    /// It is a thread of the kernel.
    pub kernel: bool,
}

/// What is known of the request that a child was made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// What the request itself told (`tcp_create_openreq_child`).
    pub seen: Option<RequestFields>,
    /// The listener has `TCP_DEFER_ACCEPT`; `None` when that is not known.
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
    /// SYN-ACKs sent again.
    pub synack_retransmits: u32,
    /// The child was made of a SYN: TCP Fast Open (RFC 7413).
    pub fast_open: bool,
}

/// What a finished handshake leaves in the socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeFields {
    /// Microseconds; 0 when there is no sample.
    pub srtt_us: u32,
    /// SYN or SYN-ACK retransmits.
    pub retransmits: u32,
    /// When the SYN came in, as sock_ops saw it: nanoseconds of CLOCK_MONOTONIC.
    pub syn_ns: Option<u64>,
    /// `TCP_FASTOPEN_CONNECT`: the SYN left at the first send, not at connect().
    pub fastopen_connect: bool,
    /// Data in the SYN was acknowledged by the SYN-ACK, or taken from the SYN.
    pub syn_data: bool,
    /// TCP_REPAIR restored the socket: no SYN was sent.
    pub repair: bool,
    /// The segment that completed a passive handshake carried data; `None` when it was not seen.
    pub last_ack_data: Option<bool>,
}

/// A closing socket's fields: how it lived and why it died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloseFields {
    /// Payload handed to IP, without retransmissions; again each time that it was not taken.
    pub bytes_sent: u64,
    /// What the peer acknowledged, our FIN included, and the SYN of connect().
    pub bytes_acked: u64,
    /// Payload received, without the peer's FIN.
    pub bytes_received: u64,
    /// Segments sent, SYN, FIN and bare ACKs included.
    pub segments_sent: u32,
    /// Segments received.
    pub segments_received: u32,
    /// Segments retransmitted in the whole life.
    pub retransmits: u32,
    /// Smoothed round trip, microseconds; 0 when there is no sample.
    pub srtt_us: u32,
    /// `sk_err`, 0 for none.
    pub error: u16,
    /// Bytes received and never read.
    pub unread: u32,
    /// What the peer has not acknowledged, FIN included.
    pub unacknowledged: u32,
    /// What of that has left.
    pub in_flight: u32,
    /// The window the peer last offered.
    pub send_window: u32,
    /// The application shut down receiving.
    pub receive_shut: bool,
    /// The application shut down sending.
    pub send_shut: bool,
    /// The application's close() is done with the socket (SOCK_DEAD).
    pub dead: bool,
    /// The peer's FIN was received (SOCK_DONE).
    pub peer_fin: bool,
    /// A descriptor was given out for it; false before accept() and after close().
    pub has_socket: bool,
    /// The namespace had as many timewait sockets as it may, or nearly.
    pub time_wait_full: bool,
    /// TCP_LINGER2 is negative.
    pub linger2_negative: bool,
    /// TCP_REPAIR is on, so that the close sent nothing.
    pub repair: bool,
    /// Zero-window or keepalive probes without an answer.
    pub probes_out: u8,
}

impl CloseFields {
    /// All that was written has left, and our FIN if there was one.
    pub const fn all_left(&self) -> bool {
        self.in_flight == self.unacknowledged
    }
}
