//! SYNs by port label.

use std::collections::HashMap;

use super::labels::Slot;
use crate::metrics::port_labels::PortLabels;
use crate::probe::SynCounts;

/// SYNs as a scrape shows them.
#[derive(Clone, Debug, Default)]
pub(super) struct ShownSyns {
    /// Of the labelled ports that had any.
    pub(super) labelled: Vec<(u16, u64)>,
    /// Of all other ports.
    pub(super) other: u64,
    pub(super) evicted: u64,
}

/// What was shown of them: the kernel side counts by port, and a port may get its label later.
#[derive(Default)]
pub(super) struct Syns {
    /// What a scrape showed as `other`, by port; it stays there, because a counter that was shown
    /// cannot fall.
    as_other: HashMap<u16, u64>,
}

impl Syns {
    /// Returns what a scrape shows.
    pub(super) fn show(&mut self, counts: &SynCounts, ports: &PortLabels) -> ShownSyns {
        let mut shown = ShownSyns {
            evicted: counts.evicted,
            ..ShownSyns::default()
        };
        for &(port, count) in &counts.by_port {
            if ports.slot(Some(port)) == Slot::OTHER {
                self.as_other.insert(port, count);
                shown.other += count;
            } else {
                let before = self.as_other.get(&port).copied().unwrap_or(0);
                shown.other += before;
                shown.labelled.push((port, count.saturating_sub(before)));
            }
        }
        shown
    }
}
