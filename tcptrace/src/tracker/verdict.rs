//! Why a connection ended: one verdict, each from named evidence, `unknown` when there is none.
//!
//! Most of it is in the socket's own fields at →CLOSE; the resets come from their tracepoints.
//! It refuses to guess: where two causes leave the same traces, neither is named.

use tcptrace_common::TcpState;

use super::connection::Connection;
use crate::feed::event::CloseFields;

/// Linux errno values that →CLOSE shows.
pub mod errno {
    /// Broken pipe: RST in CLOSE_WAIT (`tcp_reset`).
    pub const EPIPE: u16 = 32;
    /// `tcp_abort`.
    pub const ECONNABORTED: u16 = 103;
    /// RST (`tcp_reset`).
    pub const ECONNRESET: u16 = 104;
    /// Retries exhausted (`tcp_write_err`).
    pub const ETIMEDOUT: u16 = 110;
    /// RST to a SYN (`tcp_reset`), or ICMP port unreachable.
    pub const ECONNREFUSED: u16 = 111;
    /// What ICMP and ICMPv6 errors become (`icmp_err_convert`, `tab_unreach`): EACCES, EPROTO,
    /// ENONET, ENOPROTOOPT, EOPNOTSUPP, ENETUNREACH, EHOSTDOWN, EHOSTUNREACH.
    pub const ICMP: [u16; 8] = [13, 71, 64, 92, 95, 101, 112, 113];
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Closed by FINs; the full socket saw no reset.
    Graceful,
    /// RST to our SYN.
    Refused,
    /// SYN retries exhausted.
    HandshakeTimeout,
    /// ICMP or a routing error during the handshake.
    Unreachable,
    /// The application closed while SYN_SENT.
    Cancelled,
    /// No ephemeral port was free.
    NoLocalPort,
    /// SYN_RECV never reached ESTABLISHED, or the connect failed locally.
    HandshakeFailed,
    /// RST from the peer.
    ResetReceived,
    /// SO_LINGER 0 or disconnect.
    ResetByUs,
    /// close() with data unread.
    UnreadData,
    /// The peer sent data after our close.
    DataAfterClose,
    /// The listener closed before accepting it.
    NotAccepted,
    /// Keepalive probes unanswered.
    KeepaliveTimeout,
    /// Retransmissions unanswered, or TCP_USER_TIMEOUT.
    RetransmissionTimeout,
    /// Zero-window probes unanswered.
    ZeroWindowTimeout,
    /// An orphan's FIN_WAIT2 ran out on the full socket.
    FinWaitTimeout,
    /// tcp_abort: sock_diag (`ss -K`) or bpf_sock_destroy.
    Killed,
    /// None of the above can be shown.
    Unknown,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 18] = [
        Self::Graceful,
        Self::Refused,
        Self::HandshakeTimeout,
        Self::Unreachable,
        Self::Cancelled,
        Self::NoLocalPort,
        Self::HandshakeFailed,
        Self::ResetReceived,
        Self::ResetByUs,
        Self::UnreadData,
        Self::DataAfterClose,
        Self::NotAccepted,
        Self::KeepaliveTimeout,
        Self::RetransmissionTimeout,
        Self::ZeroWindowTimeout,
        Self::FinWaitTimeout,
        Self::Killed,
        Self::Unknown,
    ];

    /// As printed and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Graceful => "graceful",
            Self::Refused => "refused",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::Unreachable => "unreachable",
            Self::Cancelled => "cancelled",
            Self::NoLocalPort => "no_local_port",
            Self::HandshakeFailed => "handshake_failed",
            Self::ResetReceived => "reset_received",
            Self::ResetByUs => "reset_by_us",
            Self::UnreadData => "unread_data",
            Self::DataAfterClose => "data_after_close",
            Self::NotAccepted => "not_accepted",
            Self::KeepaliveTimeout => "keepalive_timeout",
            Self::RetransmissionTimeout => "retransmission_timeout",
            Self::ZeroWindowTimeout => "zero_window_timeout",
            Self::FinWaitTimeout => "fin_wait_timeout",
            Self::Killed => "killed",
            Self::Unknown => "unknown",
        }
    }
}

/// Which resets could have been seen: whether their absence says anything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResetHooks {
    /// `tcp_receive_reset` is attached.
    pub received: bool,
    /// `tcp_send_reset` is attached.
    pub sent: bool,
}

/// What the verdict is drawn from.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The state left for CLOSE, the role, the resets seen before.
    pub connection: &'a Connection,
    /// The socket's own fields.
    pub fields: Option<CloseFields>,
    /// `tcp_send_reset` after →CLOSE.
    pub reset_after: bool,
    /// Which resets could have been seen.
    pub hooks: ResetHooks,
}

/// Draws the verdict.
#[must_use]
pub fn verdict(evidence: &Evidence<'_>) -> Verdict {
    // Without BTF there is no sk_err, and a state alone tells no cause: even LAST_ACK→CLOSE is
    // the peer's ACK, its RST or a timeout.
    let Some(fields) = evidence.fields else {
        return Verdict::Unknown;
    };
    if fields.error == errno::ECONNABORTED {
        return Verdict::Killed;
    }
    match evidence.connection.state {
        TcpState::SynSent => of_syn_sent(evidence, &fields),
        TcpState::SynRecv if !evidence.connection.established => Verdict::HandshakeFailed,
        // TCP Fast Open: it was served already.
        TcpState::SynRecv
        | TcpState::Established
        | TcpState::CloseWait
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::Closing
        | TcpState::LastAck => of_established(evidence, &fields),
        TcpState::TimeWait | TcpState::Close | TcpState::Listen | TcpState::NewSynRecv => {
            Verdict::Unknown
        }
    }
}

fn of_syn_sent(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    match fields.error {
        errno::ECONNREFUSED if evidence.connection.reset_received => Verdict::Refused,
        // An ICMP port unreachable gives the same error without a RST: only an attached hook's
        // silence can tell.
        errno::ECONNREFUSED if evidence.hooks.received => Verdict::Unreachable,
        errno::ETIMEDOUT => Verdict::HandshakeTimeout,
        error if errno::ICMP.contains(&error) => Verdict::Unreachable,
        // __tcp_close sets both shutdown bits before the state.
        0 if fields.receive_shut && fields.send_shut => Verdict::Cancelled,
        0 if evidence
            .connection
            .endpoints
            .is_some_and(|ends| ends.local_port == 0) =>
        {
            Verdict::NoLocalPort
        }
        // A SYN went out, so connect() itself did not fail: connect(AF_UNSPEC) or shutdown().
        0 if fields.segments_sent > 0 => Verdict::Cancelled,
        // tcp_v4_connect's own failure path; no SYN ever left.
        0 => Verdict::HandshakeFailed,
        _ => Verdict::Unknown,
    }
}

fn of_established(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    match fields.error {
        0 => without_error(evidence, fields),
        errno::ECONNRESET | errno::EPIPE => of_reset(evidence, fields),
        // tcp_write_err reports the soft error of an ICMP message in place of ETIMEDOUT; that of
        // a port unreachable is ECONNREFUSED.
        errno::ETIMEDOUT | errno::ECONNREFUSED => of_timeout(fields),
        error if errno::ICMP.contains(&error) => of_timeout(fields),
        _ => Verdict::Unknown,
    }
}

/// `tcp_reset` ran: for a RST that came in, or for data that came after close().
fn of_reset(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    // tcp_rcv_state_process resets on data in these states once receiving was shut down; then
    // it also sends a RST, and nothing else tells the two apart.
    let could_be_data = match evidence.connection.state {
        TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck => {
            fields.receive_shut
        }
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::CloseWait
        | TcpState::Listen
        | TcpState::NewSynRecv => false,
    };
    match (could_be_data, evidence.reset_after, evidence.hooks.sent) {
        (true, true, _) => Verdict::DataAfterClose,
        (true, false, false) => Verdict::Unknown,
        (true, false, true) | (false, _, _) => Verdict::ResetReceived,
    }
}

fn of_timeout(fields: &CloseFields) -> Verdict {
    if fields.unacknowledged == 0 {
        // tcp_keepalive_timer gives up with nothing outstanding.
        if fields.probes_out > 0 {
            Verdict::KeepaliveTimeout
        } else {
            Verdict::Unknown
        }
    } else if fields.send_window == 0 {
        Verdict::ZeroWindowTimeout
    } else {
        Verdict::RetransmissionTimeout
    }
}

fn without_error(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    match evidence.connection.state {
        TcpState::Established | TcpState::CloseWait => of_abort(fields),
        TcpState::SynRecv if evidence.connection.established => of_abort(fields),
        TcpState::LastAck | TcpState::Closing if fields.unacknowledged == 0 => Verdict::Graceful,
        TcpState::LastAck | TcpState::Closing => Verdict::Unknown,
        // The peer's FIN came: tcp_fin goes on to tcp_time_wait.
        TcpState::FinWait2 if fields.peer_fin => Verdict::Graceful,
        TcpState::FinWait1 | TcpState::FinWait2 if !fields.dead => of_abort(fields),
        TcpState::FinWait2 => of_orphan(evidence, fields),
        TcpState::FinWait1
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::Listen
        | TcpState::NewSynRecv => Verdict::Unknown,
    }
}

/// No error and no orphan: the application (or its listener) ended it, and a RST went out.
fn of_abort(fields: &CloseFields) -> Verdict {
    if !fields.has_socket && !fields.dead {
        // inet_csk_listen_stop: no descriptor was ever given out.
        return Verdict::NotAccepted;
    }
    match (fields.receive_shut && fields.send_shut, fields.unread) {
        (true, 1..) => Verdict::UnreadData,
        // SO_LINGER 0 in close(), connect(AF_UNSPEC) without it: both are tcp_disconnect.
        (true, 0) | (false, _) => Verdict::ResetByUs,
    }
}

/// An orphan leaves FIN_WAIT2 without the peer's FIN.
fn of_orphan(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    if evidence.connection.reset_sent {
        // tcp_keepalive_timer sends before it closes.
        Verdict::FinWaitTimeout
    } else if evidence.reset_after {
        // Data on the ACK of our FIN, unless TCP_LINGER2 < 0 asked for this.
        if fields.linger2_negative {
            Verdict::ResetByUs
        } else {
            Verdict::DataAfterClose
        }
    } else if evidence.hooks.sent {
        // Swapped for a timewait socket that waits for the peer's FIN; ours was acknowledged.
        Verdict::Graceful
    } else {
        Verdict::Unknown
    }
}
