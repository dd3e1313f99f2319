//! Events as user space knows them: what the kernel sent, checked.
//!
//! The wire structs of `tcptrace-common` hold raw integers; these hold states, addresses and
//! options. [`decode`](crate::feed::decode::decode) makes one out of the other and is the only way.

pub use super::socket::{
    Bind, COMM_SIZE, CloseFields, Endpoints, HandshakeFields, NetnsId, Request, RequestFields,
    SocketOwner, Task,
};
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
