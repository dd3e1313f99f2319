//! Connections that are over, and the queue in which they wait for what may still be said of them.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tcptrace_common::TcpState;

use super::{
    config::GRACE_NS,
    connection::Connection,
    time_wait::release::{Release, TimeWaitSource},
    verdict::{Verdict, errno},
    vocabulary::{ClosedBy, Moment, Role},
};
use crate::feed::event::{CloseFields, ConnectFailure};

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
    /// The result of connect(), where it failed inside the call; its connection's state is CLOSE where no
    /// SYN_SENT was reached.
    pub connect: Option<ConnectFailure>,
    /// The kernel sent a RST after →CLOSE.
    pub reset_after: bool,
    /// The peer's FIN came to the timewait socket, before the record was written.
    pub late_fin: Option<Moment>,
    /// It entered TIME_WAIT, or did not, and how we know; settled when the record is written.
    pub time_wait: Option<(bool, TimeWaitSource)>,
    /// Why it ended; settled when the record is written.
    pub verdict: Verdict,
    /// What became of the timewait socket before the record was written; said after it.
    pub(super) after: Option<Box<Release>>,
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
            connect: None,
            reset_after: false,
            late_fin: None,
            time_wait: None,
            verdict: Verdict::Unknown,
            after: None,
        }
    }

    /// From then on nothing that happens to the socket's address is about this connection.
    pub(super) const fn due_ns(&self) -> u64 {
        self.closed_at.get().saturating_add(GRACE_NS)
    }

    /// An attempt that the call itself ended: SYN_SENT was left without an error, before a SYN was sent.
    pub(super) fn failed_in_call(&self) -> bool {
        self.connection.state == TcpState::SynSent
            && self.fields.is_some_and(|fields| {
                fields.error == 0
                    && fields.segments_sent == 0
                    && !(fields.receive_shut && fields.send_shut)
            })
    }

    /// Whose FIN came first; without a FIN, whose RST or abort ended it, where the verdict says so.
    pub fn closed_by(&self) -> Option<ClosedBy> {
        self.connection.closing.first_fin_by.or(match self.verdict {
            Verdict::ResetReceived => Some(ClosedBy::Remote),
            Verdict::ResetByUs
            | Verdict::UnreadData
            | Verdict::NotAccepted
            | Verdict::Killed
            | Verdict::Checkpointed
            | Verdict::Cancelled => Some(ClosedBy::Local),
            Verdict::Graceful
            | Verdict::Refused
            | Verdict::HandshakeTimeout
            | Verdict::Unreachable
            | Verdict::NoLocalPort
            | Verdict::Forbidden
            | Verdict::HandshakeFailed
            | Verdict::DataAfterClose
            | Verdict::KeepaliveTimeout
            | Verdict::RetransmissionTimeout
            | Verdict::ZeroWindowTimeout
            | Verdict::FinWaitTimeout
            | Verdict::Unknown => None,
        })
    }

    /// The errno of what ended it: the socket's error or connect()'s. An error that was there before and is not the
    /// cause is none.
    pub fn errno(&self) -> Option<u16> {
        let error = self.fields.map(|fields| fields.error);
        let of_socket = match self.verdict {
            Verdict::Graceful
            | Verdict::ResetByUs
            | Verdict::UnreadData
            | Verdict::NotAccepted
            | Verdict::FinWaitTimeout
            | Verdict::Cancelled
            | Verdict::Checkpointed => None,
            Verdict::Refused
            | Verdict::HandshakeTimeout
            | Verdict::Unreachable
            | Verdict::NoLocalPort
            | Verdict::Forbidden
            | Verdict::HandshakeFailed
            | Verdict::ResetReceived
            | Verdict::DataAfterClose
            | Verdict::KeepaliveTimeout
            | Verdict::RetransmissionTimeout
            | Verdict::ZeroWindowTimeout
            | Verdict::Killed
            | Verdict::Unknown => error.filter(|&error| error != 0),
        };
        of_socket.or(self.connect.map(|failure| failure.error))
    }

    /// Payload that left at least once, each byte counted once however often it was sent or tried: what
    /// was acknowledged and what is in flight, without SYN and FIN. `None` when the socket cannot
    /// say, or whether a SYN is among it.
    pub fn bytes_sent(&self) -> Option<u64> {
        let fields = self.fields?;
        let connection = &self.connection;
        let fin = fields.all_left()
            && matches!(
                connection.state,
                TcpState::FinWait1 | TcpState::FinWait2 | TcpState::Closing | TcpState::LastAck
            );
        let sent = fields.bytes_acked.saturating_add(fields.in_flight.into());
        let sent = sent.saturating_sub(fin.into());
        match connection.role {
            Role::Passive => Some(sent),
            Role::Active | Role::Simultaneous if connection.handshake.repaired => Some(sent),
            Role::Active | Role::Simultaneous => Some(sent.saturating_sub(1)),
            // The socket's own count can only be more, by what was not taken.
            Role::Unknown => [sent, sent.saturating_sub(1)]
                .into_iter()
                .find(|&sent| sent == fields.bytes_sent),
        }
    }

    /// How long one direction was closed and the other open, nanoseconds; `None` when one end of
    /// it was not seen.
    pub fn half_closed_ns(&self) -> Option<u64> {
        let first = self.connection.closing.first_fin?.get();
        let end = match (
            self.connection.closing.second_fin.or(self.late_fin),
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
    pub fn fin_wait2_ns(&self) -> Option<u64> {
        let since = self.connection.closing.fin_acked?;
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
    pub fn last_ack_ns(&self) -> Option<u64> {
        let since = self.connection.closing.second_fin?;
        (self.connection.state == TcpState::LastAck && self.end_seen)
            .then(|| self.closed_at.get().saturating_sub(since.get()))
    }

    /// The peer's FIN was received; `None` when the socket cannot say.
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

    /// An orphan left FIN_WAIT2, and neither a reset nor the error of one says that it died of something.
    /// An error may be an older one (IP_RECVERR).
    pub(super) fn may_be_swapped(&self, fields: &CloseFields) -> bool {
        let reset = self.connection.resets.sent || self.reset_after;
        self.connection.state == TcpState::FinWait2
            && fields.dead
            && fields.error != errno::ECONNRESET
            && fields.error != errno::ECONNABORTED
            && !reset
    }
}

/// In the order in which they ended.
#[derive(Default)]
pub(super) struct EndedQueue {
    queue: VecDeque<Ended>,
    /// The number of the queue's front entry, counted from the beginning.
    front: u64,
    /// The last generation of each socket address, until the next one begins.
    by_socket: HashMap<u64, u64>,
}

impl EndedQueue {
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ended> {
        self.queue.iter()
    }

    /// Takes one in.
    pub(super) fn push(&mut self, ended: Ended) {
        let number = self.front + self.queue.len() as u64;
        self.by_socket.insert(ended.connection.socket, number);
        self.queue.push_back(ended);
    }

    /// The next generation of a socket's address begins: nothing more is said of the one before.
    pub(super) fn supersede(&mut self, socket: u64) {
        self.by_socket.remove(&socket);
    }

    /// Who an event of this time speaks of that comes after →CLOSE.
    pub(super) fn get_mut(&mut self, socket: u64, time: Moment) -> Option<&mut Ended> {
        let number = self.by_socket.get(&socket)?;
        let index = usize::try_from(number - self.front).ok()?;
        // Whether it is written yet depends on when the driver settled, and is no criterion.
        self.queue
            .get_mut(index)
            .filter(|ended| time.get() < ended.due_ns())
    }

    /// As [`get_mut`](Self::get_mut).
    pub(super) fn get(&self, socket: u64, time: Moment) -> Option<&Ended> {
        let number = self.by_socket.get(&socket)?;
        let index = usize::try_from(number - self.front).ok()?;
        let ended = self.queue.get(index)?;
        (time.get() < ended.due_ns()).then_some(ended)
    }

    /// Attaches a release to its connection, to be told after the connection's record. Returns it
    /// if that record is written already.
    pub(super) fn attach(
        &mut self,
        socket: u64,
        time: Moment,
        release: Release,
    ) -> Option<Release> {
        match self.get_mut(socket, time) {
            Some(ended) if ended.connection.id == release.id => {
                ended.after = Some(Box::new(release));
                None
            }
            Some(_) | None => Some(release),
        }
    }

    /// When the first one is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.queue.front().map(Ended::due_ns)
    }

    /// Takes the first one out if it is due at `now_ns`.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Ended> {
        if self.next_due_ns()? > now_ns {
            return None;
        }
        let ended = self.queue.pop_front()?;
        let socket = ended.connection.socket;
        if self.by_socket.get(&socket) == Some(&self.front) {
            self.by_socket.remove(&socket);
        }
        self.front += 1;
        Some(ended)
    }
}
