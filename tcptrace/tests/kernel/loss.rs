//! A tail that is held up long enough loses events: it says how many, and goes on.

use std::{net::TcpStream, time::Duration};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{Check, load::Load, namespace::Namespace, record::Records, tail::Tail, tests};

tests![
    a_tail_reports_losses_and_goes_on,
    a_refused_connect_is_not_unreachable_however_small_the_ring_is,
    a_tail_reports_evictions,
];

fn a_tail_reports_losses_and_goes_on() -> Check {
    let namespace = Namespace::new()?;
    let load = Load::new(&namespace)?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &["--ring-size", "4KiB"])?;
    tail.running().signal(Signal::SIGSTOP)?;
    load.run(Duration::from_secs(3), 100)?;
    // The ring was full before, if only of what was there when the tail began.
    let before = tail.so_far()?.of("loss").len();
    tail.running().signal(Signal::SIGCONT)?;
    tail.wait("a loss", |records| records.of("loss").len() > before)?;
    let (client, server) = namespace.pair(&listener)?;
    drop(client);
    drop(server);
    let of_new = |role: &str| {
        let end = if role == "active" {
            "remote_port"
        } else {
            "local_port"
        };
        json!({"role": role, end: address.port()})
    };
    tail.wait("both sides of a new connection", |records| {
        ["active", "passive"]
            .iter()
            .all(|role| records.only("connection", &of_new(role)).is_ok())
    })?;
    let (records, output) = tail.interrupt()?;
    output.must_end_with(0)?;
    for role in ["active", "passive"] {
        records_whole(&records, &of_new(role))?;
    }
    let losses = records.of("loss");
    let mut lost = 0;
    for loss in &losses {
        loss.must_have(&json!({"schema": "tcptrace/1"}))?;
        let place = loss.text("where");
        ensure!(matches!(place, Some("ring" | "kernel")), "{loss}");
        lost += loss.number("lost").context("how many were lost")?;
    }
    ensure!(lost > 0, "nothing was lost");
    ensure!(
        output.stderr.ends_with(&format!(" {lost} events lost\n")),
        "{lost} events were lost, but: {:?}",
        output.stderr
    );
    Ok(())
}

fn records_whole(records: &Records, side: &Value) -> Check {
    records.only("handshake", side)?;
    records
        .only("connection", side)?
        .must_have(&json!({"completeness": "full", "verdict": "graceful"}))
}

/// Losses are known only after the events among which they were.
fn a_refused_connect_is_not_unreachable_however_small_the_ring_is() -> Check {
    const CONNECTS: usize = 6_000;
    let namespace = Namespace::new()?;
    // Nobody listens there any more.
    let (_, address) = namespace.listen("127.0.0.1:0")?;
    for ring in ["8KiB", "32KiB"] {
        let tail = Tail::start(&namespace, &["--ring-size", ring])?;
        namespace.run(|| {
            for _ in 0..CONNECTS {
                ensure!(TcpStream::connect(address).is_err(), "somebody listens");
            }
            Ok(())
        })?;
        let (records, output) = tail.interrupt()?;
        output.must_end_with(0)?;
        let failed = records.of("connection");
        ensure!(!failed.is_empty(), "nothing was seen");
        for record in failed {
            ensure!(record.text("verdict") != Some("unreachable"), "{record}");
        }
    }
    Ok(())
}

fn a_tail_reports_evictions() -> Check {
    let namespace = Namespace::new()?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let tail = Tail::start(&namespace, &["--max-connections", "2"])?;
    let pairs = (0..3)
        .map(|_| namespace.pair(&listener))
        .collect::<anyhow::Result<Vec<_>>>()?;
    drop(pairs);
    let (records, output) = tail.interrupt()?;
    output.must_end_with(0)?;
    ensure!(
        output
            .stderr
            .contains(" connections evicted (--max-connections)"),
        "{output:?}"
    );
    for record in records.of("connection") {
        let completeness = record.text("completeness");
        let fits = matches!(completeness, Some("full" | "partial"));
        ensure!(fits, "{record}");
    }
    Ok(())
}
