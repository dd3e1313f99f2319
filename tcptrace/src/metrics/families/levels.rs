//! What the last poll found in the kernel's own tables.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tcptrace_common::TcpState;

use super::family::Family;
use crate::{
    metrics::scrape::Scrape,
    sockets::levels::{COUNTERS, Queue},
};

/// The names and helps of [`COUNTERS`].
const SNMP: [(&str, &str); COUNTERS.len()] = [
    (
        "tcptrace_time_wait_overflow_total",
        "Connections that did not enter TIME_WAIT, because tcp_max_tw_buckets was reached or memory was short (TCPTimeWaitOverflow).",
    ),
    (
        "tcptrace_listen_overflows_total",
        "Handshakes not completed because the accept queue was full (ListenOverflows).",
    ),
    (
        "tcptrace_listen_drops_total",
        "SYNs and final ACKs that a listener dropped, for any reason (ListenDrops).",
    ),
    (
        "tcptrace_syn_queue_drops_total",
        "SYNs dropped because too many handshakes were in progress (TCPReqQFullDrop).",
    ),
    (
        "tcptrace_syn_cookies_sent_total",
        "SYN cookies sent (SyncookiesSent).",
    ),
];

pub(super) fn families(scrape: &Scrape) -> Vec<Family> {
    let Some(levels) = &scrape.context.levels else {
        return Vec::new();
    };
    let mut sockets = Family::gauge(
        "tcptrace_kernel_sockets",
        &["state"],
        "TCP sockets of the kernel by state, in all network namespaces found; FIN_WAIT2_MINISOCKET are timewait sockets that wait for the peer's FIN and are not yet in TIME_WAIT.",
    );
    for state in TcpState::ALL {
        if !matches!(state, TcpState::Close | TcpState::NewSynRecv) {
            let count = levels.sockets.get(&state).copied().unwrap_or(0);
            sockets.add_count(&[state.name()], count);
        }
    }
    sockets.add_count(&["FIN_WAIT2_MINISOCKET"], levels.fin_wait2_minisockets);
    let mut families = vec![sockets, polled(levels.time)];
    for ((name, help), count) in SNMP.into_iter().zip(levels.counters) {
        let mut counter = Family::counter(name, &[], help);
        counter.add_count(&[], count);
        families.push(counter);
    }
    for (name, help, value) in [
        (
            "tcptrace_time_wait_limit",
            "tcp_max_tw_buckets: how many timewait sockets a network namespace can have, in the namespace with the fewest.",
            levels.time_wait_limit,
        ),
        (
            "tcptrace_ephemeral_ports",
            "How many ports ip_local_port_range has, in the namespace with the fewest.",
            levels.ephemeral_ports,
        ),
        (
            "tcptrace_ephemeral_ports_in_use_max",
            "Ephemeral ports in use, TIME_WAIT included, between one local address and one destination: for the pair with the most.",
            Some(levels.ephemeral_in_use),
        ),
    ] {
        let mut gauge = Family::gauge(name, &[], help);
        if let Some(value) = value {
            gauge.add_count(&[], value);
        }
        families.push(gauge);
    }
    families.extend(queues(&levels.queues, &scrape.labels));
    families
}

fn polled(time: Timestamp) -> Family {
    let mut polled = Family::gauge(
        "tcptrace_kernel_poll_timestamp_seconds",
        &[],
        "When the kernel's socket tables were last read (--poll-interval).",
    );
    polled.add(&[], time.as_duration().as_secs_f64());
    polled
}

/// By port label; `other` is the fullest queue of all ports without one.
fn queues(queues: &BTreeMap<u16, Queue>, labels: &[u16]) -> Vec<Family> {
    let mut length = Family::gauge(
        "tcptrace_listener_accept_queue_length",
        &["port"],
        "Connections that wait for accept(), at the port's listener nearest to its limit.",
    );
    let mut limit = Family::gauge(
        "tcptrace_listener_accept_queue_limit",
        &["port"],
        "How many connections may wait at that listener (the backlog of listen(), at most somaxconn).",
    );
    let mut add = |port: &str, queue: &Queue| {
        length.add_count(&[port], queue.length.into());
        limit.add_count(&[port], queue.limit.into());
    };
    let mut other: Option<&Queue> = None;
    for (port, queue) in queues {
        if labels.contains(port) {
            add(&port.to_string(), queue);
        } else if other.is_none_or(|other| queue.is_fuller(other)) {
            other = Some(queue);
        }
    }
    if let Some(other) = other {
        add("other", other);
    }
    vec![length, limit]
}
