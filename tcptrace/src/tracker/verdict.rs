//! Why a connection ended: one verdict, each from named evidence, `unknown` without any.
//!
//! Most evidence is in the socket's own fields at →CLOSE; resets come from their tracepoints.
//! Nothing is guessed: where two causes leave the same traces, neither is named.

use std::net::IpAddr;

use tcptrace_common::TcpState;

use super::{config::ResetHooks, connection::Connection};
use crate::feed::event::{CloseFields, ConnectFailure};

/// Linux errno values seen at →CLOSE.
pub mod errno {
    /// Broken pipe: RST in CLOSE_WAIT (`tcp_reset`).
    pub const EPIPE: u16 = 32;
    /// A cgroup's program or a security module.
    pub const EPERM: u16 = 1;
    /// A prohibiting route or a security module.
    pub const EACCES: u16 = 13;
    /// A blackhole route.
    pub const EINVAL: u16 = 22;
    /// No local port, or no local IPv6 address.
    pub const EADDRNOTAVAIL: u16 = 99;
    /// The interface of the route is down.
    pub const ENETDOWN: u16 = 100;
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

    /// Returns the name of an errno such as `ECONNRESET`, or `UnknownErrno`.
    pub fn name(errno: u16) -> String {
        format!("{:?}", nix::errno::Errno::from_raw(errno.into()))
    }
}

/// Why a connection ended.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    strum::IntoStaticStr,
    strum::VariantArray,
    serde::Serialize,
    Default,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum Verdict {
    /// Closed by FINs; the full socket saw no reset.
    Graceful,
    /// RST to our SYN.
    Refused,
    /// SYN retries exhausted.
    HandshakeTimeout,
    /// ICMP or a routing error during the handshake.
    Unreachable,
    /// The application closed in SYN_SENT.
    Cancelled,
    /// No ephemeral port was free.
    NoLocalPort,
    /// A local policy forbade connect(): a prohibiting route, a cgroup's program, a security
    /// module.
    Forbidden,
    /// SYN_RECV never reached ESTABLISHED, or connect() failed locally.
    HandshakeFailed,
    /// RST from the peer.
    ResetReceived,
    /// SO_LINGER 0 or disconnect.
    ResetByUs,
    /// close() with unread data.
    UnreadData,
    /// The peer sent data after our close().
    DataAfterClose,
    /// The listener closed before accept().
    NotAccepted,
    /// Unanswered keepalive probes.
    KeepaliveTimeout,
    /// Unanswered retransmissions, or TCP_USER_TIMEOUT.
    RetransmissionTimeout,
    /// Unanswered zero-window probes.
    ZeroWindowTimeout,
    /// An orphan's FIN_WAIT2 expired on the full socket.
    FinWaitTimeout,
    /// tcp_abort: sock_diag (`ss -K`) or bpf_sock_destroy.
    Killed,
    /// Closed in TCP_REPAIR mode: nothing was sent, and the connection may go on elsewhere.
    Checkpointed,
    /// None of the above can be shown.
    #[default]
    Unknown,
}

impl Verdict {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// What a verdict is based on.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The connection: its state before CLOSE, its role, its resets.
    pub connection: &'a Connection,
    /// The socket's fields at →CLOSE.
    pub fields: Option<CloseFields>,
    /// The result of connect(), if it failed inside the call.
    pub connect: Option<ConnectFailure>,
    /// The kernel sent a RST after →CLOSE.
    pub reset_after: bool,
    pub hooks: ResetHooks,
}

/// Returns why a connection ended.
pub fn verdict(evidence: &Evidence<'_>) -> Verdict {
    if let (TcpState::Close, Some(failure)) = (evidence.connection.state, evidence.connect) {
        return of_connect(&failure);
    }
    // Without BTF there is no sk_err, and a state alone tells no cause: even LAST_ACK→CLOSE is the
    // peer's ACK, its RST or a timeout.
    let Some(fields) = evidence.fields else {
        return Verdict::Unknown;
    };
    if fields.error == errno::ECONNABORTED {
        return Verdict::Killed;
    }
    match evidence.connection.state {
        TcpState::SynSent => of_syn_sent(evidence, &fields),
        TcpState::SynRecv if !evidence.connection.established => Verdict::HandshakeFailed,
        // TCP Fast Open: the child was served already.
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

/// Returns why a connect() failed before SYN_SENT.
fn of_connect(failure: &ConnectFailure) -> Verdict {
    let remote_is_v6 = failure.endpoints.remote_address.is_ipv6();
    match failure.error {
        _ if failure.policy => Verdict::Forbidden,
        errno::EPERM | errno::EACCES => Verdict::Forbidden,
        // fe80::… without an interface; otherwise EINVAL comes from a blackhole route.
        errno::EINVAL if remote_is_v6 && failure.endpoints.interface.is_none() => {
            match failure.endpoints.remote_address {
                IpAddr::V6(address) if address.is_unicast_link_local() => Verdict::HandshakeFailed,
                IpAddr::V6(_) | IpAddr::V4(_) => Verdict::Unreachable,
            }
        }
        errno::EINVAL | errno::ENETDOWN => Verdict::Unreachable,
        // A port is chosen in SYN_SENT: what is missing here is a source address.
        errno::EADDRNOTAVAIL => Verdict::Unreachable,
        error if errno::ICMP.contains(&error) => Verdict::Unreachable,
        _ => Verdict::HandshakeFailed,
    }
}

fn of_syn_sent(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    match fields.error {
        // __tcp_close sets both shutdown bits before the state.
        _ if fields.receive_shut && fields.send_shut => Verdict::Cancelled,
        errno::ECONNREFUSED if evidence.connection.resets.received => Verdict::Refused,
        // An ICMP port unreachable gives the same error without a RST: only the silence of an
        // attached hook tells them apart.
        errno::ECONNREFUSED if evidence.hooks.received => Verdict::Unreachable,
        errno::ETIMEDOUT => Verdict::HandshakeTimeout,
        error if errno::ICMP.contains(&error) => Verdict::Unreachable,
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

/// Returns why an established connection ended. The state, the shutdowns and the resets come before
/// the error: ICMP with IP_RECVERR, kTLS and sockmap leave an error on a connection that lives on,
/// and its end need not set one.
fn of_established(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    // Only tcp_reset leaves this error.
    let reset_received = evidence.connection.resets.received || fields.error == errno::ECONNRESET;
    let in_close = fields.receive_shut && fields.send_shut;
    match evidence.connection.state {
        // shutdown() of sending leaves these states, so both directions are shut only within
        // close().
        TcpState::Established | TcpState::CloseWait | TcpState::SynRecv
            if in_close || (evidence.reset_after && !reset_received) =>
        {
            of_abort(fields)
        }
        // connect(AF_UNSPEC); a RST for data after shutdown() would have run tcp_reset first.
        TcpState::FinWait1 | TcpState::FinWait2
            if evidence.reset_after && !reset_received && !fields.dead =>
        {
            of_abort(fields)
        }
        // Our FIN was acknowledged: everything else that ends these states comes before that.
        TcpState::LastAck | TcpState::Closing
            if fields.unacknowledged == 0 && fields.error != errno::ECONNRESET =>
        {
            Verdict::Graceful
        }
        // The peer's FIN came: tcp_fin continues with tcp_time_wait.
        TcpState::FinWait2 if fields.peer_fin => Verdict::Graceful,
        TcpState::Established
        | TcpState::CloseWait
        | TcpState::SynRecv
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::LastAck
        | TcpState::Closing
        | TcpState::SynSent
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::Listen
        | TcpState::NewSynRecv => of_error(evidence, fields),
    }
}

/// Returns what the error can have caused in that state; otherwise it is an older one.
fn of_error(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    let state = evidence.connection.state;
    match fields.error {
        0 => without_error(evidence, fields),
        errno::EPIPE if state == TcpState::CloseWait => of_reset(evidence, fields),
        errno::ECONNRESET => of_reset(evidence, fields),
        errno::ETIMEDOUT => of_timeout(fields),
        // Nothing is retransmitted in FIN_WAIT2, and an orphan is not probed.
        _ if state == TcpState::FinWait2 && fields.dead => of_orphan(evidence, fields),
        // tcp_write_err reports the soft error of an ICMP message in place of ETIMEDOUT; for a port
        // unreachable that is ECONNREFUSED.
        error if error == errno::ECONNREFUSED || errno::ICMP.contains(&error) => {
            // An orphan short of memory sends a RST and ends at once (tcp_out_of_resources).
            let gave_up = evidence.connection.resets.sent && fields.unacknowledged > 0;
            // tcp_disconnect would have sent a RST after it.
            if evidence.hooks.sent && !gave_up {
                of_timeout(fields)
            } else {
                Verdict::Unknown
            }
        }
        _ => Verdict::Unknown,
    }
}

/// Returns the verdict when `tcp_reset` ran: for a RST that came in, or data after close().
fn of_reset(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    // tcp_rcv_state_process resets on data in these states once receiving was shut down; it then
    // also sends a RST, and nothing else tells the two apart.
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
        TcpState::FinWait1 | TcpState::FinWait2 if !fields.dead => of_abort(fields),
        TcpState::FinWait2 => of_orphan(evidence, fields),
        TcpState::FinWait1
        | TcpState::LastAck
        | TcpState::Closing
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::Listen
        | TcpState::NewSynRecv => Verdict::Unknown,
    }
}

/// Returns the verdict when the application or its listener aborted the connection and a RST was
/// sent.
fn of_abort(fields: &CloseFields) -> Verdict {
    if !fields.has_socket && !fields.dead {
        // inet_csk_listen_stop: no descriptor was ever handed out.
        return Verdict::NotAccepted;
    }
    if fields.repair {
        // tcp_disconnect sends nothing then.
        return Verdict::Checkpointed;
    }
    match (fields.receive_shut && fields.send_shut, fields.unread) {
        (true, 1..) => Verdict::UnreadData,
        // SO_LINGER 0 in close(), or connect(AF_UNSPEC) without it: both are tcp_disconnect.
        (true, 0) | (false, _) => Verdict::ResetByUs,
    }
}

/// Returns the verdict when an orphan leaves FIN_WAIT2 without the peer's FIN.
fn of_orphan(evidence: &Evidence<'_>, fields: &CloseFields) -> Verdict {
    if evidence.connection.resets.sent {
        // tcp_keepalive_timer sends a RST before it closes.
        Verdict::FinWaitTimeout
    } else if evidence.reset_after {
        // Data on the ACK of our FIN, unless TCP_LINGER2 < 0 asked for this.
        if fields.linger2_negative {
            Verdict::ResetByUs
        } else {
            Verdict::DataAfterClose
        }
    } else if evidence.hooks.sent {
        // Replaced by a timewait socket that waits for the peer's FIN; our FIN was acknowledged.
        Verdict::Graceful
    } else {
        Verdict::Unknown
    }
}
