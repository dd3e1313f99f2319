//! Walks over the kernel's sockets in every network namespace that can be found: at the start to
//! learn what was there before, and on a slow timer to compare.
//!
//! The walk runs on a thread of its own while the ring is being drained: its sockets come through
//! the ring like any other event.

pub mod diag;
pub mod levels;
pub mod lookups;
pub mod owners;

use std::{
    collections::BTreeSet,
    sync::mpsc::{Receiver, Sender, TryRecvError, channel},
    thread,
    time::Duration,
};

use hashbrown::HashSet;

use crate::{
    probe::{Hook, Probe, SocketWalk},
    survey::diag::namespaces::{self, Namespace},
    tracker::WalkEnd,
};

/// After a walk that lost sockets, or that failed.
const RETRY: Duration = Duration::from_secs(5);
/// From a loss to the walk that mends it: a walk does not judge what it finds in motion, and more may be
/// lost at once.
const AFTER_LOSS: Duration = Duration::from_millis(1_500);
/// Walks asked for at a time: each is an open file, of which a process has few.
const BATCH: usize = 32;

/// What the thread did.
#[derive(Default)]
struct Outcome {
    namespaces: HashSet<u32>,
    /// What went wrong, each once.
    errors: BTreeSet<String>,
}

/// A walk under way, on its thread.
struct Walk {
    /// So many walks are wanted.
    wanted: Receiver<usize>,
    walks: Sender<Result<Vec<SocketWalk>, String>>,
    outcome: Receiver<Outcome>,
    /// The sockets that had been lost when it began.
    lost_before: u64,
}

/// Where it stands.
enum State {
    /// The next one is due then.
    Waiting(u64),
    Walking(Walk),
    /// It is over, but what it found may still be in the ring.
    Draining(Outcome, u64),
}

/// What the tracker has to be told.
#[derive(Debug)]
pub enum Step {
    /// A walk begins.
    Begins,
    /// It is over, and all its sockets were taken from the ring.
    Ends(WalkEnd),
}

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub now_ns: u64,
    /// The ring was found empty just now.
    pub emptied: bool,
    /// Events lost so far.
    pub lost: u64,
    /// Of those, sockets of a walk.
    pub lost_sockets: u64,
}

/// Begins walks when they are due, and tells when they are over.
pub struct Survey {
    state: State,
    /// Between two walks; `None` when none is wanted but at the start and after losses.
    interval: Option<Duration>,
    /// Events lost before the last walk began, or since and a walk is due for them.
    lost: u64,
    /// Complained of already.
    said: BTreeSet<String>,
}

impl Survey {
    /// The first walk is due at once. None is made when the kernel has no iterator over sockets.
    #[must_use]
    pub fn new(probe: &Probe, interval: Option<Duration>) -> Self {
        let due = if probe.is_attached(Hook::Sockets) {
            0
        } else {
            u64::MAX
        };
        Self {
            state: State::Waiting(due),
            interval,
            lost: 0,
            said: BTreeSet::new(),
        }
    }

    /// A walk is under way.
    #[must_use]
    pub const fn is_walking(&self) -> bool {
        !matches!(self.state, State::Waiting(_))
    }

    /// When the next walk is due.
    #[must_use]
    pub const fn due_ns(&self) -> Option<u64> {
        match self.state {
            State::Waiting(due) => Some(due),
            State::Walking(_) | State::Draining(..) => None,
        }
    }

    /// Goes on, if it can.
    pub fn poll(&mut self, probe: &mut Probe, at: Moment) -> Option<Step> {
        match &mut self.state {
            // Without an iterator it is never due.
            State::Waiting(u64::MAX) if !probe.is_attached(Hook::Sockets) => None,
            State::Waiting(due) => {
                if at.lost > self.lost {
                    self.lost = at.lost;
                    *due = (*due).min(after(at.now_ns, AFTER_LOSS));
                }
                if at.now_ns < *due {
                    return None;
                }
                match start(at.lost_sockets) {
                    Ok(walk) => {
                        self.state = State::Walking(walk);
                        Some(Step::Begins)
                    }
                    Err(why) => {
                        self.complain(&why);
                        self.state = State::Waiting(after(at.now_ns, RETRY));
                        None
                    }
                }
            }
            State::Walking(walk) => {
                if let Ok(count) = walk.wanted.try_recv() {
                    // If the thread died, its outcome says so.
                    let _sent = walk.walks.send((0..count).map(|_| probe.walk()).collect());
                }
                let outcome = match walk.outcome.try_recv() {
                    Err(TryRecvError::Empty) => return None,
                    Ok(outcome) => outcome,
                    Err(TryRecvError::Disconnected) => Outcome {
                        errors: BTreeSet::from(["the thread died".to_owned()]),
                        ..Outcome::default()
                    },
                };
                self.state = State::Draining(outcome, walk.lost_before);
                None
            }
            State::Draining(..) if !at.emptied => None,
            State::Draining(outcome, lost_before) => {
                let complete = *lost_before == at.lost_sockets;
                let namespaces = std::mem::take(&mut outcome.namespaces);
                for why in std::mem::take(&mut outcome.errors) {
                    self.complain(&why);
                }
                let rest = if complete && !namespaces.is_empty() {
                    self.interval
                } else {
                    Some(RETRY)
                };
                self.state = State::Waiting(rest.map_or(u64::MAX, |rest| after(at.now_ns, rest)));
                Some(Step::Ends(WalkEnd {
                    namespaces,
                    complete,
                }))
            }
        }
    }

    fn complain(&mut self, why: &str) {
        if self.said.len() < 100 && self.said.insert(why.to_owned()) {
            tracing::warn!("the sockets that are there could not all be listed: {why}");
        }
    }
}

fn after(now_ns: u64, rest: Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX))
}

fn start(lost_before: u64) -> Result<Walk, String> {
    let (wanted_to, wanted) = channel();
    let (walks, walks_from) = channel();
    let (outcome_to, outcome) = channel();
    thread::Builder::new()
        .name("survey".to_owned())
        .spawn(move || {
            let outcome = walk_all(&wanted_to, &walks_from);
            // Whoever started it may be gone at any moment: then there is nothing to do.
            let _sent = outcome_to.send(outcome);
        })
        .map_err(|error| format!("starting its thread: {error}"))?;
    Ok(Walk {
        wanted,
        walks,
        outcome,
        lost_before,
    })
}

/// The thread. One namespace is open at a time.
fn walk_all(
    wanted_to: &Sender<usize>,
    walks_from: &Receiver<Result<Vec<SocketWalk>, String>>,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut walks = Vec::new();
    let mut next = || -> Result<SocketWalk, String> {
        if walks.is_empty() {
            let gone = |_| "the tracer ends";
            wanted_to.send(BATCH).map_err(|_| gone(()))?;
            walks = walks_from.recv().map_err(|_| gone(()))??;
        }
        walks.pop().ok_or_else(|| "there is no walk".to_owned())
    };
    let found =
        namespaces::find(
            |namespace| match next().and_then(|walk| walk_one(&namespace, walk)) {
                Ok(()) => {
                    outcome.namespaces.insert(namespace.inode);
                }
                Err(why) => {
                    outcome.errors.insert(why);
                }
            },
        );
    if let Err(error) = found {
        let why = format!("looking for network namespaces: {error}");
        outcome.errors.insert(why);
    }
    outcome
}

fn walk_one(namespace: &Namespace, walk: SocketWalk) -> Result<(), String> {
    namespace
        .enter(|| walk.run())
        .map_err(|error| format!("entering a network namespace: {error}"))?
}
