//! Counts of connections: attempts, opens, failures, ends and what they carried.

use std::collections::BTreeMap;

use super::family::Family;
use crate::{
    metrics::{
        cells::{
            CLOSERS, DIRECTIONS, HANDSHAKE_SOURCES, RECEIVED, RoleCells, SENT, role_index,
            verdict_index,
        },
        scrape::Scrape,
    },
    probe::Hook,
    tracker::{ClosedBy, HandshakeSource, Role, Verdict, errno},
};

/// The cells of one role at one port label, with the labels' values.
pub(super) struct LabelledCells<'a> {
    pub(super) role: Role,
    pub(super) port: &'a str,
    pub(super) cells: &'a RoleCells,
}

impl Scrape {
    /// Calls `take` with each role and port label that has counts.
    pub(super) fn for_each_port(&self, mut take: impl FnMut(&LabelledCells<'_>)) {
        let unlabelled = ["other", "unknown"].map(str::to_owned);
        let labels = self.labels.iter().map(ToString::to_string);
        let ports = unlabelled.into_iter().chain(labels);
        for (port, cells) in ports.zip(self.cells.ports()) {
            for &role in Role::ALL {
                let cells = &cells[role_index(role)];
                if cells.seen {
                    let port = &port;
                    take(&LabelledCells { role, port, cells });
                }
            }
        }
    }
}

pub(super) fn families(scrape: &Scrape) -> Vec<Family> {
    let mut families = opens(scrape);
    families.extend(ends(scrape));
    if scrape.reads_sockets() {
        families.extend(retransmits(scrape));
        families.extend(carried(scrape));
        families.push(time_waits(scrape));
    }
    families.push(resets(scrape));
    families.extend(syns(scrape));
    families
}

fn opens(scrape: &Scrape) -> Vec<Family> {
    let mut attempts = Family::counter(
        "tcptrace_connection_attempts_total",
        &["role", "port"],
        "Connections that began: connect() called (active), or a listener completed a handshake (passive). \
         port is the service's; the sum over ports is established + failed + pending + evicted for lack of room.",
    );
    let mut established = Family::counter(
        "tcptrace_connections_established_total",
        &["role", "port"],
        "Attempts that became ESTABLISHED.",
    );
    let mut measured = Family::counter(
        "tcptrace_handshakes_measured_total",
        &["role", "source"],
        "Established connections by the source of the handshake's time; source=\"none\" if it is not known.",
    );
    scrape.for_each_port(|at| {
        // A connection first seen after its handshake is no attempt.
        if at.cells.attempts > 0 || at.role == Role::Active || at.role == Role::Passive {
            attempts.add_count(&[at.role.name(), at.port], at.cells.attempts);
        }
        if at.cells.established > 0 || at.role == Role::Active || at.role == Role::Passive {
            established.add_count(&[at.role.name(), at.port], at.cells.established);
        }
    });
    for &role in Role::ALL {
        let by_source = scrape.cells.measured[role_index(role)];
        for (source, count) in HANDSHAKE_SOURCES.into_iter().zip(by_source) {
            if count > 0 || (source.is_none() && role != Role::Unknown) {
                measured.add_count(
                    &[role.name(), source.map_or("none", HandshakeSource::name)],
                    count,
                );
            }
        }
    }
    vec![attempts, established, measured]
}

fn ends(scrape: &Scrape) -> Vec<Family> {
    let mut failures = Family::counter(
        "tcptrace_handshake_failures_total",
        &["role", "port", "verdict"],
        "Attempts that ended before ESTABLISHED, by verdict.",
    );
    let mut closed = Family::counter(
        "tcptrace_connections_closed_total",
        &["role", "port", "verdict", "closed_by"],
        "Established connections that ended, by verdict and by who closed them: the side whose FIN came first, or without a FIN, the side that sent the RST or aborted; closed_by=\"none\" if unknown.",
    );
    scrape.for_each_port(|at| {
        for &verdict in Verdict::ALL {
            let index = verdict_index(verdict);
            let count = at.cells.failures[index];
            if count > 0 {
                failures.add_count(&[at.role.name(), at.port, verdict.name()], count);
            }
            for (closed_by, count) in CLOSERS.into_iter().zip(at.cells.closed[index]) {
                if count > 0 {
                    let closer = closed_by.map_or("none", ClosedBy::name);
                    let labels = [at.role.name(), at.port, verdict.name(), closer];
                    closed.add_count(&labels, count);
                }
            }
        }
    });
    let mut connects = Family::counter(
        "tcptrace_connect_failures_total",
        &["errno"],
        "connect() calls that failed before SYN_SENT, by the errno that the application got: no route, a policy, no local address. They also count as failed attempts.",
    );
    let mut by_name = BTreeMap::<_, u64>::new();
    for (errno, count) in (0..).zip(scrape.cells.connect_failures) {
        if count > 0 {
            *by_name.entry(errno::name(errno)).or_default() += count;
        }
    }
    for (name, count) in by_name {
        connects.add_count(&[&name], count);
    }
    let connects = scrape.source(Hook::Connect).map(|_| connects);
    [failures, closed].into_iter().chain(connects).collect()
}

fn retransmits(scrape: &Scrape) -> Vec<Family> {
    let by_listener = scrape.source(Hook::RetransmitSynack).is_some();
    let mut syn = Family::counter(
        "tcptrace_syn_retransmits_total",
        &["role", "port"],
        "SYN retransmits, counted when the handshake ends.",
    );
    let mut synack = Family::counter(
        "tcptrace_synack_retransmits_total",
        &["role", "port"],
        if by_listener {
            "SYN-ACK retransmits, counted at the listener as they are sent: a handshake that hangs shows here."
        } else {
            "SYN-ACKs sent again, of handshakes that were completed."
        },
    );
    scrape.for_each_port(|at| match at.role {
        Role::Active | Role::Simultaneous => {
            syn.add_count(&[at.role.name(), at.port], at.cells.syn_retransmits);
        }
        Role::Passive => {
            let count = if by_listener {
                at.cells.synack_retransmits
            } else {
                at.cells.syn_retransmits
            };
            synack.add_count(&[at.role.name(), at.port], count);
        }
        // Their owner is not known.
        Role::Unknown => {}
    });
    vec![syn, synack]
}

fn carried(scrape: &Scrape) -> Vec<Family> {
    let labels = &["direction", "role", "port"];
    let mut bytes = Family::counter(
        "tcptrace_closed_connection_bytes_total",
        labels,
        "Payload of established connections that ended, over their whole life, without retransmissions.",
    );
    let mut segments = Family::counter(
        "tcptrace_closed_connection_segments_total",
        labels,
        "Segments of established connections that ended, over their whole life, with SYNs, FINs and bare ACKs.",
    );
    let mut retransmits = Family::counter(
        "tcptrace_closed_connection_retransmits_total",
        labels,
        "Segments retransmitted by established connections that ended, over their whole life, SYNs included.",
    );
    scrape.for_each_port(|at| {
        for (index, direction) in DIRECTIONS.into_iter().enumerate() {
            let labels = [direction, at.role.name(), at.port];
            bytes.add_count(&labels, at.cells.bytes[index]);
            segments.add_count(&labels, at.cells.segments[index]);
        }
        // What the peer retransmitted cannot be told from what it sent.
        let labels = [DIRECTIONS[SENT], at.role.name(), at.port];
        retransmits.add_count(&labels, at.cells.retransmits);
    });
    vec![bytes, segments, retransmits]
}

/// Returns the counts of SYNs, if they are seen: more of them than established connections means
/// handshakes that hang.
fn syns(scrape: &Scrape) -> Option<Family> {
    let seen = scrape.syns.as_ref()?;
    let mut received = Family::counter(
        "tcptrace_syns_received_total",
        &["port"],
        "SYNs that began a handshake at a listener, without SYN retransmits, SYN cookies and Fast Open. What exceeds tcptrace_connections_established_total{role=\"passive\"} was not completed, or is not yet.",
    );
    for &(port, count) in &seen.labelled {
        received.add_count(&[&port.to_string()], count);
    }
    received.add_count(&["other"], seen.other);
    Some(received)
}

fn resets(scrape: &Scrape) -> Family {
    let mut resets = Family::counter(
        "tcptrace_resets_total",
        &["direction", "reason"],
        "RSTs that the kernel sent, by its own reason (reason=\"none\" before Linux 6.10), and RSTs received that it acted on (reason=\"none\"). A direction whose hook is not attached is absent.",
    );
    let cells = &scrape.cells;
    if scrape.source(Hook::ReceiveReset).is_some() || cells.resets_received > 0 {
        resets.add_count(&[DIRECTIONS[RECEIVED], "none"], cells.resets_received);
    }
    let sent = DIRECTIONS[SENT];
    if scrape.source(Hook::SendReset).is_some() || cells.resets_unexplained > 0 {
        resets.add_count(&[sent, "none"], cells.resets_unexplained);
    }
    let names = &scrape.context.reset_reasons;
    for (reason, &count) in (0_u32..).zip(&cells.resets_sent) {
        if count > 0 {
            let number = reason.to_string();
            let name = names.get(&reason).map_or(number.as_str(), String::as_str);
            resets.add_count(&[sent, name], count);
        }
    }
    resets
}

fn time_waits(scrape: &Scrape) -> Family {
    let mut time_waits = Family::counter(
        "tcptrace_time_wait_entered_total",
        &["role", "port"],
        "Connections known to have entered TIME_WAIT: from the timewait socket's allocation, or where that cannot be seen, from the full socket's flags and from lookups in the kernel's table.",
    );
    scrape.for_each_port(|at| {
        if at.cells.time_wait > 0 || at.role == Role::Active || at.role == Role::Passive {
            time_waits.add_count(&[at.role.name(), at.port], at.cells.time_wait);
        }
    });
    time_waits
}
