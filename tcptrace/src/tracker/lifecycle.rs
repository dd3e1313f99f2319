//! The TCP state machine as the kernel's transitions show it.
//!
//! ```text
//!                              CLOSE ──────────── LISTEN
//!                   connect() │                     │ the final ACK of a handshake
//!                             ▼        crossed      ▼
//!                         SYN_SENT ────SYNs────► SYN_RECV
//!                             │                     │
//!                             └──► ESTABLISHED ◄────┘
//!            we close first │                 │ the peer closes first
//!                           ▼                 ▼
//!        ┌───both at once─ FIN_WAIT1     CLOSE_WAIT
//!        ▼                  │                 │ we close too
//!     CLOSING               ▼                 ▼
//!        │              FIN_WAIT2         LAST_ACK
//!        ▼                  ▼                 ▼
//!      CLOSE              CLOSE             CLOSE        (each also straight to CLOSE: aborted)
//! ```
//!
//! TIME_WAIT is missing on purpose: the kernel moves it to a socket of another kind, and the full
//! socket goes to CLOSE (KERNEL: `tcp_time_wait`). This file says what each pair of states means
//! and refuses to remember anything.

use tcptrace_common::TcpState::{self, *};

/// What a transition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// connect(): a connection begins.
    ActiveOpen,
    /// A child socket of a listener: a connection begins.
    PassiveOpen,
    Listen,
    /// The listener is closed, or listen() failed.
    StopListening,
    /// The SYNs crossed: a simultaneous open.
    SynsCrossed,
    Established,
    /// We closed our direction first.
    LocalFin,
    /// The peer closed its direction first.
    RemoteFin,
    FinAcknowledged,
    /// The peer's FIN came before the acknowledgement of ours.
    FinsCrossed,
    SecondFin,
    /// The full socket has ended.
    Close,
    /// close() after shutdown(): the kernel enters the same state again.
    Again,
    /// No kernel path makes this transition.
    Impossible,
}

impl Step {
    /// Returns what the transition `old` → `new` means.
    pub const fn between(old: TcpState, new: TcpState) -> Self {
        match old {
            Close => match new {
                SynSent => Self::ActiveOpen,
                Listen => Self::Listen,
                Established | SynRecv | FinWait1 | FinWait2 | TimeWait | Close | CloseWait
                | LastAck | Closing | NewSynRecv => Self::Impossible,
            },
            Listen => match new {
                SynRecv => Self::PassiveOpen,
                Close => Self::StopListening,
                Established | SynSent | FinWait1 | FinWait2 | TimeWait | CloseWait | LastAck
                | Listen | Closing | NewSynRecv => Self::Impossible,
            },
            SynSent => match new {
                Established => Self::Established,
                SynRecv => Self::SynsCrossed,
                Close => Self::Close,
                SynSent | FinWait1 | FinWait2 | TimeWait | CloseWait | LastAck | Listen
                | Closing | NewSynRecv => Self::Impossible,
            },
            SynRecv => match new {
                Established => Self::Established,
                // A child of Fast Open or of a simultaneous open, closed before the ACK.
                FinWait1 => Self::LocalFin,
                Close => Self::Close,
                SynSent | SynRecv | FinWait2 | TimeWait | CloseWait | LastAck | Listen
                | Closing | NewSynRecv => Self::Impossible,
            },
            Established => match new {
                FinWait1 => Self::LocalFin,
                CloseWait => Self::RemoteFin,
                Close => Self::Close,
                Established | SynSent | SynRecv | FinWait2 | TimeWait | LastAck | Listen
                | Closing | NewSynRecv => Self::Impossible,
            },
            FinWait1 => match new {
                FinWait2 => Self::FinAcknowledged,
                Closing => Self::FinsCrossed,
                Close => Self::Close,
                FinWait1 => Self::Again,
                Established | SynSent | SynRecv | TimeWait | CloseWait | LastAck | Listen
                | NewSynRecv => Self::Impossible,
            },
            FinWait2 => match new {
                Close => Self::Close,
                FinWait2 => Self::Again,
                Established | SynSent | SynRecv | FinWait1 | TimeWait | CloseWait | LastAck
                | Listen | Closing | NewSynRecv => Self::Impossible,
            },
            CloseWait => match new {
                LastAck => Self::SecondFin,
                Close => Self::Close,
                Established | SynSent | SynRecv | FinWait1 | FinWait2 | TimeWait | CloseWait
                | Listen | Closing | NewSynRecv => Self::Impossible,
            },
            LastAck => match new {
                Close => Self::Close,
                LastAck => Self::Again,
                Established | SynSent | SynRecv | FinWait1 | FinWait2 | TimeWait | CloseWait
                | Listen | Closing | NewSynRecv => Self::Impossible,
            },
            Closing => match new {
                Close => Self::Close,
                Closing => Self::Again,
                Established | SynSent | SynRecv | FinWait1 | FinWait2 | TimeWait | CloseWait
                | LastAck | Listen | NewSynRecv => Self::Impossible,
            },
            // Neither is ever a full socket's state (include/net/inet_timewait_sock.h,
            // include/net/request_sock.h).
            TimeWait | NewSynRecv => match new {
                Established | SynSent | SynRecv | FinWait1 | FinWait2 | TimeWait | Close
                | CloseWait | LastAck | Listen | Closing | NewSynRecv => Self::Impossible,
            },
        }
    }
}

/// Whether the handshake has completed in this state: both SYNs were acknowledged (RFC 9293
/// §3.3.2).
pub const fn is_synchronized(state: TcpState) -> bool {
    match state {
        Established | FinWait1 | FinWait2 | TimeWait | CloseWait | LastAck | Closing => true,
        SynSent | SynRecv | Close | Listen | NewSynRecv => false,
    }
}

/// Whether a connection in `earlier` can be in `later` now, whatever was not seen in between: a
/// connection's states only go forward. If not, `later` is another connection's.
pub(super) fn can_lead_to(earlier: TcpState, later: TcpState) -> bool {
    let is_among = |states: &[TcpState]| earlier == later || states.contains(&later);
    match earlier {
        SynSent => true,
        // Held only after an impossible transition, which tells nothing.
        TimeWait | Close | Listen | NewSynRecv => true,
        SynRecv => later != SynSent,
        Established => !matches!(later, SynSent | SynRecv),
        FinWait1 => is_among(&[FinWait2, Closing]),
        CloseWait => is_among(&[LastAck]),
        FinWait2 | LastAck | Closing => is_among(&[]),
    }
}
