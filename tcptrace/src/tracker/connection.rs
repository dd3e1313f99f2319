//! One connection: what is known of it, and nothing else.

use std::{net::IpAddr, num::NonZeroU64};

use tcptrace_common::TcpState;

use super::{timewait::TimeWaitSource, verdict::Verdict};
use crate::event::{CloseFields, Endpoints, Request, SocketOwner, Task};

/// A moment: CLOCK_MONOTONIC, nanoseconds. Its absence takes no room.
pub type Moment = NonZeroU64;

/// Which side opened the connection, seen from this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// connect() here.
    Active,
    /// listen() here.
    Passive,
    /// Both at once (RFC 9293 §3.5, figure 7).
    Simultaneous,
    /// It was open before we looked, or the event that would tell was lost.
    Unknown,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 4] = [
        Self::Active,
        Self::Passive,
        Self::Simultaneous,
        Self::Unknown,
    ];

    /// The port that the service is known by: ours for a passive open, the peer's for an active.
    pub(super) fn service_port(self, ends: Option<&Endpoints>) -> Option<u16> {
        let ends = ends?;
        let port = match self {
            Self::Active => ends.remote_port,
            Self::Passive => ends.local_port,
            Self::Simultaneous | Self::Unknown => 0,
        };
        (port != 0).then_some(port)
    }

    /// As printed and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Simultaneous => "simultaneous",
            Self::Unknown => "unknown",
        }
    }
}

/// Whose FIN (or RST) came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClosedBy {
    /// This host's.
    Local,
    /// The peer's.
    Remote,
    /// The FINs crossed.
    Simultaneous,
}

impl ClosedBy {
    /// As printed and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Remote => "remote",
            Self::Simultaneous => "simultaneous",
        }
    }
}

/// How much of the connection was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// From its first transition on, without a hole.
    Full,
    /// It was there before we looked.
    Seeded,
    /// Events of it were lost.
    Gap,
}

impl Completeness {
    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Seeded => "seeded",
            Self::Gap => "gap",
        }
    }
}

/// How we know whose connection it is, from the strongest to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessSource {
    /// It called connect().
    Connect,
    /// It called accept().
    Accept,
    /// It called listen() on the socket that the connection came in by.
    Listen,
    /// It closed the connection.
    Close,
}

impl ProcessSource {
    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Listen => "listen",
            Self::Close => "close",
        }
    }
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// The thread group, in the initial pid namespace.
    pub pid: u32,
    /// NUL-padded.
    pub comm: [u8; 16],
    /// How we know.
    pub source: ProcessSource,
}

impl Process {
    /// The task of an event, unless it is the idle task.
    pub(super) fn new(task: &Task, source: ProcessSource) -> Option<Self> {
        (task.pid != 0).then_some(Self {
            pid: task.pid,
            comm: task.comm,
            source,
        })
    }

    /// The name, with what is not UTF-8 replaced.
    #[must_use]
    pub fn name(&self) -> String {
        let end = self.comm.iter().position(|&byte| byte == 0);
        String::from_utf8_lossy(&self.comm[..end.unwrap_or(self.comm.len())]).into_owned()
    }
}

/// Where a handshake's time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeSource {
    /// SYN_SENT→ESTABLISHED: connect() to the SYN-ACK.
    SynSent,
    /// The first SYN-ACK, by the kernel's own time stamp, to its ACK.
    Synack,
    /// The SYN, as sock_ops saw it, to the SYN-ACK's ACK.
    SockOps,
    /// The kernel's first sample of the round trip, where it is that of the handshake.
    Srtt,
}

impl HandshakeSource {
    /// Every source.
    pub const ALL: [Self; 4] = [Self::SynSent, Self::Synack, Self::SockOps, Self::Srtt];

    /// As printed and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "syn_sent",
            Self::Synack => "synack",
            Self::SockOps => "sock_ops",
            Self::Srtt => "srtt",
        }
    }
}

/// What is known of a connection while it lives.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Unique within a run of the tracker.
    pub id: u64,
    /// The kernel's address of its socket.
    pub socket: u64,
    /// Who opened it.
    pub role: Role,
    /// The state held.
    pub state: TcpState,
    /// How much of it was seen.
    pub completeness: Completeness,
    /// It reached a synchronized state.
    pub established: bool,
    /// Both ends, as far as they are known.
    pub endpoints: Option<Endpoints>,
    /// Whose socket it is.
    pub owner: SocketOwner,
    /// Which process it belongs to.
    pub process: Option<Process>,
    /// Its first transition.
    pub opened: Option<Moment>,
    /// →ESTABLISHED.
    pub established_at: Option<Moment>,
    /// When the state was entered; `None` while that was not seen. Entering it again is no
    /// beginning.
    pub state_since: Option<Moment>,
    /// The first FIN, ours or the peer's.
    pub first_fin: Option<Moment>,
    /// The second FIN, when it was seen.
    pub second_fin: Option<Moment>,
    /// Whose FIN came first.
    pub first_fin_by: Option<ClosedBy>,
    /// How long the handshake took, nanoseconds, and how we know.
    pub handshake: Option<(u64, HandshakeSource)>,
    /// SYN or SYN-ACK retransmits, once established.
    pub syn_retransmits: Option<u32>,
    /// What is known of how a passive handshake began.
    pub request: Request,
    /// TCP Fast Open (RFC 7413): the SYN carried data that was taken. `None` while it cannot be
    /// told.
    pub fast_open: Option<bool>,
    /// accept() returned it.
    pub accepted_at: Option<Moment>,
    /// Smoothed round trip at ESTABLISHED, microseconds.
    pub handshake_srtt_us: Option<u32>,
    /// The kernel acted on a RST from the peer.
    pub reset_received: bool,
    /// The kernel sent a RST while the connection lived.
    pub reset_sent: bool,
    /// Why it sent the first RST: `enum sk_rst_reason` of that kernel.
    pub reset_reason: Option<u32>,
    /// The peer acknowledged our FIN: FIN_WAIT2 began.
    pub fin_acked: Option<Moment>,
    /// A timewait socket was to take over.
    pub(super) timewait: Option<super::timewait::Allocation>,
    /// The event that spoke of it last.
    pub(super) touched: Moment,
    /// The walk over the kernel's sockets that found it last.
    pub(super) walk: u64,
    /// How many events had been reported lost when it last changed its state: if no more have
    /// been since, that no reset was seen means that there was none. `u64::MAX`, which no count
    /// reaches, when what came before its end was not seen.
    pub(super) lost_before: u64,
}

impl Connection {
    /// A connection of which nothing is known yet.
    pub(super) fn new(id: u64, socket: u64, role: Role, state: TcpState) -> Self {
        Self {
            id,
            socket,
            role,
            state,
            completeness: Completeness::Full,
            established: false,
            endpoints: None,
            owner: SocketOwner::default(),
            process: None,
            opened: None,
            established_at: None,
            state_since: None,
            first_fin: None,
            second_fin: None,
            first_fin_by: None,
            handshake: None,
            syn_retransmits: None,
            request: Request::default(),
            fast_open: None,
            accepted_at: None,
            handshake_srtt_us: None,
            reset_received: false,
            reset_sent: false,
            reset_reason: None,
            fin_acked: None,
            timewait: None,
            touched: Moment::MIN,
            walk: 0,
            lost_before: 0,
        }
    }

    /// How long it waited for accept(), nanoseconds: from ESTABLISHED on, and 0 when accept()
    /// came first. `None` while either was not seen.
    #[must_use]
    pub fn accept_wait_ns(&self) -> Option<u64> {
        let (established, accepted) = (self.established_at?, self.accepted_at?);
        Some(accepted.get().saturating_sub(established.get()))
    }

    /// Its handshake is known to have been a SYN cookie's: the kernel kept no request.
    #[must_use]
    pub fn is_syn_cookie(&self) -> bool {
        self.request
            .seen
            .is_some_and(|seen| seen.synack_us.is_none() && !seen.fast_open)
    }

    /// TCP_DEFER_ACCEPT: the handshake is over only when data comes, so that it has no time.
    #[must_use]
    pub const fn deferred(&self) -> Option<bool> {
        self.request.deferred
    }

    /// Both ends are known well enough to choose by: every address and port is there.
    #[must_use]
    pub fn is_identified(&self) -> bool {
        self.endpoints
            .is_some_and(|ends| ends.local_port != 0 && ends.remote_port != 0)
    }

    /// The port that the service is known by: ours for a passive open, the peer's for an active.
    #[must_use]
    pub fn service_port(&self) -> Option<u16> {
        self.role.service_port(self.endpoints.as_ref())
    }

    /// Both ends are on this host's loopback.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        self.endpoints.is_some_and(|ends| {
            ends.local_address.is_loopback() && ends.remote_address.is_loopback()
        })
    }

    /// The remote end is known to be another than `new` has it. The local one may differ: a
    /// transparent proxy's child has its listener's at first.
    pub(super) fn has_another_peer_than(&self, new: &Endpoints) -> bool {
        self.endpoints.is_some_and(|known| {
            let ports = [known.remote_port, new.remote_port];
            let addresses = [known.remote_address, new.remote_address];
            (!ports.contains(&0) && ports[0] != ports[1])
                || (!addresses.iter().any(IpAddr::is_unspecified) && addresses[0] != addresses[1])
        })
    }

    /// Takes over what the event knows better: ports and addresses that were missing.
    pub(super) fn learn_endpoints(&mut self, new: &Endpoints) {
        let Some(known) = &mut self.endpoints else {
            self.endpoints = Some(*new);
            return;
        };
        let unknown = |address: IpAddr| address.is_unspecified();
        if new.local_port != 0 {
            known.local_port = new.local_port;
        }
        if new.remote_port != 0 {
            known.remote_port = new.remote_port;
        }
        if !unknown(new.local_address) {
            known.local_address = new.local_address;
        }
        if !unknown(new.remote_address) {
            known.remote_address = new.remote_address;
        }
        known.netns = new.netns.or(known.netns);
    }

    /// What being in `state` tells about who closed first. The first answer stands, but that a
    /// simultaneous close begins as one of ours.
    pub(super) fn learn_closer(&mut self, state: TcpState) {
        match state {
            TcpState::FinWait1 | TcpState::FinWait2 => {
                self.first_fin_by.get_or_insert(ClosedBy::Local);
            }
            TcpState::CloseWait | TcpState::LastAck => {
                self.first_fin_by.get_or_insert(ClosedBy::Remote);
            }
            TcpState::Closing => self.first_fin_by = Some(ClosedBy::Simultaneous),
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::TimeWait
            | TcpState::Close
            | TcpState::Listen
            | TcpState::NewSynRecv => {}
        }
    }

    /// Events of it were lost. Answers 1 when that is new, for the count.
    pub(super) fn mark_gap(&mut self) -> u64 {
        let new = self.completeness != Completeness::Gap;
        self.completeness = Completeness::Gap;
        new.into()
    }
}

/// A connection that is over.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What was known of it; its state is the last one before CLOSE.
    pub connection: Connection,
    /// →CLOSE; where that was not seen, the moment when it was found out.
    pub closed_at: Moment,
    /// →CLOSE was seen.
    pub end_seen: bool,
    /// The socket's last word; `None` without BTF.
    pub fields: Option<CloseFields>,
    /// The kernel sent a RST after →CLOSE.
    pub reset_after: bool,
    /// The peer's FIN came to the timewait socket, before the record was written.
    pub late_fin: Option<Moment>,
    /// It entered TIME_WAIT, or did not, and how we know; settled when the record is written.
    pub time_wait: Option<(bool, TimeWaitSource)>,
    /// Why it ended; settled when the record is written.
    pub verdict: Verdict,
}

impl Ended {
    /// A connection that is over; the verdict comes with the record.
    pub(super) fn new(
        connection: Connection,
        closed_at: Moment,
        fields: Option<CloseFields>,
    ) -> Self {
        Self {
            connection,
            closed_at,
            end_seen: true,
            fields,
            reset_after: false,
            late_fin: None,
            time_wait: None,
            verdict: Verdict::Unknown,
        }
    }

    /// Whose FIN came first; without a FIN, whose RST or abort ended it, where the verdict says so.
    #[must_use]
    pub fn closed_by(&self) -> Option<ClosedBy> {
        self.connection.first_fin_by.or(match self.verdict {
            Verdict::ResetReceived => Some(ClosedBy::Remote),
            Verdict::ResetByUs
            | Verdict::UnreadData
            | Verdict::NotAccepted
            | Verdict::Killed
            | Verdict::Cancelled => Some(ClosedBy::Local),
            Verdict::Graceful
            | Verdict::Refused
            | Verdict::HandshakeTimeout
            | Verdict::Unreachable
            | Verdict::NoLocalPort
            | Verdict::HandshakeFailed
            | Verdict::DataAfterClose
            | Verdict::KeepaliveTimeout
            | Verdict::RetransmissionTimeout
            | Verdict::ZeroWindowTimeout
            | Verdict::FinWaitTimeout
            | Verdict::Unknown => None,
        })
    }

    /// How long one direction was closed and the other open, nanoseconds; `None` when one end of
    /// it was not seen.
    #[must_use]
    pub fn half_closed_ns(&self) -> Option<u64> {
        let first = self.connection.first_fin?.get();
        let end = match (
            self.connection.second_fin.or(self.late_fin),
            self.connection.state,
        ) {
            (Some(second), _) => second.get(),
            // FIN_WAIT2 ends with the peer's FIN when the full socket saw it; otherwise a
            // timewait socket waits on, and how long is not known here. CLOSE_WAIT that ends
            // without our FIN was half-closed to its end.
            (None, TcpState::FinWait2 | TcpState::CloseWait)
                if self.fields.is_some_and(|fields| fields.peer_fin) =>
            {
                self.closed_at.get()
            }
            (
                None,
                TcpState::Established
                | TcpState::SynSent
                | TcpState::SynRecv
                | TcpState::FinWait1
                | TcpState::FinWait2
                | TcpState::TimeWait
                | TcpState::Close
                | TcpState::CloseWait
                | TcpState::LastAck
                | TcpState::Listen
                | TcpState::Closing
                | TcpState::NewSynRecv,
            ) => return None,
        };
        end.checked_sub(first)
    }

    /// How long FIN_WAIT2 lasted, on whichever socket, nanoseconds: until the peer's FIN.
    #[must_use]
    pub fn fin_wait2_ns(&self) -> Option<u64> {
        let since = self.connection.fin_acked?;
        let end = match self.late_fin {
            Some(late) => late,
            None if self.connection.state == TcpState::FinWait2
                && self.end_seen
                && self.fields.is_some_and(|fields| fields.peer_fin) =>
            {
                self.closed_at
            }
            None => return None,
        };
        Some(end.get().saturating_sub(since.get()))
    }

    /// How long our FIN waited for its acknowledgement in LAST_ACK, nanoseconds.
    #[must_use]
    pub fn last_ack_ns(&self) -> Option<u64> {
        let since = self.connection.second_fin?;
        (self.connection.state == TcpState::LastAck && self.end_seen)
            .then(|| self.closed_at.get().saturating_sub(since.get()))
    }

    /// The peer's FIN was received; `None` when the socket cannot say.
    #[must_use]
    pub fn peer_fin(&self) -> Option<bool> {
        match self.fields {
            Some(_) if self.late_fin.is_some() => Some(true),
            Some(fields) if fields.peer_fin => Some(true),
            // Swapped for a timewait socket, which may yet receive it.
            Some(fields) if self.may_be_swapped(&fields) => None,
            Some(_) => Some(false),
            None => None,
        }
    }

    /// An orphan left FIN_WAIT2, and neither an error nor a reset says that it died of something.
    pub(super) fn may_be_swapped(&self, fields: &CloseFields) -> bool {
        let reset = self.connection.reset_sent || self.reset_after;
        self.connection.state == TcpState::FinWait2 && fields.dead && fields.error == 0 && !reset
    }
}
