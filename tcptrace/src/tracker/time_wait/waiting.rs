//! The connections that wait for the peer's FIN on a timewait socket.
//!
//! If functions can be traced, what reaches a timewait socket is seen. Otherwise the connection is
//! looked up in the kernel's table a few times.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::release::{Ownership, Release, ReleaseOutcome, TimeWaitEntry, TimeWaitSource};
use crate::tracker::time_wait::sockets::TimewaitSocket;
use crate::{
    feed::event::Endpoints,
    tracker::{
        connection::Connection,
        evidence::CoverageStart,
        vocabulary::{Moment, Role},
    },
};

/// A connection that still waits for the peer's FIN when its record is settled.
#[derive(Clone, Debug)]
pub(in crate::tracker) struct FinWait {
    /// The full socket that the connection had.
    pub(in crate::tracker) socket: u64,
    pub(in crate::tracker) id: u64,
    role: Role,
    pub(super) endpoints: Option<Endpoints>,
    whose: Ownership,
    first_fin: Option<Moment>,
    fin_acked: Option<Moment>,
    pub(super) closed_at: Moment,
    cookie: Option<u64>,
    /// The timewait socket's address, if its allocation was seen.
    timewait: Option<u64>,
    /// How many events had been lost when it began to wait.
    pub(super) heard: CoverageStart,
    /// How many times it was looked up.
    looked: usize,
}

impl FinWait {
    pub(in crate::tracker) fn new(
        connection: &Connection,
        closed_at: Moment,
        cookie: Option<u64>,
        timewait: Option<u64>,
        heard: CoverageStart,
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

    /// The same connection, in TIME_WAIT.
    pub(super) fn minisocket(&self, timewait: Option<u64>) -> TimewaitSocket {
        TimewaitSocket {
            id: self.id,
            socket: self.socket,
            role: self.role,
            whose: self.whose.clone(),
            timewait,
        }
    }

    /// Returns what became of the connection.
    pub(in crate::tracker) fn released(
        &self,
        time: Moment,
        outcome: ReleaseOutcome,
        peer_fin: Option<Moment>,
        source: TimeWaitSource,
    ) -> Release {
        let time_wait = match outcome {
            ReleaseOutcome::TimeWait => Some(TimeWaitEntry::entered(source)),
            ReleaseOutcome::Refused | ReleaseOutcome::NoFin | ReleaseOutcome::Reset => {
                Some(TimeWaitEntry::not_entered(source))
            }
            ReleaseOutcome::Reused | ReleaseOutcome::Gone => None,
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

/// The kernel's longest wait for the peer's FIN (`TCP_FIN_TIMEOUT_MAX`, 120 s), and a little more.
const LONGEST_NS: u64 = 125_000_000_000;
/// When the kernel's table is searched after →CLOSE. TIME_WAIT lasts 60 s, so no FIN can come and
/// go unseen between two searches.
const LOOKS_NS: [u64; 4] = [
    1_000_000_000,
    10_000_000_000,
    60_000_000_000,
    110_000_000_000,
];

/// A socket to look up in the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// The connection's id.
    pub id: u64,
    pub endpoints: Endpoints,
    /// The full socket's cookie, which the timewait socket keeps.
    pub cookie: Option<u64>,
}

/// The result of a lookup in the kernel's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimewaitStatus {
    /// It is still in FIN_WAIT2.
    FinWait2,
    /// It is in TIME_WAIT.
    TimeWait {
        /// For how long, nanoseconds, if the kernel told how long it stays.
        since_ns: Option<u64>,
    },
    /// It does not exist.
    Gone,
    /// The kernel could not be asked.
    Unknown,
}

/// The connections that wait for the peer's FIN on a timewait socket. Bounded: those without room
/// are counted and not followed.
pub(in crate::tracker) struct FinWaits {
    by_id: HashMap<u64, FinWait>,
    by_timewait: HashMap<u64, u64>,
    /// In the order of →CLOSE, those whose FIN would be seen.
    expiring: VecDeque<(u64, u64)>,
    /// Which connection to look up when; one queue for each of [`LOOKS_NS`], in the order of time.
    looks: [VecDeque<(u64, u64)>; LOOKS_NS.len()],
    limit: usize,
    /// Connections not followed for lack of room.
    pub(in crate::tracker) refused: u64,
    /// Connections followed of which nothing was seen.
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

    pub(in crate::tracker) fn contains(&self, id: u64) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(in crate::tracker) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Adds a connection. Without a timewait socket's address it will be looked up.
    pub(in crate::tracker) fn insert(&mut self, waiting: FinWait) {
        if self.by_id.len() >= self.limit {
            self.refused += 1;
            return;
        }
        // Those told early keep their entry in the queues until it is due.
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

    /// Removes and returns the connection with this timewait socket.
    pub(in crate::tracker) fn take_timewait(&mut self, timewait: u64) -> Option<FinWait> {
        let id = self.by_timewait.remove(&timewait)?;
        self.by_id.remove(&id)
    }

    /// Removes and returns the connection with this id.
    pub(in crate::tracker) fn remove(&mut self, id: u64) -> Option<FinWait> {
        let waiting = self.by_id.remove(&id)?;
        if let Some(timewait) = waiting.timewait
            && self.by_timewait.get(&timewait) == Some(&id)
        {
            self.by_timewait.remove(&timewait);
        }
        Some(waiting)
    }

    /// Removes and returns the next connection whose FIN would have been seen by now.
    pub(in crate::tracker) fn pop_expired(&mut self, now_ns: u64) -> Option<FinWait> {
        while self.expiring.front().is_some_and(|(due, _)| *due <= now_ns) {
            let (_, id) = self.expiring.pop_front()?;
            if let Some(waiting) = self.remove(id) {
                return Some(waiting);
            }
        }
        None
    }

    /// Returns the next connection to look up by now.
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

    /// Schedules the next lookup of a connection still in FIN_WAIT2, or that could not be looked
    /// up; drops it after the last.
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
