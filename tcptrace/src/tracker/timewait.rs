//! TIME_WAIT, which never shows as a state: the kernel moves it to a socket of another kind.
//!
//! A timewait socket begins in TIME_WAIT when the peer's FIN came to the full socket, and in
//! FIN_WAIT2 when we closed first and the peer has not yet: the usual case. That FIN then comes
//! with no transition. What is learnt of it after the connection's record is a [`Release`].

use std::collections::VecDeque;

use hashbrown::HashMap;
use tcptrace_common::TcpState;

use super::{
    connection::{Connection, Moment},
    ended::Ended,
    terms::{Process, Role},
};
use crate::feed::event::Endpoints;

/// How it is known whether a connection entered TIME_WAIT, from the strongest to the weakest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitSource {
    /// The timewait socket's allocation was seen, or would have been (`inet_twsk_alloc`).
    TwskAlloc,
    /// The kernel's table of sockets told.
    SockDiag,
    /// The full socket's last flags: what the kernel meant to do. The allocation can fail.
    SockDone,
}

impl TimeWaitSource {
    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TwskAlloc => "twsk_alloc",
            Self::SockDiag => "sock_diag",
            Self::SockDone => "sock_done",
        }
    }
}

/// A timewait socket was to take over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    /// Its address; `None` when there was no room for it.
    pub(super) timewait: Option<u64>,
    /// It begins in FIN_WAIT2.
    pub(super) awaits_fin: bool,
}

/// What became of TIME_WAIT, as far as the full socket's end tells; `alloc_seen` says that an
/// allocation would have been seen.
pub(super) fn at_close(ended: &Ended, alloc_seen: bool) -> Option<(bool, TimeWaitSource)> {
    if ended.late_fin.is_some() {
        return Some((true, TimeWaitSource::TwskAlloc));
    }
    match ended.connection.timewait {
        Some(Allocation { timewait: None, .. }) => Some((false, TimeWaitSource::TwskAlloc)),
        Some(Allocation {
            awaits_fin: true, ..
        }) => None,
        Some(Allocation {
            awaits_fin: false, ..
        }) => Some((true, TimeWaitSource::TwskAlloc)),
        None if alloc_seen => Some((false, TimeWaitSource::TwskAlloc)),
        None if !ended.end_seen => None,
        None => by_flags(ended).map(|entered| (entered, TimeWaitSource::SockDone)),
    }
}

/// The classifier that needs no hook: what `tcp_fin` and `tcp_rcv_state_process` do in each state.
fn by_flags(ended: &Ended) -> Option<bool> {
    match ended.connection.state {
        TcpState::FinWait2 => {
            let fields = ended.fields?;
            if fields.peer_fin {
                Some(true)
            } else {
                // Swapped for a timewait socket in FIN_WAIT2, or it died of something.
                (!ended.may_be_swapped(&fields)).then_some(false)
            }
        }
        TcpState::Closing => {
            let fields = ended.fields?;
            Some(fields.error == 0 && fields.unacknowledged == 0)
        }
        TcpState::FinWait1 => {
            let fields = ended.fields?;
            (fields.error != 0 || !fields.dead).then_some(false)
        }
        TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::Established
        | TcpState::CloseWait
        | TcpState::LastAck => Some(false),
        TcpState::TimeWait | TcpState::Close | TcpState::Listen | TcpState::NewSynRecv => None,
    }
}

/// How FIN_WAIT2 on a timewait socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The peer's FIN came.
    TimeWait,
    /// The peer sent data, or a SYN, and got a RST.
    Refused,
    /// No FIN came within the longest time that the kernel waits.
    NoFin,
    /// The socket was gone when it was looked up: a RST, data, or a new connection ended it.
    Gone,
}

impl Outcome {
    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TimeWait => "time_wait",
            Self::Refused => "refused",
            Self::NoFin => "no_fin",
            Self::Gone => "gone",
        }
    }
}

/// What was learnt of a connection after its record.
#[derive(Clone, Debug)]
pub struct Release {
    /// The connection's.
    pub id: u64,
    /// The connection's.
    pub role: Role,
    /// The connection's.
    pub endpoints: Option<Endpoints>,
    /// The connection's.
    pub process: Option<Process>,
    /// When it was learnt.
    pub time: Moment,
    /// The peer's FIN came.
    pub peer_fin: Option<Moment>,
    /// How long FIN_WAIT2 lasted, nanoseconds; `None` when its beginning or end was not seen.
    pub fin_wait2_ns: Option<u64>,
    /// It entered TIME_WAIT, or did not, and how we know.
    pub time_wait: Option<(bool, TimeWaitSource)>,
    /// What happened.
    pub outcome: Outcome,
}

impl Release {
    /// The port that the service is known by, as a connection has it.
    #[must_use]
    pub fn service_port(&self) -> Option<u16> {
        self.role.service_port(self.endpoints.as_ref())
    }
}

/// A connection whose record is written or about to be, and which still waits for the peer's FIN.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The full socket it had.
    pub(super) socket: u64,
    pub(super) id: u64,
    role: Role,
    endpoints: Option<Endpoints>,
    process: Option<Process>,
    fin_acked: Option<Moment>,
    closed_at: Moment,
    cookie: Option<u64>,
    /// The timewait socket's address, where its allocation was seen.
    timewait: Option<u64>,
    /// How many events had been lost when it began to wait.
    lost_before: u64,
    /// Looked up so often.
    looked: usize,
}

impl Waiting {
    pub(super) fn new(
        connection: &Connection,
        closed_at: Moment,
        cookie: Option<u64>,
        timewait: Option<u64>,
        lost_before: u64,
    ) -> Self {
        Self {
            socket: connection.socket,
            id: connection.id,
            role: connection.role,
            endpoints: connection.endpoints,
            process: connection.process,
            fin_acked: connection.fin_acked,
            closed_at,
            cookie,
            timewait,
            lost_before,
            looked: 0,
        }
    }

    pub(super) const fn closed_at(&self) -> Moment {
        self.closed_at
    }

    /// What became of it.
    pub(super) fn released(
        &self,
        time: Moment,
        outcome: Outcome,
        peer_fin: Option<Moment>,
        source: TimeWaitSource,
    ) -> Release {
        let time_wait = match outcome {
            Outcome::TimeWait => Some((true, source)),
            Outcome::Refused | Outcome::NoFin => Some((false, source)),
            Outcome::Gone => None,
        };
        Release {
            id: self.id,
            role: self.role,
            endpoints: self.endpoints,
            process: self.process,
            time,
            peer_fin,
            fin_wait2_ns: self
                .fin_acked
                .zip(peer_fin)
                .map(|(since, end)| end.get().saturating_sub(since.get())),
            time_wait,
            outcome,
        }
    }
}

/// The kernel's longest wait for the peer's FIN (`TCP_FIN_TIMEOUT_MAX`, 120 s), and some more.
const LONGEST_NS: u64 = 125_000_000_000;
/// How long after →CLOSE the kernel's table is looked into, and again. TIME_WAIT lasts 60 s, so
/// that no FIN can come and go unseen between two of them.
const LOOKS_NS: [u64; 4] = [
    1_000_000_000,
    10_000_000_000,
    60_000_000_000,
    110_000_000_000,
];

/// A socket to be looked up in the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Whose.
    pub id: u64,
    /// Both ends.
    pub endpoints: Endpoints,
    /// What the full socket had, and the timewait socket has.
    pub cookie: Option<u64>,
}

/// What the kernel's table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// It is in FIN_WAIT2 still.
    FinWait2,
    /// It is in TIME_WAIT, and has been for so long, nanoseconds.
    TimeWait {
        /// Where the kernel told how long it stays.
        since_ns: Option<u64>,
    },
    /// It is not there.
    Gone,
    /// It could not be asked: nothing is known.
    Unknown,
}

/// The connections that wait for the peer's FIN on a timewait socket. Bounded: what finds no room
/// is counted, and never told of.
pub(super) struct Releases {
    by_id: HashMap<u64, Waiting>,
    by_timewait: HashMap<u64, u64>,
    /// In the order of →CLOSE, for those whose FIN would be seen.
    expiring: VecDeque<(u64, u64)>,
    /// When whom to look up next; one queue for each of [`LOOKS_NS`], each in the order of time.
    looks: [VecDeque<(u64, u64)>; LOOKS_NS.len()],
    limit: usize,
    /// Not followed for want of room.
    pub(super) refused: u64,
}

impl Releases {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            by_timewait: HashMap::new(),
            expiring: VecDeque::new(),
            looks: std::array::from_fn(|_| VecDeque::new()),
            limit,
            refused: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes one in. Without a timewait socket's address it is to be looked up.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        if self.by_id.len() >= self.limit {
            self.refused += 1;
            return;
        }
        // Those that were told of early leave their place in the queues until it is due.
        if self.expiring.len() > 2 * self.limit {
            self.expiring.retain(|(_, id)| self.by_id.contains_key(id));
        }
        let (id, closed) = (waiting.id, waiting.closed_at.get());
        match waiting.timewait {
            Some(timewait) => {
                self.by_timewait.insert(timewait, id);
                self.expiring
                    .push_back((closed.saturating_add(LONGEST_NS), id));
            }
            None => self.looks[0].push_back((closed.saturating_add(LOOKS_NS[0]), id)),
        }
        self.by_id.insert(id, waiting);
    }

    /// Who waits under a timewait socket's address; it waits no longer.
    pub(super) fn take_timewait(&mut self, timewait: u64) -> Option<Waiting> {
        let id = self.by_timewait.remove(&timewait)?;
        self.by_id.remove(&id)
    }

    /// Who waits under a connection's number; it waits no longer.
    pub(super) fn take(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.by_id.remove(&id)?;
        if let Some(timewait) = waiting.timewait
            && self.by_timewait.get(&timewait) == Some(&id)
        {
            self.by_timewait.remove(&timewait);
        }
        Some(waiting)
    }

    /// The next one whose FIN would have been seen by now, had it come, and which waits no
    /// longer; whether nothing was lost meanwhile, `lost` events having been by now.
    pub(super) fn pop_expired(&mut self, now_ns: u64, lost: u64) -> Option<(Waiting, bool)> {
        while self.expiring.front().is_some_and(|(due, _)| *due <= now_ns) {
            let (_, id) = self.expiring.pop_front()?;
            if let Some(waiting) = self.take(id) {
                let certain = waiting.lost_before == lost;
                return Some((waiting, certain));
            }
        }
        None
    }

    /// The next one to be looked up by now. Its answer comes by [`Self::looked`].
    pub(super) fn next_lookup(&mut self, now_ns: u64) -> Option<Lookup> {
        for round in 0..self.looks.len() {
            while let Some(&(due, id)) = self.looks[round].front() {
                if due > now_ns {
                    break;
                }
                self.looks[round].pop_front();
                let Some(waiting) = self.by_id.get(&id) else {
                    continue;
                };
                let Some(endpoints) = waiting.endpoints else {
                    self.by_id.remove(&id);
                    continue;
                };
                return Some(Lookup {
                    id,
                    endpoints,
                    cookie: waiting.cookie,
                });
            }
        }
        None
    }

    /// It is still in FIN_WAIT2, or could not be asked for: it is looked up again later, or never
    /// told of.
    pub(super) fn look_again(&mut self, id: u64) {
        let Some(waiting) = self.by_id.get_mut(&id) else {
            return;
        };
        waiting.looked += 1;
        match LOOKS_NS.get(waiting.looked) {
            Some(after) => {
                let due = waiting.closed_at.get().saturating_add(*after);
                self.looks[waiting.looked].push_back((due, id));
            }
            None => {
                self.by_id.remove(&id);
            }
        }
    }
}
