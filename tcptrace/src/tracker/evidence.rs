//! When the silence of a hook is evidence: while it was attached, and none of its events were lost.
//! Otherwise its silence means nothing.

use super::config::Sources;
use crate::feed::item::{EventKind, EvidenceHook};
use crate::tracker::vocabulary::Moment;

/// How many events had been lost at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CoverageStart {
    since: Moment,
    lost: LostCounts,
}

/// Counts of lost events; those of unknown kind count for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct LostCounts {
    resets: u64,
    timewaits: u64,
}

/// When a hook is attached, nanoseconds of the events' clock.
#[derive(Clone, Copy, Debug)]
struct Window {
    from: u64,
    until: u64,
}

/// When each hook was attached, and what was lost.
#[derive(Debug)]
pub(super) struct HookCoverage {
    /// By [`EvidenceHook`].
    windows: [Option<Window>; EvidenceHook::ALL.len()],
    lost: LostCounts,
}

impl HookCoverage {
    /// Assumes every hook of `sources` attached before the first event.
    pub(super) fn new(sources: Sources) -> Self {
        let window = |witness| {
            sources.has(witness).then_some(Window {
                from: 0,
                until: u64::MAX,
            })
        };
        Self {
            windows: std::array::from_fn(|index| window(EvidenceHook::ALL[index])),
            lost: LostCounts::default(),
        }
    }

    /// A hook was attached or detached.
    pub(super) fn set(&mut self, witness: EvidenceHook, attached: bool, time_ns: u64) {
        let window = &mut self.windows[witness as usize];
        if attached {
            *window = Some(Window {
                from: time_ns,
                until: u64::MAX,
            });
        } else if let Some(window) = window {
            window.until = window.until.min(time_ns);
        }
    }

    pub(super) fn lose(&mut self, kind: Option<EventKind>, events: u64) {
        let LostCounts { resets, timewaits } = &mut self.lost;
        if matches!(kind, None | Some(EventKind::Reset)) {
            *resets = resets.saturating_add(events);
        }
        if matches!(kind, None | Some(EventKind::Timewait)) {
            *timewaits = timewaits.saturating_add(events);
        }
    }

    /// Returns what has been lost so far, for [`Self::would_have_seen`].
    pub(super) const fn starting_at(&self, since: Moment) -> CoverageStart {
        CoverageStart {
            since,
            lost: self.lost,
        }
    }

    /// Whether a hook would have reported what happened between `heard` and `until_ns`.
    pub(super) fn would_have_seen(
        &self,
        witness: EvidenceHook,
        heard: Option<CoverageStart>,
        until_ns: u64,
    ) -> bool {
        heard.is_some_and(|heard| {
            let nothing_lost = match witness {
                EvidenceHook::ResetReceived | EvidenceHook::ResetSent => {
                    heard.lost.resets == self.lost.resets
                }
                EvidenceHook::Timewait | EvidenceHook::TimewaitStep => {
                    heard.lost.timewaits == self.lost.timewaits
                }
                // A SYN that was missed only leaves a handshake without a time.
                EvidenceHook::Syn => true,
            };
            nothing_lost && self.is_attached(witness, heard.since.get(), until_ns)
        })
    }

    /// Whether a hook was attached during the whole interval.
    pub(super) fn is_attached(&self, witness: EvidenceHook, from_ns: u64, until_ns: u64) -> bool {
        self.windows[witness as usize]
            .is_some_and(|window| window.from <= from_ns && until_ns < window.until)
    }
}
