//! Which service ports have a label of their own: the bound on what a scrape can grow to.
//!
//! The first ports seen with an established connection get a label and keep it for the life of
//! the process; ranking them anew would make `rate()` lie. A port that only fails (a scan, a
//! dead backend) gets none. Everything else is `other`.

use crate::tracker::Role;

/// Ports are numbered from 0 to this.
const PORTS: usize = 1 << 16;
/// No more ports than this can have a label of their own; each costs about 5 KiB.
pub const MAX_PORTS: usize = 1024;
/// Attempts remembered until their port's label is settled.
const MAX_UNSETTLED: usize = 64;

/// Where a port is counted: an index of the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

impl Slot {
    /// Ports without a label.
    pub(super) const OTHER: Self = Self(0);
    /// Connections whose service port is not known.
    pub(super) const UNKNOWN: Self = Self(1);
    /// How many slots there are before the first label.
    pub(super) const UNLABELLED: usize = 2;

    /// The index of its cells.
    pub(super) const fn index(self) -> usize {
        self.0 as usize
    }

    /// It is one port's own.
    pub(super) const fn is_labelled(self) -> bool {
        self.index() >= Self::UNLABELLED
    }
}

/// An attempt to a port without a label, counted as `other` and not scraped since.
struct Unsettled {
    role: Role,
    port: u16,
    attempts: u64,
}

/// Which ports have labels.
pub(super) struct Ports {
    /// By port; 0 is [`Slot::OTHER`].
    slots: Vec<u16>,
    labels: Vec<u16>,
    limit: usize,
    /// One bit a port that has established connections and no label.
    folded: Vec<u64>,
    folded_count: u64,
    unsettled: Vec<Unsettled>,
}

impl Ports {
    /// No label is given out yet but those of `fixed`; when there are any, no other ever is.
    pub(super) fn new(max: usize, fixed: &[u16]) -> Self {
        let mut ports = Self {
            slots: vec![0; PORTS],
            labels: Vec::new(),
            limit: MAX_PORTS,
            folded: vec![0; PORTS / 64],
            folded_count: 0,
            unsettled: Vec::with_capacity(MAX_UNSETTLED),
        };
        for &port in fixed {
            if port != 0 && ports.slot(Some(port)) == Slot::OTHER {
                ports.give_label(port);
            }
        }
        ports.limit = if fixed.is_empty() {
            max.min(MAX_PORTS)
        } else {
            ports.labels.len()
        };
        ports
            .labels
            .reserve_exact(ports.limit.saturating_sub(ports.labels.len()));
        ports
    }

    /// How many labels there can be.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// The ports that have labels, in the order of their slots.
    pub(super) fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Distinct ports with established connections and without a label.
    pub(super) const fn folded(&self) -> u64 {
        self.folded_count
    }

    /// Where a port is counted now.
    pub(super) fn slot(&self, port: Option<u16>) -> Slot {
        port.map_or(Slot::UNKNOWN, |port| Slot(self.slots[usize::from(port)]))
    }

    /// An attempt was counted as `other`, and its port may yet get a label.
    pub(super) fn remember_attempt(&mut self, role: Role, port: u16) {
        if self.labels.len() >= self.limit {
            return;
        }
        if let Some(known) = self.find_unsettled(role, port) {
            self.unsettled[known].attempts += 1;
        } else if self.unsettled.len() < MAX_UNSETTLED {
            self.unsettled.push(Unsettled {
                role,
                port,
                attempts: 1,
            });
        }
    }

    /// An attempt that may have been remembered is over: it stays `other`.
    pub(super) fn forget_attempt(&mut self, role: Role, port: u16) {
        if let Some(known) = self.find_unsettled(role, port) {
            self.unsettled[known].attempts -= 1;
            if self.unsettled[known].attempts == 0 {
                self.unsettled.swap_remove(known);
            }
        }
    }

    /// Whatever is `other` now was shown as such and can no longer move.
    pub(super) fn settle_attempts(&mut self) {
        self.unsettled.clear();
    }

    fn find_unsettled(&self, role: Role, port: u16) -> Option<usize> {
        self.unsettled
            .iter()
            .position(|known| known.role == role && known.port == port)
    }

    /// A connection to `port` is established. Answers the slot of the label when it gets one by
    /// that; `moved` then hears which attempts, counted as `other`, are its own.
    pub(super) fn on_established(
        &mut self,
        port: u16,
        mut moved: impl FnMut(Role, u64),
    ) -> Option<Slot> {
        if self.slot(Some(port)) != Slot::OTHER {
            return None;
        }
        if self.labels.len() >= self.limit {
            self.fold(port);
            return None;
        }
        self.unsettled.retain(|known| {
            if known.port == port {
                moved(known.role, known.attempts);
            }
            known.port != port
        });
        self.give_label(port)
    }

    fn give_label(&mut self, port: u16) -> Option<Slot> {
        if self.labels.len() >= self.limit {
            return None;
        }
        // The limit keeps it far below 65,536.
        let slot = u16::try_from(Slot::UNLABELLED + self.labels.len()).ok()?;
        self.labels.push(port);
        self.slots[usize::from(port)] = slot;
        Some(Slot(slot))
    }

    fn fold(&mut self, port: u16) {
        let word = &mut self.folded[usize::from(port) / 64];
        let bit = 1 << (port % 64);
        if *word & bit == 0 {
            *word |= bit;
            self.folded_count += 1;
        }
    }
}

#[cfg(test)]
#[path = "tests/ports.rs"]
mod tests;
