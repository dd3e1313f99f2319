//! Which service ports have a label of their own: the bound on what a scrape can grow to.
//!
//! A port earns its label and keeps it for the life of the process; ranking ports anew would make
//! `rate()` lie. Half of the labels go, at their first established connection, to ports that serve:
//! somebody listened there when tcptrace started, or they lie below the ephemeral range. All others
//! are for sustained use: so many connections within an hour, and in the ephemeral range in so many
//! minutes of it, for there any port may be a server's for a moment (passive FTP, tests that listen
//! on port 0). So neither those nor a port scan leave a busy service without one. A port that only
//! fails (a scan, a dead backend) gets none. Everything else is `other`.

use crate::tracker::Role;

/// Ports are numbered from 0 to this.
const PORTS: usize = 1 << 16;
/// No more ports than this can have a label of their own; each costs about 5 KiB.
pub const MAX_PORTS: usize = 1024;
/// Attempts remembered until their port's label is settled.
const MAX_UNSETTLED: usize = 64;
/// Established connections within an hour that earn a port that serves a label.
const CONNECTIONS: u8 = 16;
/// Minutes of an hour with established connections that earn a port of the ephemeral range one.
const MINUTES: u8 = 10;
const MINUTE_NS: u64 = 60 * 1_000_000_000;

/// The use of a port without a label.
#[derive(Clone, Copy, Default)]
struct Use {
    /// The hour that is counted, and the last minute with a connection, since the clock began.
    hour: u32,
    minute: u32,
    connections: u8,
    minutes: u8,
}

impl Use {
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
    /// When each of them was given, on the events' clock.
    since_ns: Vec<u64>,
    limit: usize,
    /// The first port of the ephemeral range.
    ephemeral: u16,
    /// One bit a port that was listened to when tcptrace started.
    served: Vec<u64>,
    uses: Vec<Use>,
    /// One bit a port that has established connections and no label.
    folded: Vec<u64>,
    folded_count: u64,
    unsettled: Vec<Unsettled>,
}

impl Ports {
    /// No label is given out yet but those of `fixed`; when there are any, no other ever is.
    pub(super) fn new(max: usize, fixed: &[u16], ephemeral: u16) -> Self {
        let mut ports = Self {
            slots: vec![0; PORTS],
            labels: Vec::new(),
            since_ns: Vec::new(),
            limit: MAX_PORTS,
            ephemeral,
            served: vec![0; PORTS / 64],
            uses: vec![Use::default(); PORTS],
            folded: vec![0; PORTS / 64],
            folded_count: 0,
            unsettled: Vec::with_capacity(MAX_UNSETTLED),
        };
        for &port in fixed {
            if port != 0 && ports.slot(Some(port)) == Slot::OTHER {
                ports.give_label(port, 0);
            }
        }
        ports.limit = if fixed.is_empty() {
            max.min(MAX_PORTS)
        } else {
            ports.labels.len()
        };
        let more = ports.limit.saturating_sub(ports.labels.len());
        ports.labels.reserve_exact(more);
        ports.since_ns.reserve_exact(more);
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

    /// Where an established connection is counted: what was established before its port got its
    /// label stays where it is.
    pub(super) fn slot_since(&self, port: Option<u16>, established_ns: Option<u64>) -> Slot {
        let slot = self.slot(port);
        let labelled = slot.index().checked_sub(Slot::UNLABELLED);
        match labelled.and_then(|label| self.since_ns.get(label)) {
            Some(since) if established_ns.is_some_and(|time| time < *since) => Slot::OTHER,
            _ => slot,
        }
    }

    /// Somebody listens at a port, and did when tcptrace started.
    pub(super) fn serve(&mut self, port: u16) {
        set(&mut self.served, port);
    }

    fn serves(&self, port: u16) -> bool {
        port < self.ephemeral || is_set(&self.served, port)
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
        time_ns: u64,
        mut moved: impl FnMut(Role, u64),
    ) -> Option<Slot> {
        if self.slot(Some(port)) != Slot::OTHER {
            return None;
        }
        if !self.earns(port, time_ns) {
            if set(&mut self.folded, port) {
                self.folded_count += 1;
            }
            return None;
        }
        self.unsettled.retain(|known| {
            if known.port == port {
                moved(known.role, known.attempts);
            }
            known.port != port
        });
        if clear(&mut self.folded, port) {
            self.folded_count -= 1;
        }
        self.give_label(port, time_ns)
    }

    /// Whether a port has earned a label with one connection more.
    fn earns(&mut self, port: u16, time_ns: u64) -> bool {
        if self.labels.len() >= self.limit {
            return false;
        }
        let serves = self.serves(port);
        let used = &mut self.uses[usize::from(port)];
        used.count(time_ns);
        match serves {
            true if self.labels.len() < self.limit.div_ceil(2) => true,
            true => used.connections >= CONNECTIONS,
            false => used.connections >= CONNECTIONS && used.minutes >= MINUTES,
        }
    }

    fn give_label(&mut self, port: u16, time_ns: u64) -> Option<Slot> {
        if self.labels.len() >= self.limit {
            return None;
        }
        // The limit keeps it far below 65,536.
        let slot = u16::try_from(Slot::UNLABELLED + self.labels.len()).ok()?;
        self.labels.push(port);
        self.since_ns.push(time_ns);
        self.slots[usize::from(port)] = slot;
        Some(Slot(slot))
    }
}

fn is_set(bits: &[u64], port: u16) -> bool {
    bits[usize::from(port) / 64] & (1 << (port % 64)) != 0
}

/// Answers whether it was not set before.
fn set(bits: &mut [u64], port: u16) -> bool {
    let before = is_set(bits, port);
    bits[usize::from(port) / 64] |= 1 << (port % 64);
    !before
}

/// Answers whether it was set before.
fn clear(bits: &mut [u64], port: u16) -> bool {
    let before = is_set(bits, port);
    bits[usize::from(port) / 64] &= !(1 << (port % 64));
    before
}

#[cfg(test)]
#[path = "tests/ports.rs"]
mod tests;
