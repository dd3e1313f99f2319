//! The connections that wait for the peer's FIN on a timewait socket.
//!
//! Where functions can be traced, what comes to a timewait socket is seen; elsewhere the kernel's
//! table is asked for it a few times, and what becomes of it is known as far as that tells.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{
    release::{Outcome, Release, TimeWaitSource, Whose},
    residents::Resident,
};
use crate::{
    feed::event::Endpoints,
    tracker::{
        connection::Connection,
        evidence::Heard,
        vocabulary::{Moment, Role},
    },
};

/// A connection whose record is written or about to be, and which still waits for the peer's FIN.
#[derive(Clone, Debug)]
pub(in crate::tracker) struct FinWait {
    /// The full socket it had.
    pub(in crate::tracker) socket: u64,
    pub(in crate::tracker) id: u64,
    role: Role,
    pub(super) endpoints: Option<Endpoints>,
    whose: Whose,
    first_fin: Option<Moment>,
    fin_acked: Option<Moment>,
    pub(super) closed_at: Moment,
    cookie: Option<u64>,
    /// The timewait socket's address, where its allocation was seen.
    timewait: Option<u64>,
    /// What had been lost when it began to wait.
    pub(super) heard: Heard,
    /// Looked up so often.
    looked: usize,
}

impl FinWait {
    pub(in crate::tracker) fn new(
        connection: &Connection,
        closed_at: Moment,
        cookie: Option<u64>,
        timewait: Option<u64>,
        heard: Heard,
    ) -> Self {
        Self {
            socket: connection.socket,
            id: connection.id,
            role: connection.role,
            endpoints: connection.endpoints,
            whose: connection.into(),
            first_fin: connection.closing.first_fin,
            fin_acked: connection.closing.fin_acked,
            closed_at,
            cookie,
            timewait,
            heard,
            looked: 0,
        }
    }

    /// The same, in TIME_WAIT.
    pub(super) fn resident(&self, timewait: Option<u64>) -> Resident {
        Resident {
            id: self.id,
            socket: self.socket,
            role: self.role,
            whose: self.whose.clone(),
            timewait,
        }
    }

    /// What became of it.
    pub(in crate::tracker) fn released(
        &self,
        time: Moment,
        outcome: Outcome,
        peer_fin: Option<Moment>,
        source: TimeWaitSource,
    ) -> Release {
        let time_wait = match outcome {
            Outcome::TimeWait => Some((true, source)),
            Outcome::Refused | Outcome::NoFin | Outcome::Reset => Some((false, source)),
            Outcome::Reused | Outcome::Gone => None,
        };
        let until_fin = |since: Option<Moment>| {
            let (since, fin) = since.zip(peer_fin)?;
            Some(fin.get().saturating_sub(since.get()))
        };
        Release {
            id: self.id,
            role: self.role,
            endpoints: self.endpoints,
            whose: self.whose.clone(),
            time,
            peer_fin,
            fin_wait2_ns: until_fin(self.fin_acked),
            half_closed_ns: until_fin(self.first_fin),
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
pub(in crate::tracker) struct FinWaits {
    by_id: HashMap<u64, FinWait>,
    by_timewait: HashMap<u64, u64>,
    /// In the order of →CLOSE, for those whose FIN would be seen.
    expiring: VecDeque<(u64, u64)>,
    /// When whom to look up next; one queue for each of [`LOOKS_NS`], each in the order of time.
    looks: [VecDeque<(u64, u64)>; LOOKS_NS.len()],
    limit: usize,
    /// Not followed for want of room.
    pub(in crate::tracker) refused: u64,
    /// Followed in vain: what became of them was not seen.
    pub(in crate::tracker) unknown: u64,
}

impl FinWaits {
    pub(in crate::tracker) fn new(limit: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            by_timewait: HashMap::new(),
            expiring: VecDeque::new(),
            looks: std::array::from_fn(|_| VecDeque::new()),
            limit,
            refused: 0,
            unknown: 0,
        }
    }

    /// It is waited for.
    pub(in crate::tracker) fn contains(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(in crate::tracker) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes one in. Without a timewait socket's address it is to be looked up.
    pub(in crate::tracker) fn insert(&mut self, waiting: FinWait) {
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
    pub(in crate::tracker) fn take_timewait(&mut self, timewait: u64) -> Option<FinWait> {
        let id = self.by_timewait.remove(&timewait)?;
        self.by_id.remove(&id)
    }

    /// Who waits under a connection's number; it waits no longer.
    pub(in crate::tracker) fn take(&mut self, id: u64) -> Option<FinWait> {
        let waiting = self.by_id.remove(&id)?;
        if let Some(timewait) = waiting.timewait
            && self.by_timewait.get(&timewait) == Some(&id)
        {
            self.by_timewait.remove(&timewait);
        }
        Some(waiting)
    }

    /// The next one whose FIN would have been seen by now, had it come, and which waits no
    /// longer.
    pub(in crate::tracker) fn pop_expired(&mut self, now_ns: u64) -> Option<FinWait> {
        while self.expiring.front().is_some_and(|(due, _)| *due <= now_ns) {
            let (_, id) = self.expiring.pop_front()?;
            if let Some(waiting) = self.take(id) {
                return Some(waiting);
            }
        }
        None
    }

    /// The next one to be looked up by now. Its answer comes by `FinWaits::looked`.
    pub(in crate::tracker) fn next_lookup(&mut self, now_ns: u64) -> Option<Lookup> {
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
                    self.unknown += 1;
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
    pub(in crate::tracker) fn look_again(&mut self, id: u64) {
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
                self.unknown += 1;
            }
        }
    }
}
