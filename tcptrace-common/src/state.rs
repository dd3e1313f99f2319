//! The kernel's TCP states (`include/net/tcp_states.h`).

/// A TCP state as the kernel numbers it.
///
/// `TIME_WAIT` and `NEW_SYN_RECV` exist here because the kernel has them, though
/// `inet_sock_set_state` never shows either: both live on sockets of their own kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum TcpState {
    /// Data can flow both ways.
    Established = 1,
    /// Our SYN is on its way.
    SynSent = 2,
    /// A SYN came and our SYN-ACK went out; it is not yet acknowledged.
    SynRecv = 3,
    /// We closed first; our FIN is not yet acknowledged.
    FinWait1 = 4,
    /// Our FIN was acknowledged; the peer's has not come.
    FinWait2 = 5,
    /// Both FINs were exchanged, we closed first. Never on a full socket.
    TimeWait = 6,
    /// No connection.
    #[default]
    Close = 7,
    /// The peer closed first; we have not.
    CloseWait = 8,
    /// The peer closed first and so did we; our FIN is not yet acknowledged.
    LastAck = 9,
    /// Waiting for connections.
    Listen = 10,
    /// Both closed at once; our FIN is not yet acknowledged.
    Closing = 11,
    /// A request socket. Never on a full socket.
    NewSynRecv = 12,
}

impl TcpState {
    /// Every state, in the kernel's order.
    pub const ALL: [Self; 12] = [
        Self::Established,
        Self::SynSent,
        Self::SynRecv,
        Self::FinWait1,
        Self::FinWait2,
        Self::TimeWait,
        Self::Close,
        Self::CloseWait,
        Self::LastAck,
        Self::Listen,
        Self::Closing,
        Self::NewSynRecv,
    ];

    /// Returns the state with the kernel's number `raw`, if there is one.
    #[must_use]
    pub const fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Established),
            2 => Some(Self::SynSent),
            3 => Some(Self::SynRecv),
            4 => Some(Self::FinWait1),
            5 => Some(Self::FinWait2),
            6 => Some(Self::TimeWait),
            7 => Some(Self::Close),
            8 => Some(Self::CloseWait),
            9 => Some(Self::LastAck),
            10 => Some(Self::Listen),
            11 => Some(Self::Closing),
            12 => Some(Self::NewSynRecv),
            _ => None,
        }
    }

    /// Returns the kernel's number.
    #[must_use]
    pub const fn raw(self) -> u8 {
        self as u8
    }

    /// Returns the kernel's name without its `TCP_` prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "ESTABLISHED",
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::FinWait1 => "FIN_WAIT1",
            Self::FinWait2 => "FIN_WAIT2",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::Listen => "LISTEN",
            Self::Closing => "CLOSING",
            Self::NewSynRecv => "NEW_SYN_RECV",
        }
    }
}
