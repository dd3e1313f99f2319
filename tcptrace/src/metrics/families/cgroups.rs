//! The families by cgroup.

use super::family::Family;
use crate::{
    metrics::{
        cells::{DIRECTIONS, verdict_index},
        scrape::Scrape,
    },
    tracker::Verdict,
};

pub(super) fn families(scrape: &Scrape) -> Vec<Family> {
    let mut attempts = Family::counter(
        "tcptrace_cgroup_connection_attempts_total",
        &["cgroup", "role"],
        "Connections that began, by the cgroup in which the socket was made; for an accepted connection, the listener's. \
         other: a cgroup without a label of its own (--metrics.cgroups). unknown: its path is not known. \
         none: its path has no such part (--metrics.cgroup-label).",
    );
    let mut established = Family::counter(
        "tcptrace_cgroup_connections_established_total",
        &["cgroup", "role"],
        "Attempts that became ESTABLISHED.",
    );
    let mut failures = Family::counter(
        "tcptrace_cgroup_handshake_failures_total",
        &["cgroup", "role", "verdict"],
        "Attempts that ended before ESTABLISHED, by verdict.",
    );
    let mut closed = Family::counter(
        "tcptrace_cgroup_connections_closed_total",
        &["cgroup", "role", "verdict"],
        "Established connections that ended, by verdict.",
    );
    let mut bytes = Family::counter(
        "tcptrace_cgroup_closed_connection_bytes_total",
        &["cgroup", "direction", "role"],
        "Payload of established connections that ended, over their whole life, without retransmissions.",
    );
    let mut retransmits = Family::counter(
        "tcptrace_cgroup_closed_connection_retransmits_total",
        &["cgroup", "role"],
        "Segments retransmitted by established connections that ended, over their whole life, SYNs included.",
    );
    for cells in &scrape.cgroups {
        let cgroup = &*cells.label;
        for (role, cell) in cells.seen() {
            let labels = [cgroup, role.name()];
            attempts.add_count(&labels, cell.attempts);
            established.add_count(&labels, cell.established);
            for &verdict in Verdict::ALL {
                let labels = [cgroup, role.name(), verdict.name()];
                let index = verdict_index(verdict);
                if cell.failures[index] > 0 {
                    failures.add_count(&labels, cell.failures[index]);
                }
                if cell.closed[index] > 0 {
                    closed.add_count(&labels, cell.closed[index]);
                }
            }
            if scrape.reads_sockets() {
                for (index, direction) in DIRECTIONS.into_iter().enumerate() {
                    bytes.add_count(&[cgroup, direction, role.name()], cell.bytes[index]);
                }
                retransmits.add_count(&labels, cell.retransmits);
            }
        }
    }
    let mut folded = Family::gauge(
        "tcptrace_cgroups_folded",
        &[],
        "Cgroup labels with established connections but no series of their own, counted as cgroup=\"other\"; the 16,384 newest are remembered.",
    );
    if let Some(count) = scrape.cgroups_folded {
        folded.add_count(&[], count);
    }
    vec![
        attempts,
        established,
        failures,
        closed,
        bytes,
        retransmits,
        folded,
    ]
}
