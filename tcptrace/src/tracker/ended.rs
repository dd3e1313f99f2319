//! Ended connections, and the queue in which they wait for late events.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tcptrace_common::TcpState;

use super::{
    config::GRACE_NS,
    connection::Connection,
    time_wait::release::{Release, TimeWaitEntry},
    verdict::{Verdict, errno},
    vocabulary::{ClosedBy, Moment, Role},
};
use crate::feed::event::{CloseFields, ConnectFailure};

/// A connection that has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The connection; its state is the last one before CLOSE.
    pub connection: Connection,
    /// →CLOSE; if that was not seen, when its end was noticed.
    pub closed_at: Moment,
    pub end_seen: bool,
    /// The socket's fields at →CLOSE; `None` without BTF.
    pub fields: Option<CloseFields>,
    /// The result of connect(), if it failed inside the call. The connection's state is CLOSE if it
    /// never reached SYN_SENT.
    pub connect: Option<ConnectFailure>,
    /// The kernel sent a RST after →CLOSE.
    pub reset_after: bool,
    /// The peer's FIN reached the timewait socket before the record was settled.
    pub late_fin: Option<Moment>,
    /// Set when the record is settled; `None` if it is not known whether it entered TIME_WAIT.
    pub time_wait: Option<TimeWaitEntry>,
    /// Why it ended; set when the record is settled.
    pub verdict: Verdict,
    /// What became of the timewait socket before the record was settled; reported after it.
    pub(super) after: Option<Box<Release>>,
}

impl Ended {
    /// An ended connection, without a verdict yet.
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

    /// Returns when the record is due. Later events of the socket's address are not about this
    /// connection.
    pub(super) const fn due_ns(&self) -> u64 {
        self.closed_at.get().saturating_add(GRACE_NS)
    }

    /// Whether the call itself ended the attempt: SYN_SENT was left without an error, before a SYN
    /// was sent.
    pub(super) fn failed_in_call(&self) -> bool {
        self.connection.state == TcpState::SynSent
            && self.fields.is_some_and(|fields| {
                fields.error == 0
                    && fields.segments_sent == 0
                    && !(fields.receive_shut && fields.send_shut)
            })
    }

    /// Returns whose FIN came first; without a FIN, whose RST or abort ended the connection, if the
    /// verdict tells.
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

    /// Returns the errno of what ended the connection: the socket's error, or connect()'s. An older
    /// error that is not the cause is not returned.
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

    /// Returns the payload that left at least once, bytes, each counted once: what was acknowledged
    /// and what is in flight, without SYN and FIN. `None` when the socket cannot tell, or whether a
    /// SYN is among it.
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
            // The socket's own count can only be higher, by what was not accepted.
            Role::Unknown => [sent, sent.saturating_sub(1)]
                .into_iter()
                .find(|&sent| sent == fields.bytes_sent),
        }
    }

    /// Returns how long one direction was closed and the other open, nanoseconds; `None` when
    /// either end of that phase was not seen.
    pub fn half_closed_ns(&self) -> Option<u64> {
        let first = self.connection.closing.first_fin?.get();
        let end = match (
            self.connection.closing.second_fin.or(self.late_fin),
            self.connection.state,
        ) {
            (Some(second), _) => second.get(),
            // FIN_WAIT2 ends with the peer's FIN if the full socket saw it; otherwise a timewait
            // socket waits on, for a time not known here. A CLOSE_WAIT that ends without our FIN
            // was half-closed to its end.
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

    /// Returns how long FIN_WAIT2 lasted, on whichever socket, until the peer's FIN, nanoseconds.
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

    /// Returns how long our FIN waited for its acknowledgement in LAST_ACK, nanoseconds.
    pub fn last_ack_ns(&self) -> Option<u64> {
        let since = self.connection.closing.second_fin?;
        (self.connection.state == TcpState::LastAck && self.end_seen)
            .then(|| self.closed_at.get().saturating_sub(since.get()))
    }

    /// Returns whether the peer's FIN was received; `None` when the socket cannot tell.
    pub fn peer_fin(&self) -> Option<bool> {
        match self.fields {
            Some(_) if self.late_fin.is_some() => Some(true),
            Some(fields) if fields.peer_fin => Some(true),
            // Replaced by a timewait socket, which may still receive it.
            Some(fields) if self.may_be_swapped(&fields) => None,
            Some(_) => Some(false),
            None => None,
        }
    }

    /// Whether the kernel may have replaced the socket by a timewait socket: an orphan left
    /// FIN_WAIT2, and no reset, nor the error of one, tells of another end. The error may be an
    /// older one (IP_RECVERR).
    pub(super) fn may_be_swapped(&self, fields: &CloseFields) -> bool {
        let reset = self.connection.resets.sent || self.reset_after;
        self.connection.state == TcpState::FinWait2
            && fields.dead
            && fields.error != errno::ECONNRESET
            && fields.error != errno::ECONNABORTED
            && !reset
    }
}

/// The ended connections, in the order of their ends.
#[derive(Default)]
pub(super) struct EndedQueue {
    queue: VecDeque<Ended>,
    /// The number of the front entry, counted from the start of the trace.
    front: u64,
    /// The latest connection of each socket address, until the next one begins.
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

    pub(super) fn push(&mut self, ended: Ended) {
        let number = self.front + self.queue.len() as u64;
        self.by_socket.insert(ended.connection.socket, number);
        self.queue.push_back(ended);
    }

    /// A new connection begins at the socket's address: later events are not about the ended one.
    pub(super) fn supersede(&mut self, socket: u64) {
        self.by_socket.remove(&socket);
    }

    /// Returns the ended connection that an event after →CLOSE is about.
    pub(super) fn get_mut(&mut self, socket: u64, time: Moment) -> Option<&mut Ended> {
        let number = self.by_socket.get(&socket)?;
        let index = usize::try_from(number - self.front).ok()?;
        // Whether its record is settled depends on the driver's timing, and must not decide.
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

    /// Returns when the first record is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        self.queue.front().map(Ended::due_ns)
    }

    /// Removes and returns the first connection if its record is due at `now_ns`.
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
