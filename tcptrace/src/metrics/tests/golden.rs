//! The whole exposition of a scripted day, compared with a file that a reviewer reads.
//!
//! `TCPTRACE_BLESS=1 cargo test` writes the file anew.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use tcptrace_common::TcpState::*;

use super::host::{Host, LOOPBACK, MS, NETWORK, source};
use crate::{
    feed::event::CloseFields,
    metrics::{
        ScrapeContext,
        families::{encode_scrape, reference},
    },
    probe::{Hook, KernelCounts, ProgramMisses, ProgramRuns, Source, SynCounts},
    sockets::levels::{Levels, Queue},
    tracker::Drift,
};

/// What every connection of the day leaves behind that does not say otherwise.
const FIELDS: CloseFields = CloseFields {
    bytes_sent: 512,
    bytes_acked: 512,
    in_flight: 0,
    time_wait_full: false,
    bytes_received: 65_536,
    segments_sent: 20,
    segments_received: 48,
    retransmits: 1,
    srtt_us: 18_250,
    error: 0,
    unread: 0,
    unacknowledged: 0,
    send_window: 64_256,
    receive_shut: true,
    send_shut: true,
    dead: true,
    peer_fin: true,
    has_socket: true,
    linger2_negative: false,
    repair: false,
    probes_out: 0,
};

fn a_day() -> Host {
    let mut host = Host::with(4, 1 << 18);
    clients(&mut host);
    servers(&mut host);
    oddities(&mut host);
    host.settle();
    // These two are still there.
    let mut open = host.active(NETWORK, 443);
    host.wait(15 * MS);
    host.establish(&mut open, 0);
    host.active(NETWORK, 9999);
    host
}

fn clients(host: &mut Host) {
    // We ask, get an answer and close first.
    let mut graceful = host.active(NETWORK, 443);
    host.wait(12 * MS);
    host.establish(&mut graceful, 0);
    host.wait(2_000 * MS);
    host.go(&mut graceful, FinWait1);
    host.go(&mut graceful, FinWait2);
    host.wait(400 * MS);
    host.close(&mut graceful, FIELDS);
    // The first SYN is lost, the peer resets.
    let mut reset = host.active(NETWORK, 443);
    host.wait(1_013 * MS);
    host.establish(&mut reset, 1);
    host.wait(40 * MS);
    host.reset(&reset, false);
    host.close(
        &mut reset,
        CloseFields {
            error: 104,
            ..FIELDS
        },
    );
    // Nobody listens.
    let mut refused = host.active(LOOPBACK, 5432);
    host.reset(&refused, false);
    host.close(
        &mut refused,
        CloseFields {
            error: 111,
            ..FIELDS
        },
    );
    // A firewall's program says no.
    host.forbid(NETWORK, 25);
    // Nobody is there.
    let mut dead = host.active(NETWORK, 443);
    host.wait(67_000 * MS);
    let fields = CloseFields {
        error: 110,
        retransmits: 6,
        ..FIELDS
    };
    host.close(&mut dead, fields);
}

fn servers(host: &mut Host) {
    // The client closes first.
    let mut child = host.passive(LOOPBACK, 8080);
    host.establish(&mut child, 2);
    host.wait(3 * MS);
    host.accept(&child);
    host.wait(5 * MS);
    host.go(&mut child, CloseWait);
    host.wait(30 * MS);
    host.go(&mut child, LastAck);
    host.close(&mut child, FIELDS);
    // Closed with data unread, at a port for which no label is left.
    let mut unread = host.passive(NETWORK, 2049);
    host.establish(&mut unread, 0);
    host.wait(86_400_000 * MS);
    host.close(
        &mut unread,
        CloseFields {
            unread: 3,
            ..FIELDS
        },
    );
    host.reset(&unread, true);
}

fn oddities(host: &mut Host) {
    // Both ends connect to each other.
    let mut crossed = host.active(NETWORK, 7000);
    host.wait(8 * MS);
    host.go(&mut crossed, SynRecv);
    host.establish(&mut crossed, 0);
    host.go(&mut crossed, FinWait1);
    host.go(&mut crossed, Closing);
    host.close(&mut crossed, FIELDS);
    // It was there before.
    let mut seeded = host.socket(Established, NETWORK, 40_000, 22);
    host.close(&mut seeded, FIELDS);
    // No kernel does this.
    let mut impossible = host.socket(TimeWait, NETWORK, 40_000, 22);
    host.go(&mut impossible, Established);
}

/// What is around the metrics of that day.
fn around(host: &Host) -> ScrapeContext {
    let mut context = host.context();
    context.kernel = KernelCounts {
        transitions: vec![(7, 2, 6), (2, 1, 3), (10, 3, 2), (7, 10, 1)],
        lost_events: [4, 1, 0, 2, 0, 0, 0, 6, 0],
        syns: Some(SynCounts {
            by_port: vec![(22, 3), (8080, 21), (9999, 4)],
            evicted: 2,
        }),
    };
    context.reset_reasons = BTreeMap::from([(8, "ABORT_ON_DATA".to_owned())]);
    context.tracker.drift = Some(Drift {
        by_state: BTreeMap::from([(Established, 1), (CloseWait, -2)]),
        ..Drift::default()
    });
    context.tracker.close_wait =
        [(Some(443), 2), (Some(8080), 7), (Some(5432), 1), (None, 3)].into();
    context.levels = Some(Arc::new(Levels {
        time: Timestamp::from_millisecond(1_764_000_000_250).unwrap(),
        sockets: BTreeMap::from([(Established, 7), (TimeWait, 40), (Listen, 3)]),
        fin_wait2_minisockets: 5,
        time_wait_limit: Some(131_072),
        ephemeral_ports: Some(28_232),
        ephemeral_in_use: 900,
        queues: [(22, 0, 128), (8080, 3, 511), (9999, 1, 5)]
            .map(|(port, length, limit)| (port, Queue { length, limit }))
            .into(),
        counters: [1, 2, 3, 4, 5],
    }));
    context.skipped = [1, 0, 2, 0, 0, 0, 3, 0];
    context.runs = vec![ProgramRuns {
        program: "set_state_btf".to_owned(),
        runs: 1_000,
        time: Duration::from_micros(750),
    }];
    context.misses = vec![
        misses("set_state_btf", 7, Some(6)),
        misses("set_state_second", 3, None),
        misses("accept", 0, None),
    ];
    context
}

#[test]
fn the_exposition_of_a_day_is_as_reviewed() {
    let mut host = a_day();
    let mut context = around(&host);
    context.hooks = vec![
        source(Hook::SetState, Ok(Source::TpBtf)),
        source(Hook::CreateChild, Ok(Source::SockOps)),
        source(Hook::Accept, Ok(Source::Tracepoint)),
        source(Hook::Connect, Ok(Source::Tracepoint)),
        source(Hook::ReceiveReset, Ok(Source::TpBtf)),
        source(Hook::SendReset, Err("the kernel has no such tracepoint")),
    ];
    let scrape = host.metrics.scrape(context);
    let text = encode_scrape(&scrape.with_web_connections(3, 2));

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/metrics/golden/day.prom");
    if std::env::var_os("TCPTRACE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (at, (line, expected)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(line, expected, "line {} of {}", at + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}

/// `docs/metrics.md` has every metric that there is, as the code has it.
#[test]
fn the_reference_is_of_this_code() {
    let mut host = a_day();
    let context = around(&host);
    let scrape = host.metrics.scrape(context).with_web_connections(0, 0);
    let text = reference(&scrape);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("TCPTRACE_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let known = std::fs::read_to_string(&path).unwrap();
    let first = text
        .lines()
        .zip(known.lines())
        .find(|(one, other)| one != other);
    assert!(
        text == known,
        "TCPTRACE_BLESS=1 writes it anew; it differs at {first:?}"
    );
}

fn misses(program: &str, misses: u64, recovered: Option<u64>) -> ProgramMisses {
    ProgramMisses {
        program: program.to_owned(),
        misses,
        recovered,
    }
}
