//! The families of one series without labels.

use super::family::Family;
use crate::metrics::scrape::Scrape;

/// A family: name, help, and its value; without a value it is absent.
type SingleFamily = (&'static str, &'static str, fn(&Scrape) -> Option<u64>);

const COUNTERS: [SingleFamily; 9] = [
    (
        "tcptrace_connections_seeded_total",
        "Connections first seen after their handshake: open before the trace, or their beginning was lost.",
        |scrape| Some(scrape.cells.seeded),
    ),
    (
        "tcptrace_series_folded_total",
        "Counts made as port=\"other\" though the port has a label, because the labelled ports had used up their series.",
        |scrape| Some(scrape.cells.pool_exhausted),
    ),
    (
        "tcptrace_syns_evicted_total",
        "SYNs whose time was dropped for newer ones before their handshakes ended or two minutes passed: those handshakes are not measured.",
        |scrape| Some(scrape.syns.as_ref()?.evicted),
    ),
    (
        "tcptrace_time_wait_unknown_total",
        "Established connections that ended without showing whether they entered TIME_WAIT: events were lost, there were too many to look up, or there may have been no room for it.",
        |scrape| {
            scrape
                .reads_sockets()
                .then_some(scrape.context.tracker.stats.time_wait_unknown)
        },
    ),
    (
        "tcptrace_time_wait_unwatched_total",
        "Connections in TIME_WAIT that are no longer followed for lack of room: a RST or a new connection in their place is not reported.",
        |scrape| {
            scrape
                .reads_sockets()
                .then_some(scrape.context.tracker.stats.time_waits_evicted)
        },
    ),
    (
        "tcptrace_tracker_gaps_total",
        "Connections with a missing event.",
        |scrape| Some(scrape.context.tracker.stats.gaps),
    ),
    (
        "tcptrace_tracker_transitions_total",
        "Transitions that reached the tracker: when nothing happens, the kernel's minus those lost.",
        |scrape| Some(scrape.context.tracker.stats.transitions),
    ),
    (
        "tcptrace_web_connections_evicted_total",
        "Idle connections to this web server that were closed to make room for new ones.",
        |scrape| Some(scrape.web_connections?.evicted),
    ),
    (
        "tcptrace_web_connections_rejected_total",
        "Connections to this web server that were closed at once, because it had too many and all were busy.",
        |scrape| Some(scrape.web_connections?.rejected),
    ),
];

const GAUGES: [SingleFamily; 4] = [
    (
        "tcptrace_config_last_reload_successful",
        "Whether the last configuration reload succeeded (SIGHUP, or a change of --web.config.file); after a failure the previous configuration stays in use.",
        |scrape| Some(u64::from(!scrape.context.reload_failed)),
    ),
    (
        "tcptrace_ports_folded",
        "Service ports with established connections that have no label of their own and count as port=\"other\".",
        |scrape| Some(scrape.ports_folded),
    ),
    (
        "tcptrace_tracker_limit",
        "How many connections the tracker can hold.",
        |scrape| Some(scrape.context.tracker.limit),
    ),
    (
        "tcptrace_tracker_uncompared",
        "Connections that the last comparison could not judge: their network namespace was not walked, and is not known to be gone.",
        |scrape| Some(scrape.context.tracker.drift.as_ref()?.uncompared),
    ),
];

pub(super) fn families(scrape: &Scrape) -> Vec<Family> {
    let kinds = [
        (&COUNTERS[..], Family::counter as fn(_, _, _) -> Family),
        (&GAUGES[..], Family::gauge),
    ];
    let mut families = Vec::new();
    for (singles, new) in kinds {
        for &(name, help, value) in singles {
            let mut family = new(name, &[], help);
            if let Some(count) = value(scrape) {
                family.add_count(&[], count);
            }
            families.push(family);
        }
    }
    families
}
