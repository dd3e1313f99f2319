//! Counts by cgroup.

use super::{
    exposition::Exposition,
    host::{Host, NETWORK},
};
use crate::{
    feed::{event::CloseFields, names::Name},
    metrics::{Metrics, MetricsConfig},
    tracker::Item,
};

const ATTEMPTS: &str = "tcptrace_cgroup_connection_attempts_total";
const ESTABLISHED: &str = "tcptrace_cgroup_connections_established_total";
const FAILURES: &str = "tcptrace_cgroup_handshake_failures_total";
const CLOSED: &str = "tcptrace_cgroup_connections_closed_total";
const BYTES: &str = "tcptrace_cgroup_closed_connection_bytes_total";

fn host_with(max_cgroups: usize) -> Host {
    let mut host = Host::new();
    host.metrics = Metrics::new(&MetricsConfig {
        max_cgroups,
        ..MetricsConfig::default()
    });
    for (id, path) in [(1, "/web"), (2, "/say \"hi\"\n"), (3, "/db")] {
        let path = path.to_owned();
        host.tracker.take(&Item::Name(Name::Cgroup { id, path }));
    }
    host
}

/// A connection of a cgroup that carries something, and an attempt that fails.
fn visit(host: &mut Host, cgroup: Option<u64>) {
    host.cgroup = cgroup;
    let fields = CloseFields {
        bytes_sent: 10,
        bytes_acked: 10,
        bytes_received: 20,
        ..CloseFields::default()
    };
    let mut socket = host.active(NETWORK, 443);
    host.establish(&mut socket, 0);
    host.close(&mut socket, fields);
    let mut failing = host.active(NETWORK, 443);
    host.close(&mut failing, CloseFields::default());
}

#[test]
fn the_first_cgroups_have_labels_and_the_rest_are_counted_together() {
    let mut host = host_with(2);
    for cgroup in [Some(1), Some(1), Some(2), Some(3), Some(4), None] {
        visit(&mut host, cgroup);
    }
    host.settle();
    let shown = Exposition::of(&mut host);
    // Found no label; not known by name.
    for (label, count) in [
        ("/web", 2),
        ("/say \\\"hi\\\"\\n", 1),
        ("other", 1),
        ("unknown", 2),
    ] {
        let of = |name, more: &[(&str, &str)]| {
            let labels = [&[("cgroup", label)], more].concat();
            shown.sum(name, &labels)
        };
        assert_eq!(of(ATTEMPTS, &[("role", "active")]), 2 * count, "{label}");
        assert_eq!(of(ESTABLISHED, &[]), count, "{label}");
        assert_eq!(of(FAILURES, &[]), count, "{label}");
        assert_eq!(of(CLOSED, &[]), count, "{label}");
        assert_eq!(of(BYTES, &[("direction", "received")]), 20 * count);
    }
    for (by_cgroup, by_port) in [
        (ATTEMPTS, "tcptrace_connection_attempts_total"),
        (ESTABLISHED, "tcptrace_connections_established_total"),
        (FAILURES, "tcptrace_handshake_failures_total"),
        (CLOSED, "tcptrace_connections_closed_total"),
        (BYTES, "tcptrace_closed_connection_bytes_total"),
    ] {
        assert_eq!(shown.sum(by_cgroup, &[]), shown.sum(by_port, &[]));
    }
}

#[test]
fn nobody_is_shown_by_cgroup_who_did_not_ask() {
    let mut host = host_with(0);
    visit(&mut host, Some(1));
    host.settle();
    let shown = Exposition::of(&mut host);
    assert!(
        ![ATTEMPTS, ESTABLISHED, FAILURES, CLOSED, BYTES]
            .into_iter()
            .any(|name| shown.has(name))
    );
}
