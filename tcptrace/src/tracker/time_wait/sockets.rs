//! Connections in TIME_WAIT: until it ends, a RST ends it or a new connection takes its endpoints.
//! Both are reported once, after the connection's record.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::release::{Ownership, Release, ReleaseOutcome};
use crate::{
    feed::event::Endpoints,
    tracker::vocabulary::{Moment, Role},
};

/// TCP_TIMEWAIT_LEN: TIME_WAIT never lasts shorter.
const TIME_WAIT_NS: u64 = 60_000_000_000;

/// A connection in TIME_WAIT.
#[derive(Clone, Debug)]
pub(in crate::tracker) struct TimewaitSocket {
    pub(in crate::tracker) id: u64,
    /// The full socket that the connection had.
    pub(in crate::tracker) socket: u64,
    pub(in crate::tracker) role: Role,
    pub(in crate::tracker) whose: Ownership,
    /// The timewait socket's address, if known.
    pub(in crate::tracker) timewait: Option<u64>,
}

/// The connections in TIME_WAIT. Bounded: when full, the oldest is dropped and counted.
pub(in crate::tracker) struct TimewaitSockets {
    by_endpoints: HashMap<Endpoints, TimewaitSocket>,
    by_timewait: HashMap<u64, Endpoints>,
    /// In the order of entry; those that left early stay until their turn.
    expiring: VecDeque<(u64, Endpoints, u64)>,
    limit: usize,
    /// How many were dropped.
    pub(in crate::tracker) evicted: u64,
}

impl TimewaitSockets {
    pub(in crate::tracker) fn new(limit: usize) -> Self {
        Self {
            by_endpoints: HashMap::new(),
            by_timewait: HashMap::new(),
            expiring: VecDeque::new(),
            limit,
            evicted: 0,
        }
    }

    /// A connection enters TIME_WAIT. Without endpoints it cannot be followed.
    pub(super) fn enter(
        &mut self,
        minisocket: TimewaitSocket,
        endpoints: Option<Endpoints>,
        now: Moment,
    ) {
        let Some(endpoints) = endpoints.filter(|endpoints| endpoints.local_port != 0) else {
            return;
        };
        self.expire(now.get());
        while self.expiring.len() >= self.limit {
            self.evicted += u64::from(self.pop_oldest());
        }
        let due = now.get().saturating_add(TIME_WAIT_NS);
        self.expiring.push_back((due, endpoints, minisocket.id));
        if let Some(timewait) = minisocket.timewait {
            self.by_timewait.insert(timewait, endpoints);
        }
        if let Some(before) = self.by_endpoints.insert(endpoints, minisocket) {
            self.forget(before.timewait, endpoints);
        }
    }

    /// Removes those whose TIME_WAIT has ended.
    pub(super) fn expire(&mut self, now_ns: u64) {
        while self
            .expiring
            .front()
            .is_some_and(|(due, ..)| *due <= now_ns)
        {
            self.pop_oldest();
        }
    }

    /// Removes the oldest; returns whether it had not left already.
    fn pop_oldest(&mut self) -> bool {
        let Some((_, endpoints, id)) = self.expiring.pop_front() else {
            return false;
        };
        let stays = self
            .by_endpoints
            .get(&endpoints)
            .is_some_and(|held| held.id == id);
        stays && self.remove(&endpoints).is_some()
    }

    /// Removes and returns the connection between these endpoints.
    pub(super) fn remove(&mut self, endpoints: &Endpoints) -> Option<TimewaitSocket> {
        let minisocket = self.by_endpoints.remove(endpoints)?;
        self.forget(minisocket.timewait, *endpoints);
        Some(minisocket)
    }

    /// Removes and returns the connection with this timewait socket.
    pub(super) fn take_timewait(&mut self, timewait: u64) -> Option<(TimewaitSocket, Endpoints)> {
        let endpoints = self.by_timewait.remove(&timewait)?;
        let minisocket = self.by_endpoints.remove(&endpoints)?;
        Some((minisocket, endpoints))
    }

    /// The timewait socket's address is no longer this connection's; it stays in TIME_WAIT.
    pub(in crate::tracker) fn forget_timewait(&mut self, timewait: u64) {
        self.by_timewait.remove(&timewait);
    }

    /// Removes the timewait socket's address if it leads to these endpoints.
    fn forget(&mut self, timewait: Option<u64>, endpoints: Endpoints) {
        if let Some(timewait) = timewait
            && self.by_timewait.get(&timewait) == Some(&endpoints)
        {
            self.by_timewait.remove(&timewait);
        }
    }
}

impl TimewaitSocket {
    pub(super) fn left(
        self,
        endpoints: Endpoints,
        time: Moment,
        outcome: ReleaseOutcome,
    ) -> Release {
        Release {
            id: self.id,
            role: self.role,
            endpoints: Some(endpoints),
            whose: self.whose,
            time,
            peer_fin: None,
            fin_wait2_ns: None,
            half_closed_ns: None,
            // The record, or an earlier release, has told it.
            time_wait: None,
            outcome,
        }
    }
}
