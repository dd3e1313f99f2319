//! Follows connections after →CLOSE, on their timewait sockets.

use super::{
    classify,
    release::{Release, ReleaseOutcome, TimeWaitSource},
    waiting::{FinWait, FinWaits, Lookup, TimewaitStatus},
};
use crate::tracker::time_wait::sockets::{TimewaitSocket, TimewaitSockets};
use crate::{
    feed::{
        event::{Endpoints, TimewaitArrival},
        item::EvidenceHook,
    },
    tracker::{
        connection::Allocation,
        ended::{Ended, EndedQueue},
        evidence::HookCoverage,
        vocabulary::{Moment, Origin},
    },
};

/// The connections that have a timewait socket: first those that wait for the peer's FIN, then
/// those in TIME_WAIT.
///
/// A connection is in at most one of the two.
pub(in crate::tracker) struct TimeWaits {
    pub(in crate::tracker) waiting: FinWaits,
    pub(in crate::tracker) in_time_wait: TimewaitSockets,
}

impl TimeWaits {
    /// Follows at most `max_releases` connections in FIN_WAIT2 and `max_time_waits` in TIME_WAIT.
    pub(in crate::tracker) fn new(max_releases: usize, max_time_waits: usize) -> Self {
        Self {
            waiting: FinWaits::new(max_releases),
            in_time_wait: TimewaitSockets::new(max_time_waits),
        }
    }

    /// Follows a connection that ends with a timewait socket; ignores every other.
    pub(in crate::tracker) fn follow(
        &mut self,
        ended: &Ended,
        at: Origin,
        silences: &HookCoverage,
    ) {
        let connection = &ended.connection;
        let closed_ns = ended.closed_at.get();
        let alloc_seen =
            silences.would_have_seen(EvidenceHook::Timewait, connection.followed.heard, closed_ns);
        let heard = silences.starting_at(ended.closed_at);
        let steps_seen =
            silences.would_have_seen(EvidenceHook::TimewaitStep, Some(heard), closed_ns);
        if classify::at_close(ended, alloc_seen).is_some_and(|time_wait| time_wait.entered) {
            let timewait = connection
                .closing
                .timewait
                .and_then(|allocation| allocation.timewait);
            self.reuse_address(timewait);
            let minisocket = TimewaitSocket {
                id: connection.id,
                socket: connection.socket,
                role: connection.role,
                whose: connection.into(),
                timewait,
            };
            self.in_time_wait
                .enter(minisocket, connection.endpoints, at.time);
            return;
        }
        let timewait = match connection.closing.timewait {
            Some(Allocation {
                timewait: Some(timewait),
                awaits_fin: true,
            }) => steps_seen.then_some(timewait),
            Some(_) => return,
            None if alloc_seen => return,
            None if ended
                .fields
                .is_some_and(|fields| !fields.peer_fin && ended.may_be_swapped(&fields)) =>
            {
                None
            }
            None => return,
        };
        self.reuse_address(timewait);
        self.waiting.insert(FinWait::new(
            connection, at.time, at.cookie, timewait, heard,
        ));
    }

    /// A timewait socket's address belongs to another connection from now on. The previous one is
    /// gone, and the kernel did not tell how.
    fn reuse_address(&mut self, timewait: Option<u64>) {
        if let Some(timewait) = timewait {
            let previous = self.waiting.take_timewait(timewait);
            self.waiting.unknown += u64::from(previous.is_some());
            self.in_time_wait.forget_timewait(timewait);
        }
    }

    /// A segment reached a timewait socket (`tcp_timewait_state_process`). Returns the release, if
    /// the connection's record cannot carry it.
    pub(in crate::tracker) fn on_arrival(
        &mut self,
        at: Origin,
        arrived: TimewaitArrival,
        ended: &mut EndedQueue,
    ) -> Option<Release> {
        let Some(waiting) = self.waiting.take_timewait(at.socket) else {
            if arrived != TimewaitArrival::Reset {
                return None;
            }
            let (minisocket, endpoints) = self.in_time_wait.take_timewait(at.socket)?;
            let socket = minisocket.socket;
            let release = minisocket.left(endpoints, at.time, ReleaseOutcome::Reset);
            return ended.attach(socket, at.time, release);
        };
        let (outcome, peer_fin) = match arrived {
            TimewaitArrival::Fin => {
                let minisocket = waiting.minisocket(Some(at.socket));
                self.in_time_wait
                    .enter(minisocket, waiting.endpoints, at.time);
                (ReleaseOutcome::TimeWait, Some(at.time))
            }
            TimewaitArrival::Refused => (ReleaseOutcome::Refused, None),
            TimewaitArrival::Reset => (ReleaseOutcome::Reset, None),
        };
        let release = waiting.released(at.time, outcome, peer_fin, TimeWaitSource::TwskAlloc);
        match ended.get_mut(waiting.socket, at.time) {
            // Its record is not written yet, and can tell it itself.
            Some(ended) if ended.connection.id == waiting.id && arrived == TimewaitArrival::Fin => {
                ended.late_fin = Some(at.time);
                None
            }
            Some(_) | None => ended.attach(waiting.socket, at.time, release),
        }
    }

    /// A connection is established between these endpoints: a connection in TIME_WAIT there has
    /// ended. Returns its release, if its record cannot carry it.
    pub(in crate::tracker) fn reuse_endpoints(
        &mut self,
        endpoints: Option<&Endpoints>,
        now: Moment,
        ended: &mut EndedQueue,
    ) -> Option<Release> {
        self.in_time_wait.expire(now.get());
        let endpoints = endpoints?;
        let minisocket = self.in_time_wait.remove(endpoints)?;
        let socket = minisocket.socket;
        let release = minisocket.left(*endpoints, now, ReleaseOutcome::Reused);
        ended.attach(socket, now, release)
    }

    /// Returns the release of the next connection whose FIN would have been seen by now.
    pub(in crate::tracker) fn pop_expired(
        &mut self,
        now_ns: u64,
        silences: &HookCoverage,
    ) -> Option<Release> {
        while let Some(waiting) = self.waiting.pop_expired(now_ns) {
            if silences.would_have_seen(EvidenceHook::TimewaitStep, Some(waiting.heard), now_ns) {
                let time = Moment::new(now_ns).unwrap_or(Moment::MIN);
                let source = TimeWaitSource::TwskAlloc;
                return Some(waiting.released(time, ReleaseOutcome::NoFin, None, source));
            }
            self.waiting.unknown += 1;
        }
        None
    }

    /// Returns the next connection to look up in the kernel's table by now.
    pub(in crate::tracker) fn next_lookup(&mut self, now_ns: u64) -> Option<Lookup> {
        self.waiting.next_lookup(now_ns)
    }

    /// Takes what the kernel's table says of a connection, and returns its release if that is the
    /// end of its FIN_WAIT2.
    pub(in crate::tracker) fn on_lookup(
        &mut self,
        id: u64,
        now_ns: u64,
        looked: TimewaitStatus,
    ) -> Option<Release> {
        let (outcome, since_ns) = match looked {
            TimewaitStatus::FinWait2 | TimewaitStatus::Unknown => {
                self.waiting.look_again(id);
                return None;
            }
            TimewaitStatus::TimeWait { since_ns } => (ReleaseOutcome::TimeWait, since_ns),
            TimewaitStatus::Gone => (ReleaseOutcome::Gone, None),
        };
        let waiting = self.waiting.remove(id)?;
        let peer_fin = since_ns
            .and_then(|since| Moment::new(now_ns.saturating_sub(since)))
            // The kernel counts it in jiffies.
            .map(|fin| fin.max(waiting.closed_at));
        let time = Moment::new(now_ns).unwrap_or(Moment::MIN);
        if outcome == ReleaseOutcome::TimeWait {
            let since = peer_fin.unwrap_or(waiting.closed_at);
            let minisocket = waiting.minisocket(None);
            self.in_time_wait
                .enter(minisocket, waiting.endpoints, since);
        } else {
            self.waiting.unknown += 1;
        }
        Some(waiting.released(time, outcome, peer_fin, TimeWaitSource::SockDiag))
    }
}
