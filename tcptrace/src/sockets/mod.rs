//! Walks over the kernel's sockets in every network namespace that can be found: at the start to
//! learn what exists already, and periodically to compare.
//!
//! A walk runs on a thread of its own while the ring is drained: its sockets come through the ring
//! like any other event.

pub mod levels;
pub mod lookups;
pub mod owners;
mod walk;

use std::{collections::BTreeSet, sync::mpsc::TryRecvError, time::Duration};

use self::walk::{Walk, WalkOutcome, WalkRequest, start};
use crate::{
    feed::name::Name,
    probe::{Hook, Probe, Source},
    tracker::WalkEnd,
    warnings::Warnings,
};

/// The wait after a walk that lost sockets or failed.
const RETRY: Duration = Duration::from_secs(5);
/// The wait from a loss to the walk that corrects it: a walk does not judge sockets in motion, and
/// more may be lost at once.
const AFTER_LOSS: Duration = Duration::from_millis(1_500);
/// No walk is made for a loss for this many times as long as the last one took: a host that keeps
/// losing events must not be busy with walks as well.
const REST: u64 = 19;
enum SurveyState {
    /// The next walk is due then.
    Waiting(u64),
    Walking(Walk),
    /// The walk has ended, but its sockets may still be in the ring.
    Draining(WalkOutcome, u64),
}

/// What the tracker must be told.
#[derive(Debug)]
pub enum WalkStep {
    /// A walk begins; its sockets come through the ring, or in a list at its end.
    Begins { listing: bool },
    /// A walk has ended, and all its sockets were taken from the ring; with the names of the
    /// interfaces in each namespace.
    Ends(WalkEnd, Vec<Name>),
}

/// What is known at a moment.
#[derive(Clone, Copy, Debug)]
pub struct WalkConditions {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub now_ns: u64,
    /// The ring was just found empty.
    pub emptied: bool,
    pub lost: u64,
    pub lost_sockets: u64,
    /// The last walk could not compare some connections: their namespaces were not found.
    pub uncompared: bool,
}

/// Starts walks when they are due, and reports their ends.
pub struct Survey {
    state: SurveyState,
    /// The kernel has no iterator over sockets that can be used.
    listing: bool,
    /// The time between two walks; `None` for walks only at the start and after losses.
    interval: Option<Duration>,
    /// Transitions lost before the last walk began, or since then if a walk is due for them.
    lost: u64,
    began_ns: u64,
    /// No walk is made for a loss before this time.
    rests_until_ns: u64,
    /// What was logged already.
    warnings: Warnings,
}

impl Survey {
    /// The first walk is due at once.
    pub fn new(probe: &Probe, interval: Option<Duration>) -> Self {
        let due = if probe.is_attached(Hook::Sockets) {
            0
        } else {
            u64::MAX
        };
        Self {
            state: SurveyState::Waiting(due),
            listing: probe.source(Hook::Sockets) == Some(Source::SockDiag),
            interval,
            lost: 0,
            began_ns: 0,
            rests_until_ns: 0,
            warnings: Warnings::default(),
        }
    }

    /// The last walk could not compare some connections: another one, which also searches for their
    /// namespaces, is made soon.
    pub fn retry_soon(&mut self, now_ns: u64) {
        if let SurveyState::Waiting(due) = &mut self.state
            && !self.listing
        {
            *due = (*due).min(after(now_ns, RETRY).max(self.rests_until_ns));
        }
    }

    /// Whether a walk is in progress.
    pub const fn is_walking(&self) -> bool {
        !matches!(self.state, SurveyState::Waiting(_))
    }

    /// Returns when the next walk is due.
    pub const fn due_ns(&self) -> Option<u64> {
        match self.state {
            SurveyState::Waiting(due) => Some(due),
            SurveyState::Walking(_) | SurveyState::Draining(..) => None,
        }
    }

    /// Continues, if it can.
    pub fn poll(&mut self, probe: &mut Probe, at: WalkConditions) -> Option<WalkStep> {
        match &mut self.state {
            // It is never due.
            SurveyState::Waiting(u64::MAX) if !probe.is_attached(Hook::Sockets) => None,
            SurveyState::Waiting(due) => {
                if at.lost > self.lost {
                    self.lost = at.lost;
                    let soon = after(at.now_ns, AFTER_LOSS).max(self.rests_until_ns);
                    *due = (*due).min(soon);
                }
                if at.now_ns < *due {
                    return None;
                }
                match start(self.listing, at.uncompared, at.lost_sockets, probe.piece()) {
                    Ok(walk) => {
                        self.began_ns = at.now_ns;
                        self.state = SurveyState::Walking(walk);
                        Some(WalkStep::Begins {
                            listing: self.listing,
                        })
                    }
                    Err(why) => {
                        self.warn(&why);
                        self.state = SurveyState::Waiting(after(at.now_ns, RETRY));
                        None
                    }
                }
            }
            SurveyState::Walking(walk) => {
                // An empty ring has room for a piece, and for what happens meanwhile.
                if walk.waits && at.emptied {
                    walk.waits = false;
                    let _sent = walk.walks.send(Ok(Vec::new()));
                }
                if let Ok(wanted) = walk.wanted.try_recv() {
                    let walks = match wanted {
                        WalkRequest::Walks(count) => {
                            Some((0..count).map(|_| probe.walk()).collect())
                        }
                        WalkRequest::Held => Some(probe.walk_files().map(|walk| vec![walk])),
                        WalkRequest::Room => None,
                    };
                    // If the thread died, its outcome says so.
                    match walks {
                        Some(walks) => drop(walk.walks.send(walks)),
                        None => walk.waits = true,
                    }
                }
                let outcome = match walk.outcome.try_recv() {
                    Err(TryRecvError::Empty) => return None,
                    Ok(outcome) => outcome,
                    Err(TryRecvError::Disconnected) => WalkOutcome {
                        errors: BTreeSet::from(["the thread died".to_owned()]),
                        ..WalkOutcome::default()
                    },
                };
                self.state = SurveyState::Draining(outcome, walk.lost_before);
                None
            }
            SurveyState::Draining(..) if !at.emptied => None,
            SurveyState::Draining(outcome, lost_before) => {
                let complete = *lost_before == at.lost_sockets && !outcome.torn;
                let listed = outcome.listed.take();
                let namespaces = std::mem::take(&mut outcome.namespaces);
                let interfaces = std::mem::take(&mut outcome.interfaces);
                let (held, torn) = (outcome.held, outcome.torn);
                for why in std::mem::take(&mut outcome.errors) {
                    self.warn(&why);
                }
                if !complete && !torn {
                    self.warn("the ring was too small for them beside what happened meanwhile: give a larger --ring-size");
                }
                let took = at.now_ns.saturating_sub(self.began_ns);
                self.rests_until_ns = at.now_ns.saturating_add(took.saturating_mul(REST));
                let rest = if complete && !namespaces.is_empty() {
                    self.interval
                } else {
                    Some(RETRY)
                };
                self.state =
                    SurveyState::Waiting(rest.map_or(u64::MAX, |rest| after(at.now_ns, rest)));
                let end = WalkEnd {
                    namespaces,
                    held,
                    complete,
                    listed,
                };
                Some(WalkStep::Ends(end, interfaces))
            }
        }
    }

    fn warn(&mut self, why: &str) {
        self.warnings
            .warn(format!("not all existing sockets could be listed: {why}"));
    }
}

fn after(now_ns: u64, rest: Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX))
}
