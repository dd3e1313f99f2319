//! connect() calls that fail inside the call. One that fails before SYN_SENT makes no transition;
//! one that fails in SYN_SENT is told twice, by its transitions and by the call's result.

use std::collections::VecDeque;

use super::vocabulary::{Moment, Origin};
use crate::feed::event::{ConnectFailure, Endpoints};

/// The longest time from SYN_SENT→CLOSE to the end of the same call: nothing in between waits.
const CALL_NS: u64 = 1_000_000_000;
/// The most results waited for.
const WAITING: usize = 256;

/// An attempt that ended inside its call.
struct Attempt {
    socket: u64,
    ended: Moment,
    endpoints: Option<Endpoints>,
}

/// The attempts whose call has not returned yet.
#[derive(Default)]
pub(super) struct Connects {
    waiting: VecDeque<Attempt>,
}

impl Connects {
    /// Waits for the result of the call in which an attempt ended.
    pub(super) fn await_result(&mut self, at: Origin, endpoints: Option<Endpoints>) {
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Attempt {
            socket: at.socket,
            ended: at.time,
            endpoints,
        });
    }

    /// Whether a call's result belongs to an attempt that has ended.
    pub(super) fn is_awaited(&mut self, at: Origin, failure: &ConnectFailure) -> bool {
        let Some(place) = self
            .waiting
            .iter()
            .position(|attempt| attempt.socket == at.socket)
        else {
            return false;
        };
        self.waiting.remove(place).is_some_and(|attempt| {
            let remote = |ends: &Endpoints| (ends.remote_address, ends.remote_port);
            let is_the_same = attempt
                .endpoints
                .is_some_and(|ends| remote(&ends) == remote(&failure.endpoints));
            is_the_same && at.time.get().saturating_sub(attempt.ended.get()) < CALL_NS
        })
    }
}
