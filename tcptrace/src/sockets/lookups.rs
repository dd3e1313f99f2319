//! Looks up what became of timewait sockets in the kernel's table, when functions cannot be traced:
//! exact lookups on a thread of their own, a bounded number per second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::mpsc::{Receiver, Sender, channel},
};

use tcptrace_common::TcpState;

use crate::{
    clock,
    feed::event::NetnsId,
    host::netns::{self, Namespace},
    privileges,
    sock_diag::{Diag, Tuple},
    tracker::{Lookup, TimewaitStatus},
    warnings::Warnings,
};

/// The most lookups per second: each takes the kernel about ten microseconds.
pub const PER_SECOND: usize = 500;
/// After a search for other namespaces, none follows for this many times as long.
const FIND_REST: u64 = 100;
/// TCP_TIMEWAIT_LEN, milliseconds.
const TIMEWAIT_MS: u32 = 60_000;

#[derive(Clone, Copy, Debug)]
pub struct LookupAnswer {
    pub id: u64,
    /// When it was asked, on the events' clock.
    pub time_ns: u64,
    pub looked: TimewaitStatus,
}

/// The thread's ends: requests to it, and replies from it.
type LookupThread = (Sender<Vec<Lookup>>, Receiver<Vec<LookupAnswer>>);

/// The lookup thread, started when first needed.
#[derive(Default)]
pub struct Lookups {
    thread: Option<LookupThread>,
    asking: bool,
    /// When the next batch may begin.
    next_ns: u64,
}

impl Lookups {
    /// Sends the lookups that are due, from `next`, if a batch may begin.
    pub fn send_due(&mut self, now_ns: u64, mut next: impl FnMut() -> Option<Lookup>) {
        if self.asking || now_ns < self.next_ns {
            return;
        }
        let batch: Vec<_> = std::iter::from_fn(&mut next).take(PER_SECOND).collect();
        if batch.is_empty() {
            return;
        }
        self.next_ns = now_ns.saturating_add(1_000_000_000);
        if self.thread.is_none() {
            self.thread = start();
        }
        if let Some((to, _)) = &self.thread {
            self.asking = to.send(batch).is_ok();
        }
    }

    /// Passes the replies that have come to `take`.
    pub fn drain(&mut self, mut take: impl FnMut(LookupAnswer)) {
        let Some((_, from)) = &self.thread else {
            return;
        };
        while let Ok(answers) = from.try_recv() {
            self.asking = false;
            answers.into_iter().for_each(&mut take);
        }
    }
}

fn start() -> Option<LookupThread> {
    let (to, batches) = channel::<Vec<Lookup>>();
    let (answers, from) = channel();
    let started = privileges::spawn("lookups", move || {
        let mut table = SocketTable::default();
        while let Ok(batch) = batches.recv() {
            if answers.send(table.lookup_all(&batch)).is_err() {
                return;
            }
        }
    });
    match started {
        Ok(_) => Some((to, from)),
        Err(error) => {
            tracing::warn!("timewait sockets are not looked up: cannot start the thread: {error}");
            None
        }
    }
}

/// The kernel's table, by network namespace.
#[derive(Default)]
struct SocketTable {
    own: Option<(NetnsId, Diag)>,
    /// Other namespaces, found last. A namespace lives as long as it is open here, so they are
    /// closed after each batch.
    others: BTreeMap<NetnsId, Diag>,
    /// When they may be searched for again.
    next_find_ns: u64,
    warnings: Warnings,
}

impl SocketTable {
    fn lookup_all(&mut self, batch: &[Lookup]) -> Vec<LookupAnswer> {
        if self.own.is_none() {
            self.open_own();
        }
        self.open_others(batch);
        let answers = batch.iter().map(|lookup| self.lookup(lookup)).collect();
        self.others.clear();
        answers
    }

    fn open_own(&mut self) {
        let opened = Namespace::own()
            .map_err(|error| error.to_string())
            .and_then(|own| Ok((own.id, Diag::here().map_err(|error| error.to_string())?)));
        match opened {
            Ok(own) => self.own = Some(own),
            Err(why) => self.warn(&why),
        }
    }

    fn open_others(&mut self, batch: &[Lookup]) {
        let own = self.own.as_ref().map(|(id, _)| *id);
        let wanted: BTreeSet<NetnsId> = batch
            .iter()
            .filter_map(|lookup| lookup.endpoints.netns)
            .filter(|&netns| Some(netns) != own)
            .collect();
        let start = clock::monotonic_ns();
        if wanted.is_empty() || start < self.next_find_ns {
            return;
        }
        let found = netns::find(|namespace| {
            if wanted.contains(&namespace.id)
                && let Ok(diag) = Diag::open(&namespace)
            {
                self.others.insert(namespace.id, diag);
            }
        });
        let now = clock::monotonic_ns();
        self.next_find_ns = now + (now - start) * FIND_REST;
        if let Err(error) = found {
            self.warn(&error.to_string());
        }
    }

    fn lookup(&mut self, lookup: &Lookup) -> LookupAnswer {
        let netns = lookup.endpoints.netns;
        let diag = match &mut self.own {
            Some((own, diag)) if Some(*own) == netns => Some(diag),
            Some(_) | None => netns.and_then(|netns| self.others.get_mut(&netns)),
        };
        let looked = match diag {
            Some(diag) => match diag.lookup(&Tuple::from(&lookup.endpoints), lookup.cookie) {
                Ok(Some(socket)) if socket.state == TcpState::TimeWait => {
                    TimewaitStatus::TimeWait {
                        since_ns: Some(
                            u64::from(TIMEWAIT_MS.saturating_sub(socket.expires_ms)) * 1_000_000,
                        ),
                    }
                }
                Ok(Some(socket))
                    if socket.state == TcpState::FinWait2 && socket.is_minisocket() =>
                {
                    TimewaitStatus::FinWait2
                }
                // Another connection has its place by now.
                Ok(Some(_)) => TimewaitStatus::Gone,
                Ok(None) => TimewaitStatus::Gone,
                Err(error) => {
                    self.warn(&error.to_string());
                    TimewaitStatus::Unknown
                }
            },
            None => TimewaitStatus::Unknown,
        };
        LookupAnswer {
            id: lookup.id,
            time_ns: clock::monotonic_ns(),
            looked,
        }
    }

    fn warn(&mut self, why: &str) {
        self.warnings
            .warn(format!("timewait sockets cannot be looked up: {why}"));
    }
}
