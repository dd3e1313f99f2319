//! Which port a connection is counted under, and what is shown of a host that tells little.

use tcptrace_common::TcpState::*;

use super::{
    exposition::Exposition,
    host::{Host, LOOPBACK, MS, NETWORK, source},
};
use crate::{
    feed::event::CloseFields,
    metrics::{Metrics, MetricsConfig, families::encode_scrape},
    probe::{Hook, Source, SynCounts},
};

const ATTEMPTS: &str = "tcptrace_connection_attempts_total";
const ESTABLISHED: &str = "tcptrace_connections_established_total";

fn by_port(host: &mut Host, name: &str, port: &str) -> u64 {
    Exposition::of(host).sum(name, &[("port", port)])
}

#[test]
fn the_first_connection_of_a_port_has_its_attempt_with_it() {
    let mut host = Host::new();
    let mut socket = host.active(NETWORK, 443);
    host.establish(&mut socket, 0);
    assert_eq!(by_port(&mut host, ATTEMPTS, "443"), 1);
    assert_eq!(by_port(&mut host, ESTABLISHED, "443"), 1);
    assert_eq!(by_port(&mut host, ATTEMPTS, "other"), 0);
}

#[test]
fn an_attempt_that_was_shown_as_other_stays_there() {
    let mut host = Host::new();
    let mut socket = host.active(NETWORK, 443);
    assert_eq!(by_port(&mut host, ATTEMPTS, "other"), 1);
    host.establish(&mut socket, 0);
    // A counter that was shown does not fall.
    assert_eq!(by_port(&mut host, ATTEMPTS, "other"), 1);
    assert_eq!(by_port(&mut host, ATTEMPTS, "443"), 0);
    assert_eq!(by_port(&mut host, ESTABLISHED, "443"), 1);
}

#[test]
fn a_connection_opened_before_its_port_had_a_label_ends_as_other() {
    // The first two labels are for ports 1 and 2.
    let mut host = Host::with(3, 1 << 18);
    for port in 1..=2 {
        let mut socket = host.active(NETWORK, port);
        host.establish(&mut socket, 0);
    }
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let mut socket = host.active(NETWORK, 443);
        host.establish(&mut socket, 0);
        sockets.push(socket);
    }
    for mut socket in sockets {
        host.close(&mut socket, CloseFields::default());
    }
    host.settle();
    let shown = Exposition::of(&mut host);
    for name in [ATTEMPTS, ESTABLISHED, "tcptrace_connections_closed_total"] {
        // The sixteenth earns it.
        assert_eq!(shown.sum(name, &[("port", "443")]), 5, "{name}");
        assert_eq!(shown.sum(name, &[("port", "other")]), 15, "{name}");
    }
    assert_eq!(shown.value("tcptrace_ports_folded"), Some(0.0));
}

#[test]
fn a_port_that_only_fails_gets_no_label() {
    let mut host = Host::new();
    for port in 1..=1000 {
        let mut socket = host.active(NETWORK, port);
        host.close(&mut socket, CloseFields::default());
    }
    host.settle();
    let mut socket = host.active(NETWORK, 443);
    host.establish(&mut socket, 0);
    let shown = Exposition::of(&mut host);
    let failures = "tcptrace_handshake_failures_total";
    assert_eq!(shown.sum(failures, &[("port", "other")]), 1000);
    assert_eq!(shown.sum(ATTEMPTS, &[("port", "other")]), 1000);
    assert_eq!(shown.sum(ATTEMPTS, &[("port", "443")]), 1);
    assert_eq!(shown.value("tcptrace_ports_folded"), Some(0.0));
}

#[test]
fn the_service_port_is_the_label_never_the_ephemeral_one() {
    let mut host = Host::new();
    let mut client = host.active(NETWORK, 443);
    host.establish(&mut client, 0);
    let mut child = host.passive(NETWORK, 8080);
    host.establish(&mut child, 0);
    let text = encode_scrape(&host.scrape());
    for (role, port) in [("active", 443), ("passive", 8080)] {
        assert!(text.contains(&format!(
            "{ATTEMPTS}{{role=\"{role}\",port=\"{port}\"}} 1\n"
        )));
    }
    assert!(!text.contains("40000"), "{text}");
}

#[test]
fn a_connection_without_a_service_port_is_unknown_not_other() {
    let mut host = Host::new();
    let mut crossed = host.active(NETWORK, 443);
    host.go(&mut crossed, SynRecv);
    host.establish(&mut crossed, 0);
    let mut seeded = host.socket(Established, NETWORK, 40_000, 443);
    host.close(&mut seeded, CloseFields::default());
    host.settle();
    let shown = Exposition::of(&mut host);
    let simultaneous = [("role", "simultaneous"), ("port", "unknown")];
    assert_eq!(shown.sum(ESTABLISHED, &simultaneous), 1);
    let unknown = [("role", "unknown"), ("port", "unknown")];
    assert_eq!(shown.sum("tcptrace_connections_closed_total", &unknown), 1);
    assert_eq!(shown.sum(ESTABLISHED, &[("role", "unknown")]), 0);
    assert_eq!(shown.value("tcptrace_connections_seeded_total"), Some(1.0));
}

#[test]
fn fixed_ports_have_labels_from_the_start_and_no_other_gets_one() {
    let mut host = Host::new();
    host.metrics = Metrics::new(&MetricsConfig {
        max_ports: 16,
        fixed_ports: vec![443, 22],
        ..MetricsConfig::default()
    });
    for port in [80, 443] {
        let mut socket = host.active(NETWORK, port);
        assert_eq!(
            by_port(&mut host, ATTEMPTS, &port.to_string()),
            u64::from(port == 443)
        );
        host.establish(&mut socket, 0);
    }
    let shown = Exposition::of(&mut host);
    assert_eq!(shown.sum(ESTABLISHED, &[("port", "443")]), 1);
    assert_eq!(shown.sum(ESTABLISHED, &[("port", "other")]), 1);
    assert_eq!(shown.value("tcptrace_ports_folded"), Some(1.0));
}

#[test]
fn loopback_handshakes_are_apart() {
    let mut host = Host::new();
    for (peer, ms) in [(NETWORK, 20), (LOOPBACK, 1)] {
        let mut socket = host.active(peer, 443);
        host.now_ns += ms * MS;
        host.establish(&mut socket, 0);
    }
    let shown = Exposition::of(&mut host);
    for (scope, sum) in [("network", 0.020_001), ("loopback", 0.001_001)] {
        let labels = format!("{{role=\"active\",port=\"443\",scope=\"{scope}\"}}");
        let name = "tcptrace_handshake_duration_seconds";
        assert_eq!(shown.value(&format!("{name}_count{labels}")), Some(1.0));
        assert_eq!(shown.value(&format!("{name}_sum{labels}")), Some(sum));
    }
}

#[test]
fn syns_of_a_peer_that_never_answers_are_counted() {
    let mut host = Host::new();
    let mut slow = host.active(NETWORK, 443);
    host.establish(&mut slow, 2);
    let mut dead = host.active(NETWORK, 443);
    let fields = CloseFields {
        error: 110,
        retransmits: 6,
        ..CloseFields::default()
    };
    host.close(&mut dead, fields);
    let mut child = host.passive(NETWORK, 8080);
    host.establish(&mut child, 3);
    host.settle();
    let shown = Exposition::of(&mut host);
    let syns = shown.value("tcptrace_syn_retransmits_total{role=\"active\",port=\"443\"}");
    assert_eq!(syns, Some(8.0));
}

#[test]
fn syn_acks_are_counted_at_the_listener_or_else_when_the_handshake_is_over() {
    let mut host = Host::new();
    let mut child = host.passive(NETWORK, 8080);
    host.establish(&mut child, 3);
    host.settle();
    for _ in 0..5 {
        host.synack_retransmit(&child);
    }
    let name = "tcptrace_synack_retransmits_total{role=\"passive\",port=\"8080\"}";
    assert_eq!(Exposition::of(&mut host).value(name), Some(5.0));
    let mut context = host.context();
    context
        .hooks
        .retain(|status| status.hook != Hook::RetransmitSynack);
    let shown = Exposition::read(&encode_scrape(&host.metrics.scrape(context)));
    assert_eq!(shown.value(name), Some(3.0));
}

#[test]
fn crossed_fins_leave_no_side_half_closed() {
    let mut host = Host::new();
    let mut socket = host.active(NETWORK, 443);
    host.establish(&mut socket, 0);
    for state in [FinWait1, Closing] {
        host.go(&mut socket, state);
    }
    host.close(&mut socket, CloseFields::default());
    host.settle();
    let shown = Exposition::of(&mut host);
    assert_eq!(
        shown.sum("tcptrace_half_closed_duration_seconds_count", &[]),
        0
    );
    let labels = [("verdict", "graceful"), ("closed_by", "simultaneous")];
    assert_eq!(shown.sum("tcptrace_connections_closed_total", &labels), 1);
}

#[test]
fn closed_by_without_a_fin_is_counted_as_in_the_record() {
    let mut host = Host::new();
    let mut socket = host.active(NETWORK, 443);
    host.establish(&mut socket, 0);
    host.reset(&socket, false);
    let fields = CloseFields {
        error: 104,
        ..CloseFields::default()
    };
    host.close(&mut socket, fields);
    host.settle();
    let shown = Exposition::of(&mut host);
    let labels = [("verdict", "reset_received"), ("closed_by", "remote")];
    assert_eq!(shown.sum("tcptrace_connections_closed_total", &labels), 1);
}

#[test]
fn a_metric_without_its_hook_is_missing_not_zero() {
    let mut host = Host::new();
    let mut context = host.context();
    context.hooks = vec![
        source(Hook::SetState, Ok(Source::TracepointOnly)),
        source(Hook::ReceiveReset, Ok(Source::TpBtf)),
        source(Hook::SendReset, Err("no such tracepoint")),
    ];
    let shown = Exposition::read(&encode_scrape(&host.metrics.scrape(context)));
    for name in [
        "tcptrace_syn_retransmits_total",
        "tcptrace_synack_retransmits_total",
        "tcptrace_closed_connection_bytes_total",
        "tcptrace_closed_connection_segments_total",
        "tcptrace_closed_connection_retransmits_total",
        "tcptrace_rtt_seconds_count",
        "tcptrace_resets_total{direction=\"sent\",reason=\"none\"}",
        "tcptrace_time_wait_entered_total",
        "tcptrace_accept_wait_duration_seconds_count",
        "tcptrace_tracker_drift",
        "tcptrace_program_misses_total",
    ] {
        assert!(!shown.has(name), "{name}");
        assert_eq!(shown.value(name), None);
    }
    let received = shown.value("tcptrace_resets_total{direction=\"received\",reason=\"none\"}");
    assert_eq!(received, Some(0.0));
    for (hook, source, value) in [
        ("inet_sock_set_state", "tracepoint_only", 1.0),
        ("tcp_receive_reset", "tp_btf", 1.0),
        ("tcp_send_reset", "none", 0.0),
    ] {
        let series = format!("tcptrace_hook_attached{{hook=\"{hook}\",source=\"{source}\"}}");
        assert_eq!(shown.value(&series), Some(value));
    }
}

#[test]
fn every_loss_is_shown_and_the_kernels_transitions_are_right_nevertheless() {
    let mut host = Host::new();
    let mut socket = host.active(NETWORK, 443);
    host.establish(&mut socket, 0);
    let mut context = host.context();
    context.kernel.transitions = vec![(7, 2, 1), (2, 1, 1), (1, 4, 3), (13, 7, 1)];
    context.kernel.lost_events = [3, 5, 6, 7, 8, 9, 10, 11, 12];
    context.malformed = 1;
    let shown = Exposition::read(&encode_scrape(&host.metrics.scrape(context)));
    let lost = "tcptrace_events_lost_total";
    assert_eq!(shown.sum(lost, &[("reason", "ring_full")]), 3);
    for (kind, count) in [
        ("reset", 5),
        ("accept", 6),
        ("timewait", 7),
        ("synack_retransmit", 8),
        ("seed", 9),
        ("process", 10),
        ("connect", 11),
        ("cgroup", 12),
    ] {
        let reason = format!("ring_full_{kind}");
        assert_eq!(shown.sum(lost, &[("reason", &reason)]), count);
    }
    assert_eq!(shown.sum(lost, &[("reason", "malformed")]), 1);
    assert_eq!(
        shown.sum("tcptrace_state_transitions_total", &[]),
        shown.sum("tcptrace_tracker_transitions_total", &[]) + 3 + 1
    );
    let unknown_to_us = "tcptrace_state_transitions_total{from=\"13\",to=\"CLOSE\"}";
    assert_eq!(shown.value(unknown_to_us), Some(1.0));
    let never = "tcptrace_state_transitions_total{from=\"FIN_WAIT1\",to=\"CLOSING\"}";
    assert_eq!(shown.value(never), Some(0.0));
}

#[test]
fn syns_that_were_shown_as_other_stay_there() {
    let mut host = Host::new();
    let seen = |host: &mut Host, by_port: &[(u16, u64)]| {
        let mut context = host.context();
        context.kernel.syns = Some(SynCounts {
            by_port: by_port.to_vec(),
            evicted: 0,
        });
        let shown = Exposition::read(&encode_scrape(&host.metrics.scrape(context)));
        ["22", "80", "other"]
            .map(|port| shown.value(&format!("tcptrace_syns_received_total{{port=\"{port}\"}}")))
    };
    assert_eq!(seen(&mut host, &[(22, 3)]), [None, None, Some(3.0)]);
    for port in [22, 80] {
        let mut socket = host.passive(NETWORK, port);
        host.establish(&mut socket, 0);
    }
    let shown = seen(&mut host, &[(22, 5), (80, 1)]);
    assert_eq!(shown, [Some(2.0), Some(1.0), Some(3.0)]);
    let shown = seen(&mut host, &[(22, 5), (80, 4), (9999, 1)]);
    assert_eq!(shown, [Some(2.0), Some(4.0), Some(4.0)]);
}
