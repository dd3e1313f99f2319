//! As much as this machine can make: nothing is lost, and every count agrees.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal;

use crate::{
    daemon::check_identities,
    support::{
        Check,
        daemon::Daemon,
        exposition::Metrics,
        load::{Load, TRANSITIONS},
        namespace::Namespace,
        tests,
    },
};

tests![nothing_is_lost_under_load, events_without_room_are_counted,];

const TIME: Duration = Duration::from_secs(3);
/// The kernel runs no program for some connections when others attach and detach theirs meanwhile,
/// and does not count them.
const SKIPPED_ONE_IN: i64 = 5_000;
/// Where TIME_WAITs and ephemeral ports end.
const MOST: u64 = 150_000;

/// The kernel's own count is the tracker's and what was lost between them.
fn transitions_agree(metrics: &Metrics) -> bool {
    let kernel = metrics.count("tcptrace_state_transitions_total", &[]);
    let tracker = metrics.count("tcptrace_tracker_transitions_total", &[]);
    let lost = metrics.count("tcptrace_events_lost_total", &[("reason", "ring_full")]);
    kernel == tracker + lost
}

fn nothing_is_lost_under_load() -> Check {
    let namespace = Namespace::new()?;
    let load = Load::new(&namespace)?;
    let mut daemon = Daemon::start(&["--metrics.ports", &load.ports()?])?;
    let before = daemon.scrape_until("transitions to agree", transitions_agree)?;
    let made = load.run(TIME, MOST)?;
    eprintln!("{} connections a second", made / TIME.as_secs());
    let after = daemon.scrape_until("transitions to agree", transitions_agree)?;
    for kind in ["", "_reset", "_accept", "_timewait"] {
        let reason = format!("ring_full{kind}");
        let lost = after.count("tcptrace_events_lost_total", &[("reason", &reason)]);
        ensure!(
            lost == 0,
            "{lost} events were lost of {made} connections:\n{after}"
        );
    }
    let made = i64::try_from(made)?;
    let ports = load.ports()?;
    let of_load = |metrics: &Metrics, name: &str, role: &str| -> i64 {
        let count = |port: &str| metrics.count(name, &[("role", role), ("port", port)]);
        ports.split(',').map(count).sum()
    };
    let skipped =
        |metrics: &Metrics| metrics.count("tcptrace_events_lost_total", &[("reason", "skipped")]);
    let skipped = made / SKIPPED_ONE_IN + skipped(&after) - skipped(&before);
    let closed = "tcptrace_connections_closed_total";
    let settled = daemon.scrape_until("both sides of every connection", |metrics| {
        of_load(metrics, closed, "active") + of_load(metrics, closed, "passive")
            >= 2 * made - skipped
            && metrics.count("tcptrace_connections", &[("state", "CLOSE")]) == 0
    })?;
    for role in ["active", "passive"] {
        for name in [
            "tcptrace_connection_attempts_total",
            "tcptrace_connections_established_total",
            closed,
        ] {
            let count = of_load(&settled, name, role);
            ensure!(
                (made - skipped..=made).contains(&count),
                "{name} of the {role} sides is {count} of {made}:\n{settled}"
            );
        }
    }
    let gaps = settled.count("tcptrace_tracker_gaps_total", &[]);
    ensure!(
        gaps <= skipped,
        "{gaps} gaps in {made} connections:\n{settled}"
    );
    let transitions = |metrics: &Metrics| metrics.count("tcptrace_state_transitions_total", &[]);
    let counted = transitions(&settled) - transitions(&before);
    let least = (made - skipped) * TRANSITIONS;
    ensure!(
        counted >= least,
        "{made} connections made {counted} transitions, fewer than {least}:\n{settled}"
    );
    let anomalies = settled.count("tcptrace_tracker_anomalies_total", &[]);
    ensure!(anomalies == 0, "{anomalies} anomalies:\n{settled}");
    check_identities(&settled)?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn events_without_room_are_counted() -> Check {
    let namespace = Namespace::new()?;
    let load = Load::new(&namespace)?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let port = address.port().to_string();
    let mut daemon = Daemon::start(&["--ring-size", "4KiB", "--metrics.ports", &port])?;
    daemon.signal(Signal::SIGSTOP)?;
    // The ring has room for two connections at most.
    load.run(TIME, 100)?;
    daemon.signal(Signal::SIGCONT)?;
    let after = daemon.scrape_until("transitions to agree", transitions_agree)?;
    let lost = after.count("tcptrace_events_lost_total", &[("reason", "ring_full")]);
    ensure!(lost > 0, "nothing was lost:\n{after}");
    check_identities(&after)?;
    // The storm is over: a new connection is whole.
    for side in namespace.pair(&listener).map(|(one, other)| [one, other])? {
        drop(side);
    }
    let labels = [("port", port.as_str()), ("verdict", "graceful")];
    let after = daemon.scrape_until("a new connection", |metrics| {
        metrics.count("tcptrace_connections_closed_total", &labels) == 2
    })?;
    let established = [("port", port.as_str())];
    ensure!(
        after.count("tcptrace_connection_attempts_total", &established) == 2,
        "not two attempts:\n{after}"
    );
    check_identities(&after)?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}
