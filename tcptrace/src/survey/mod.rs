//! Walks over the kernel's sockets in every network namespace that can be found: at the start to
//! learn what was there before, and on a slow timer to compare.
//!
//! The walk runs on a thread of its own while the ring is being drained: its sockets come through
//! the ring like any other event.

pub mod diag;
pub mod levels;
pub mod lookups;

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

/// After a walk that something was lost of, or that failed.
const RETRY: Duration = Duration::from_secs(5);

/// What the thread did.
struct Outcome {
    namespaces: HashSet<u32>,
    /// What went wrong, each once.
    errors: BTreeSet<String>,
}

/// A walk under way, on its thread.
struct Walk {
    /// The namespaces found, so many.
    found: Receiver<Result<usize, String>>,
    /// A walk for each of them.
    walks: Option<Sender<Vec<SocketWalk>>>,
    outcome: Receiver<Outcome>,
    /// What had been lost when it began.
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

/// Begins walks when they are due, and tells when they are over.
pub struct Survey {
    state: State,
    /// Between two walks; `None` when only the first one is wanted.
    interval: Option<Duration>,
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

    /// Goes on, if it can. `emptied` says that the ring was found empty just now, and `lost` how
    /// many events were lost so far.
    pub fn poll(
        &mut self,
        probe: &mut Probe,
        now_ns: u64,
        emptied: bool,
        lost: u64,
    ) -> Option<Step> {
        match &mut self.state {
            State::Waiting(due) if now_ns < *due => None,
            State::Waiting(_) => {
                match start() {
                    Ok(walk) => self.state = State::Walking(walk),
                    Err(why) => self.fail(now_ns, &why),
                }
                None
            }
            State::Walking(walk) => {
                if let Some(walks) = &walk.walks {
                    return match walk.found.try_recv() {
                        Err(TryRecvError::Empty) => None,
                        Err(TryRecvError::Disconnected) => {
                            self.fail(now_ns, "the thread that looks for namespaces died");
                            None
                        }
                        Ok(Err(why)) => {
                            self.fail(now_ns, &why);
                            None
                        }
                        Ok(Ok(count)) => {
                            match (0..count).map(|_| probe.walk()).collect() {
                                Ok(made) => {
                                    walk.lost_before = lost;
                                    // If it died, its outcome says so.
                                    let _sent = walks.send(made);
                                    walk.walks = None;
                                    Some(Step::Begins)
                                }
                                Err(why) => {
                                    self.fail(now_ns, &why);
                                    None
                                }
                            }
                        }
                    };
                }
                match walk.outcome.try_recv() {
                    Err(TryRecvError::Empty) => {}
                    Ok(outcome) => {
                        self.state = State::Draining(outcome, walk.lost_before);
                    }
                    Err(TryRecvError::Disconnected) => {
                        let died = Outcome {
                            namespaces: HashSet::new(),
                            errors: BTreeSet::from(["its thread died".to_owned()]),
                        };
                        self.state = State::Draining(died, walk.lost_before);
                    }
                }
                None
            }
            State::Draining(..) if !emptied => None,
            State::Draining(outcome, lost_before) => {
                let complete = *lost_before == lost;
                let namespaces = std::mem::take(&mut outcome.namespaces);
                for why in std::mem::take(&mut outcome.errors) {
                    self.complain(&why);
                }
                let after = if complete { self.interval } else { Some(RETRY) };
                self.wait(now_ns, after);
                Some(Step::Ends(WalkEnd {
                    namespaces,
                    complete,
                }))
            }
        }
    }

    fn wait(&mut self, now_ns: u64, after: Option<Duration>) {
        let due = after.map_or(u64::MAX, |after| {
            let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            now_ns.saturating_add(nanos)
        });
        self.state = State::Waiting(due);
    }

    fn fail(&mut self, now_ns: u64, why: &str) {
        self.complain(why);
        self.wait(now_ns, Some(self.interval.unwrap_or(RETRY)));
    }

    fn complain(&mut self, why: &str) {
        if self.said.len() < 100 && self.said.insert(why.to_owned()) {
            tracing::warn!("the sockets that are there could not all be listed: {why}");
        }
    }
}

fn start() -> Result<Walk, String> {
    let (found_to, found) = channel();
    let (walks, walks_from) = channel();
    let (outcome_to, outcome) = channel();
    thread::Builder::new()
        .name("survey".to_owned())
        .spawn(move || walk_all(&found_to, &walks_from, &outcome_to))
        .map_err(|error| format!("starting its thread: {error}"))?;
    Ok(Walk {
        found,
        walks: Some(walks),
        outcome,
        lost_before: 0,
    })
}

/// The thread. Whoever started it may be gone at any moment: then there is nothing to do.
fn walk_all(
    found_to: &Sender<Result<usize, String>>,
    walks_from: &Receiver<Vec<SocketWalk>>,
    outcome_to: &Sender<Outcome>,
) {
    let namespaces = match namespaces::find() {
        Ok(found) => found.namespaces,
        Err(error) => {
            let _sent = found_to.send(Err(format!("looking for network namespaces: {error}")));
            return;
        }
    };
    let _sent = found_to.send(Ok(namespaces.len()));
    let Ok(walks) = walks_from.recv() else {
        return;
    };
    let mut outcome = Outcome {
        namespaces: HashSet::new(),
        errors: BTreeSet::new(),
    };
    for (namespace, walk) in namespaces.iter().zip(walks) {
        match walk_one(namespace, walk) {
            Ok(()) => {
                outcome.namespaces.insert(namespace.inode);
            }
            Err(why) => {
                outcome.errors.insert(why);
            }
        }
    }
    let _sent = outcome_to.send(outcome);
}

fn walk_one(namespace: &Namespace, walk: SocketWalk) -> Result<(), String> {
    namespace
        .enter(|| walk.run())
        .map_err(|error| format!("entering a network namespace: {error}"))?
}
