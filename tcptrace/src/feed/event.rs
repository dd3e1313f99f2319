//! Decoded events.
//!
//! The wire structs of `tcptrace-common` hold raw integers; these hold states, addresses and
//! options. Only [`decode`](crate::feed::decode::decode) makes one from the other.

pub use super::socket::{
    Bind, COMM_SIZE, CloseFields, Endpoints, HandshakeFields, HandshakeRequest, NetnsId,
    RequestFields, SocketOwner, Task,
};
use tcptrace_common::TcpState;

/// One event from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub time_ns: u64,
    /// The kernel's address of the socket.
    pub socket: u64,
    /// `skc_cookie`; `None` until something asked the kernel for it.
    pub cookie: Option<u64>,
    /// Sent by a program's second copy, because the kernel seemed to have skipped the first. It may
    /// still repeat the event just before.
    pub recovered: bool,
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
        endpoints: Endpoints,
        /// `enum sk_rst_reason` of the running kernel; `None` before Linux 6.10.
        reason: Option<u32>,
    },
    /// accept() returned the connection to a process (`inet_csk_accept`).
    Accept {
        /// The state of the connection.
        state: TcpState,
        endpoints: Endpoints,
        /// The calling process.
        task: Task,
        /// The kernel's address of the connection's listener.
        listener: Option<u64>,
    },
    /// A timewait socket is to take over (`inet_twsk_alloc`); →CLOSE follows.
    Timewait {
        /// Its address in the kernel; `None` when there was no room for it.
        timewait: Option<u64>,
        /// It begins in FIN_WAIT2, still without the peer's FIN; otherwise in TIME_WAIT.
        awaits_fin: bool,
    },
    /// A segment reached a timewait socket (`tcp_timewait_state_process`); the event's socket is
    /// the timewait socket.
    TimewaitStep {
        endpoints: Endpoints,
        arrived: TimewaitArrival,
    },
    /// A listener's SYN-ACK is retransmitted (`tcp_retransmit_synack`).
    SynackRetransmit(Endpoints),
    /// A socket found by a walk (`iter/tcp`).
    Seed(Seed),
    /// connect() failed, before SYN_SENT or in it (`tcp_v4_connect` and what is called before it).
    ConnectFailed(ConnectFailure),
    /// A process holds the event's socket, which is in another network namespace
    /// (`iter/task_file`).
    Held(Endpoints),
    /// A listening process changed its name, by exec or itself (`task_rename`).
    Rename(Task),
    /// A listening process exited (`sched_process_exit`).
    Exit(Task),
}

impl Body {
    /// Returns both ends, if the event has them.
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

    /// Returns the event's numbers that have names.
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

/// A socket found by a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed {
    pub state: TcpState,
    /// Both ends; the remote one is unspecified for a listener.
    pub endpoints: Endpoints,
    pub owner: SocketOwner,
    /// The inode of the file by which a process holds it.
    pub inode: Option<u64>,
    /// Which other sockets may listen where it does.
    pub bind: Option<Bind>,
}

/// A connect() that failed inside the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// The remote end is the one connected to; the local one is unspecified unless bound.
    pub endpoints: Endpoints,
    pub owner: SocketOwner,
    /// The calling process.
    pub task: Task,
    /// The errno.
    pub error: u16,
    /// A security module or a cgroup's program refused it, before TCP was called.
    pub policy: bool,
}

/// What ends FIN_WAIT2 on a timewait socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimewaitArrival {
    /// The peer's FIN: TIME_WAIT begins.
    Fin,
    /// Data or a SYN: the kernel answers with a RST.
    Refused,
    /// A RST: the timewait socket is gone, whatever its state was.
    Reset,
}

/// A state transition, with what the kernel side sends along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    pub old: TcpState,
    pub new: TcpState,
    pub details: Details,
    /// Our FIN has left by then (→FIN_WAIT2, →CLOSING), or leaves at once (→FIN_WAIT1, →LAST_ACK),
    /// as no data before it, window or pacing holds it back. `None` elsewhere, and if it cannot be
    /// read.
    pub fin_left: Option<bool>,
}

/// What comes with a transition, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// CLOSE→SYN_SENT, CLOSE→LISTEN.
    Open {
        /// Both ends; the local port is 0 unless bound.
        endpoints: Endpoints,
        owner: SocketOwner,
        /// The calling process.
        task: Task,
        /// Which other sockets may listen where it does.
        bind: Option<Bind>,
    },
    /// LISTEN→SYN_RECV.
    PassiveOpen {
        /// Both ends; the remote one is missing up to Linux 6.14.
        endpoints: Endpoints,
        /// The listener's.
        owner: SocketOwner,
        /// How the handshake began.
        request: HandshakeRequest,
        /// The listener's.
        bind: Option<Bind>,
    },
    /// →ESTABLISHED.
    Established {
        endpoints: Endpoints,
        /// The socket's handshake fields; `None` without BTF.
        handshake: Option<HandshakeFields>,
    },
    /// Only the states.
    Step,
    /// →FIN_WAIT1 or →LAST_ACK by a call.
    Release {
        /// Usually the process that closes.
        task: Task,
    },
    /// →CLOSE.
    Close {
        endpoints: Endpoints,
        /// The socket's fields at its end; `None` without BTF.
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

    /// Returns both ends, if the transition has them.
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

/// The numbers of an event that have names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    pub cgroup: Option<u64>,
    /// A network namespace and the number of an interface in it.
    pub interface: Option<(NetnsId, u32)>,
}
