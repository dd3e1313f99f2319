//! Which service ports have a label of their own.
//!
//! A port is permanent (see [`labels`](super::labels)) if it was listened on when tcptrace started,
//! or is below the ephemeral range. In that range any port may serve for a moment (passive FTP,
//! tests that listen on port 0).

use super::labels::{LabelUse, Labels, Slot};
use crate::tracker::Role;

/// How many ports there are, with 0.
const PORTS: usize = 1 << 16;
/// The most ports with a label of their own; each costs about 5 KiB.
pub const MAX_PORTS: usize = 1024;

pub(super) struct PortLabels {
    labels: Labels<u16>,
    /// By port; [`Slot::OTHER`] without a label.
    slots: Vec<Slot>,
    ephemeral: u16,
    /// One bit per port that was listened on when tcptrace started.
    served: Vec<u64>,
    uses: Vec<LabelUse>,
    /// One bit per port that has established connections and no label.
    folded: Vec<u64>,
    folded_count: u64,
}

impl PortLabels {
    /// No labels except those of `fixed`; if there are any, no other is ever given.
    pub(super) fn new(max: usize, fixed: &[u16], ephemeral: u16) -> Self {
        let mut distinct = Vec::with_capacity(fixed.len());
        for &port in fixed {
            if port != 0 && !distinct.contains(&port) {
                distinct.push(port);
            }
        }
        let limit = if distinct.is_empty() {
            max
        } else {
            distinct.len()
        };
        let mut ports = Self {
            labels: Labels::new(limit.min(MAX_PORTS)),
            slots: vec![Slot::OTHER; PORTS],
            ephemeral,
            served: vec![0; PORTS / 64],
            uses: vec![LabelUse::default(); PORTS],
            folded: vec![0; PORTS / 64],
            folded_count: 0,
        };
        for port in distinct {
            ports.give_label(port, 0);
        }
        ports
    }

    pub(super) const fn limit(&self) -> usize {
        self.labels.limit()
    }

    /// Returns the ports with labels, in the order of their slots.
    pub(super) fn labels(&self) -> &[u16] {
        self.labels.assigned()
    }

    /// Returns how many distinct ports have established connections and no label.
    pub(super) const fn folded(&self) -> u64 {
        self.folded_count
    }

    /// Returns where a port is counted now.
    pub(super) fn slot(&self, port: Option<u16>) -> Slot {
        port.map_or(Slot::UNKNOWN, |port| self.slots[usize::from(port)])
    }

    /// Returns where an established connection is counted.
    pub(super) fn slot_since(&self, port: Option<u16>, established_ns: Option<u64>) -> Slot {
        self.labels.since(self.slot(port), established_ns)
    }

    /// Notes a port that was listened on when tcptrace started.
    pub(super) fn add_listening(&mut self, port: u16) {
        set(&mut self.served, port);
    }

    /// Remembers an attempt counted as `other`, whose port may still get a label.
    pub(super) fn remember_attempt(&mut self, role: Role, port: u16) {
        self.labels.remember_attempt(role, &port);
    }

    /// Forgets an attempt that failed: it stays `other`.
    pub(super) fn forget_attempt(&mut self, role: Role, port: u16) {
        self.labels.forget_attempt(role, &port);
    }

    /// A scrape has shown the attempts that are `other` now: they can no longer move.
    pub(super) fn settle_attempts(&mut self) {
        self.labels.settle_attempts();
    }

    /// Counts an established connection to `port`. Returns the slot of the label if it earns one;
    /// `moved` then gets the attempts counted as `other` that belong to it.
    pub(super) fn on_established(
        &mut self,
        port: u16,
        time_ns: u64,
        moved: impl FnMut(Role, u64),
    ) -> Option<Slot> {
        if self.slot(Some(port)) != Slot::OTHER {
            return None;
        }
        let stands = port < self.ephemeral || is_set(&self.served, port);
        let used = &mut self.uses[usize::from(port)];
        if !self.labels.earns(used, stands, time_ns) {
            if set(&mut self.folded, port) {
                self.folded_count += 1;
            }
            return None;
        }
        self.labels.take_attempts(&port, moved);
        if clear(&mut self.folded, port) {
            self.folded_count -= 1;
        }
        self.give_label(port, time_ns)
    }

    fn give_label(&mut self, port: u16, time_ns: u64) -> Option<Slot> {
        let slot = self.labels.assign(port, time_ns)?;
        self.slots[usize::from(port)] = slot;
        Some(slot)
    }
}

fn is_set(bits: &[u64], port: u16) -> bool {
    bits[usize::from(port) / 64] & (1 << (port % 64)) != 0
}

/// Returns whether the bit was clear.
fn set(bits: &mut [u64], port: u16) -> bool {
    let before = is_set(bits, port);
    bits[usize::from(port) / 64] |= 1 << (port % 64);
    !before
}

/// Returns whether the bit was set.
fn clear(bits: &mut [u64], port: u16) -> bool {
    let before = is_set(bits, port);
    bits[usize::from(port) / 64] &= !(1 << (port % 64));
    before
}

#[cfg(test)]
#[path = "tests/ports.rs"]
mod tests;
