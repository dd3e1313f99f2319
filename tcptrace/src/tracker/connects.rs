//! connect() that fails inside the call. Of what ends before SYN_SENT there is no transition; what ends in
//! SYN_SENT is told twice, by its transitions and by the call's result.

use std::collections::VecDeque;

use tcptrace_common::TcpState;

use super::{Tracker, Update, connection::Connection, ended::Ended};
use crate::feed::event::{ConnectFailure, Endpoints};
use crate::tracker::vocabulary::{At, Moment, Process, ProcessSource, Role};

/// From SYN_SENT→CLOSE to the end of the same call at most: nothing in between waits.
const CALL_NS: u64 = 1_000_000_000;
/// Results that are waited for at most.
const WAITING: usize = 256;

/// An attempt that ended inside its call.
struct Attempt {
    socket: u64,
    ended: Moment,
    endpoints: Option<Endpoints>,
}

/// The attempts that ended inside a call whose result was not told yet.
#[derive(Default)]
pub(super) struct Connects {
    waiting: VecDeque<Attempt>,
}

impl Connects {
    /// An attempt ended inside its call.
    pub(super) fn await_result(&mut self, at: At, endpoints: Option<Endpoints>) {
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Attempt {
            socket: at.socket,
            ended: at.time,
            endpoints,
        });
    }

    /// A call's result is that of an attempt that has ended.
    fn is_awaited(&mut self, at: At, failure: &ConnectFailure) -> bool {
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

impl Tracker {
    /// connect() failed inside the call.
    pub(super) fn on_connect_failed(&mut self, at: At, failure: &ConnectFailure) {
        if self.connects.is_awaited(at, failure) {
            if let Some(ended) = self.ended.get_mut(at.socket, at.time) {
                ended.connect = Some(*failure);
            }
            return;
        }
        // The socket is in CLOSE: the end of what it may still be held to have was lost.
        self.give_up_previous(at);
        let id = self.take_id();
        let mut connection = Connection::new(id, at.socket, Role::Active, TcpState::Close);
        // When the call began is not known.
        connection.touched = at.time;
        connection.endpoints = Some(failure.endpoints);
        connection.owner = failure.owner;
        connection.process = Process::new(&failure.task, ProcessSource::Connect);
        connection.learn_names(&self.names);
        self.stats.attempts += 1;
        self.updates.push(Update::Entered(connection.clone()));
        let mut ended = Ended::new(connection, at.time, None);
        ended.connect = Some(*failure);
        self.ended.push(ended);
    }
}
