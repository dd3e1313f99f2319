//! The tracer: what it holds, what it lost, how it is attached.

use std::collections::BTreeMap;

use tcptrace_common::TcpState;

use super::family::Family;
use crate::{
    feed::item::EventKind,
    metrics::scrape::Scrape,
    probe::{LOST_EVENTS, ProgramMisses, SKIPPED_EVENTS, state_name},
    tracker::{Role, Step, is_synchronized},
};

pub(super) fn families(scrape: &Scrape) -> Vec<Family> {
    let mut families = vec![
        connections(scrape),
        close_wait(scrape),
        state_transitions(scrape),
        lost(scrape),
        hooks(scrape),
        detachments(scrape),
    ];
    families.extend(tracker(scrape));
    families.extend(misses(scrape));
    families.extend(runs(scrape));
    families
}

fn misses(scrape: &Scrape) -> [Family; 2] {
    let mut misses = Family::counter(
        "tcptrace_program_misses_total",
        &["program"],
        "Runs of an eBPF program that the kernel skipped (Linux 5.12 and newer).",
    );
    let mut recovered = Family::counter(
        "tcptrace_program_recovered_total",
        &["program"],
        "Skipped runs of a program (tcptrace_program_misses_total) that its second copy made up for.",
    );
    // They come in no particular order.
    let by_program: BTreeMap<&str, &ProgramMisses> = scrape
        .context
        .misses
        .iter()
        .map(|misses| (misses.program.as_str(), misses))
        .collect();
    for (program, of) in by_program {
        misses.add_count(&[program], of.misses);
        if let Some(count) = of.recovered {
            recovered.add_count(&[program], count);
        }
    }
    [misses, recovered]
}

fn runs(scrape: &Scrape) -> [Family; 2] {
    let mut runs = Family::counter(
        "tcptrace_program_runs_total",
        &["program"],
        "Runs of an eBPF program while the kernel counted them (--program-stats).",
    );
    let mut seconds = Family::counter(
        "tcptrace_program_run_seconds_total",
        &["program"],
        "Run time of an eBPF program while the kernel counted it (--program-stats).",
    );
    // They come in no particular order.
    let mut by_program: Vec<_> = scrape.context.runs.iter().collect();
    by_program.sort_by_key(|of| &of.program);
    for of in by_program {
        runs.add_count(&[&of.program], of.runs);
        seconds.add(&[&of.program], of.time.as_secs_f64());
    }
    [runs, seconds]
}

fn connections(scrape: &Scrape) -> Family {
    let mut connections = Family::gauge(
        "tcptrace_connections",
        &["role", "state"],
        "Connections that the tracker holds, by state; in CLOSE are those that wait up to 50 ms for their record.",
    );
    let held: BTreeMap<(Role, TcpState), u64> = scrape
        .context
        .tracker
        .connections
        .iter()
        .map(|&(role, state, count)| ((role, state), count))
        .collect();
    for &role in Role::ALL {
        for state in TcpState::ALL {
            let count = held.get(&(role, state)).copied();
            if let Some(count) = count.or_else(|| is_of_connections(state).then_some(0)) {
                connections.add_count(&[role.name(), state.name()], count);
            }
        }
    }
    connections
}

/// By port label, with every label.
fn close_wait(scrape: &Scrape) -> Family {
    let mut gauge = Family::gauge(
        "tcptrace_close_wait_connections",
        &["port"],
        "Connections that the peer has closed and this host's process has not: they stay until it does.",
    );
    let by_port = &scrape.context.tracker.close_wait;
    let of = |port: Option<u16>| by_port.get(&port).copied().unwrap_or(0);
    let unknown = of(None);
    let mut other = by_port.values().sum::<u64>() - unknown;
    for &port in &scrape.labels {
        let count = of(Some(port));
        other -= count;
        gauge.add_count(&[&port.to_string()], count);
    }
    gauge.add_count(&["other"], other);
    gauge.add_count(&["unknown"], unknown);
    gauge
}

/// Whether a full socket with a connection can be in this state.
const fn is_of_connections(state: TcpState) -> bool {
    match state {
        TcpState::SynSent | TcpState::SynRecv | TcpState::Close => true,
        TcpState::TimeWait | TcpState::Listen | TcpState::NewSynRecv => false,
        TcpState::Established
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::CloseWait
        | TcpState::LastAck
        | TcpState::Closing => is_synchronized(state),
    }
}

fn state_transitions(scrape: &Scrape) -> Family {
    let mut transitions = Family::counter(
        "tcptrace_state_transitions_total",
        &["from", "to"],
        "Transitions of TCP sockets, counted in the kernel: exact even when events are lost, and short only by those \
         for which the kernel ran no program (tcptrace_events_lost_total, skipped).",
    );
    let mut counts = BTreeMap::new();
    for from in TcpState::ALL {
        for to in TcpState::ALL {
            if Step::between(from, to) != Step::Impossible {
                counts.insert((from.raw(), to.raw()), 0);
            }
        }
    }
    for &(from, to, count) in &scrape.context.kernel.transitions {
        *counts.entry((from, to)).or_default() += count;
    }
    for ((from, to), count) in counts {
        transitions.add_count(&[&state_name(from), &state_name(to)], count);
    }
    transitions
}

fn lost(scrape: &Scrape) -> Family {
    let mut lost = Family::counter(
        "tcptrace_events_lost_total",
        &["reason"],
        "Events that never reached the tracker. ring_full (a transition), ring_full_reset and so on: the ring buffer was full. \
         skipped, skipped_reset and so on: the kernel did not run the program, where it counts that. malformed: the event could not be decoded.",
    );
    let kernel = &scrape.context.kernel;
    lost.add_count(&["malformed"], scrape.context.malformed);
    let mut add = |place: &str, kind: EventKind, count| match kind {
        EventKind::Transition => lost.add_count(&[place], count),
        EventKind::Reset
        | EventKind::Accept
        | EventKind::Timewait
        | EventKind::SynackRetransmit
        | EventKind::Seed
        | EventKind::Process
        | EventKind::Handshake
        | EventKind::Connect
        | EventKind::Cgroup => {
            lost.add_count(&[&format!("{place}_{}", kind.name())], count);
        }
    };
    for ((_, kind), count) in LOST_EVENTS.into_iter().zip(kernel.lost_events) {
        add("ring_full", kind, count);
    }
    if !scrape.context.misses.is_empty() {
        for (kind, count) in SKIPPED_EVENTS.into_iter().zip(scrape.context.skipped) {
            add("skipped", kind, count);
        }
    }
    lost
}

fn hooks(scrape: &Scrape) -> Family {
    let mut hooks = Family::gauge(
        "tcptrace_hook_attached",
        &["hook", "source"],
        "1 for an attached hook, with how it is attached; 0 with source=\"none\" otherwise.",
    );
    for status in &scrape.context.hooks {
        match &status.attached {
            Ok(source) => hooks.add(&[status.hook.name(), source.name()], 1.0),
            Err(_) => hooks.add(&[status.hook.name(), "none"], 0.0),
        }
    }
    hooks
}

fn detachments(scrape: &Scrape) -> Family {
    let mut detachments = Family::counter(
        "tcptrace_hook_detachments_total",
        &[],
        "Attached programs that somebody else has detached (bpftool link detach).",
    );
    detachments.add_count(&[], scrape.context.detachments);
    detachments
}

fn tracker(scrape: &Scrape) -> Vec<Family> {
    let stats = &scrape.context.tracker.stats;
    let mut evictions = Family::counter(
        "tcptrace_tracker_evictions_total",
        &["kind"],
        "Connections evicted for lack of room, the ones unchanged for longest first: established ones (connection) and \
         others (attempt).",
    );
    evictions.add_count(&["attempt"], stats.evicted_pending);
    evictions.add_count(&["connection"], stats.evicted);
    let mut anomalies = Family::counter(
        "tcptrace_tracker_anomalies_total",
        &["kind"],
        "Transitions that no kernel path makes (impossible_transition), \
         listeners not held (listener_refused) and ended connections not followed to TIME_WAIT (release_refused) for lack of room.",
    );
    anomalies.add_count(&["impossible_transition"], stats.anomalies);
    anomalies.add_count(&["listener_refused"], stats.listeners_refused);
    anomalies.add_count(&["release_refused"], stats.releases_refused);
    vec![evictions, anomalies, drift(scrape)]
}

fn drift(scrape: &Scrape) -> Family {
    let mut drift = Family::gauge(
        "tcptrace_tracker_drift",
        &["state"],
        "Connections that the tracker held minus those that the kernel had, by state, at the last comparison, which corrected the difference.",
    );
    if let Some(found) = &scrape.context.tracker.drift {
        for state in TcpState::ALL {
            if is_of_connections(state) && state != TcpState::Close {
                let difference = found.by_state.get(&state).copied().unwrap_or(0);
                drift.add(&[state.name()], difference as f64);
            }
        }
    }
    drift
}
