//! Which ports and cgroups have a label of their own: the limit on the size of a scrape.
//!
//! A label is earned, and kept for the life of the process; ranking again would break `rate()`.
//! Half of the labels go, at their first established connection, to what is permanent: what existed
//! when tcptrace started, or kinds that do not come and go. All others need steady use: so many
//! connections within an hour, and for what is not permanent in so many of its minutes. So neither
//! a port scan nor thousands of short-lived containers leave a busy service without a label. What
//! only fails (a scan, a dead backend) gets none. Everything else is `other`.

use crate::tracker::Role;

/// How many attempts are remembered until their label is settled.
pub(super) const MAX_UNSETTLED: usize = 64;
/// How many established connections within an hour earn a label.
pub(super) const CONNECTIONS: u8 = 16;
/// In how many minutes of that hour, for what is not permanent.
pub(super) const MINUTES: u8 = 10;
const MINUTE_NS: u64 = 60 * 1_000_000_000;

/// The use of something without a label.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LabelUse {
    /// The current hour, and the last minute with a connection, since the clock began.
    hour: u32,
    minute: u32,
    connections: u8,
    minutes: u8,
}

impl LabelUse {
    fn count(&mut self, time_ns: u64) {
        let minute = u32::try_from(time_ns / MINUTE_NS).unwrap_or(u32::MAX);
        if self.hour != minute / 60 {
            *self = Self {
                hour: minute / 60,
                ..Self::default()
            };
        }
        if self.minutes == 0 || self.minute != minute {
            self.minutes = self.minutes.saturating_add(1);
            self.minute = minute;
        }
        self.connections = self.connections.saturating_add(1);
    }
}

/// Where something is counted: an index of the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

impl Slot {
    /// Everything without a label.
    pub(super) const OTHER: Self = Self(0);
    /// Connections whose port or cgroup is not known.
    pub(super) const UNKNOWN: Self = Self(1);
    /// How many slots there are before the first label.
    pub(super) const UNLABELLED: usize = 2;

    /// Returns the index of its cells.
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// Whether it belongs to one label.
    pub(super) const fn is_labelled(self) -> bool {
        self.index() >= Self::UNLABELLED
    }
}

/// An attempt without a label, counted as `other` and not scraped since.
struct Unsettled<K> {
    role: Role,
    key: K,
    attempts: u64,
}

/// The labels given out.
pub(super) struct Labels<K> {
    limit: usize,
    given: Vec<K>,
    /// When each was given, on the events' clock.
    since_ns: Vec<u64>,
    unsettled: Vec<Unsettled<K>>,
}

impl<K: Clone + PartialEq> Labels<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            given: Vec::with_capacity(limit),
            since_ns: Vec::with_capacity(limit),
            unsettled: Vec::with_capacity(MAX_UNSETTLED),
        }
    }

    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Returns the owners of labels, in the order of their slots.
    pub(super) fn assigned(&self) -> &[K] {
        &self.given
    }

    /// Whether none is left.
    pub(super) fn are_used_up(&self) -> bool {
        self.given.len() >= self.limit
    }

    /// Gives out a label, if one is left.
    pub(super) fn assign(&mut self, key: K, time_ns: u64) -> Option<Slot> {
        if self.are_used_up() {
            return None;
        }
        // The limit keeps it far below 65,536.
        let slot = u16::try_from(Slot::UNLABELLED + self.given.len()).ok()?;
        self.given.push(key);
        self.since_ns.push(time_ns);
        Some(Slot(slot))
    }

    /// Returns where an established connection is counted: one established before its label was
    /// given stays where it was.
    pub(super) fn since(&self, slot: Slot, established_ns: Option<u64>) -> Slot {
        let label = slot.index().checked_sub(Slot::UNLABELLED);
        match label.and_then(|label| self.since_ns.get(label)) {
            Some(since) if established_ns.is_some_and(|time| time < *since) => Slot::OTHER,
            _ => slot,
        }
    }

    /// Whether one more connection earns a label.
    pub(super) fn earns(&self, used: &mut LabelUse, stands: bool, time_ns: u64) -> bool {
        if self.are_used_up() {
            return false;
        }
        used.count(time_ns);
        match stands {
            true if self.given.len() < self.limit.div_ceil(2) => true,
            true => used.connections >= CONNECTIONS,
            false => used.connections >= CONNECTIONS && used.minutes >= MINUTES,
        }
    }

    /// Remembers an attempt counted as `other`, which may still get a label.
    pub(super) fn remember_attempt(&mut self, role: Role, key: &K) {
        if self.are_used_up() {
            return;
        }
        if let Some(known) = self.find_unsettled(role, key) {
            self.unsettled[known].attempts += 1;
        } else if self.unsettled.len() < MAX_UNSETTLED {
            self.unsettled.push(Unsettled {
                role,
                key: key.clone(),
                attempts: 1,
            });
        }
    }

    /// Forgets an attempt that failed: it stays `other`.
    pub(super) fn forget_attempt(&mut self, role: Role, key: &K) {
        if let Some(known) = self.find_unsettled(role, key) {
            self.unsettled[known].attempts -= 1;
            if self.unsettled[known].attempts == 0 {
                self.unsettled.swap_remove(known);
            }
        }
    }

    /// A scrape has shown the attempts that are `other` now: they can no longer move.
    pub(super) fn settle_attempts(&mut self) {
        self.unsettled.clear();
    }

    /// Removes the attempts remembered for a key, and passes them to `moved`.
    pub(super) fn take_attempts(&mut self, key: &K, mut moved: impl FnMut(Role, u64)) {
        self.unsettled.retain(|known| {
            if known.key == *key {
                moved(known.role, known.attempts);
            }
            known.key != *key
        });
    }

    #[cfg(test)]
    pub(super) fn unsettled_len(&self) -> usize {
        self.unsettled.len()
    }

    fn find_unsettled(&self, role: Role, key: &K) -> Option<usize> {
        self.unsettled
            .iter()
            .position(|known| known.role == role && known.key == *key)
    }
}
