//! However many ports and however varied their ends: a bounded number of series.

use std::collections::BTreeSet;

use tcptrace_common::TcpState::{self, *};

use super::{
    exposition::Exposition,
    host::{Host, LOOPBACK, NETWORK, Socket},
};
use crate::{
    feed::event::CloseFields,
    tracker::{Role, Verdict},
};

/// Ends of every kind: the last state is met with each of these.
fn ends() -> Vec<(CloseFields, bool, bool)> {
    let plain = CloseFields::default();
    let gone = |error| CloseFields { error, ..plain };
    let shut = CloseFields {
        receive_shut: true,
        send_shut: true,
        ..plain
    };
    let unacknowledged = CloseFields {
        unacknowledged: 9,
        ..gone(110)
    };
    // Fields, a RST before CLOSE, a RST after it.
    vec![
        (plain, false, false),
        (
            CloseFields {
                peer_fin: true,
                dead: true,
                ..plain
            },
            false,
            false,
        ),
        (
            CloseFields {
                dead: true,
                ..plain
            },
            true,
            false,
        ),
        (
            CloseFields {
                dead: true,
                ..plain
            },
            false,
            true,
        ),
        (
            CloseFields {
                dead: true,
                ..plain
            },
            false,
            false,
        ),
        (
            CloseFields {
                has_socket: true,
                ..plain
            },
            false,
            false,
        ),
        (
            CloseFields {
                has_socket: true,
                ..shut
            },
            false,
            false,
        ),
        (
            CloseFields {
                has_socket: true,
                repair: true,
                ..shut
            },
            false,
            false,
        ),
        (
            CloseFields {
                has_socket: true,
                unread: 5,
                ..shut
            },
            false,
            false,
        ),
        (
            CloseFields {
                segments_sent: 1,
                ..plain
            },
            false,
            false,
        ),
        (gone(104), false, false),
        (CloseFields { error: 104, ..shut }, false, true),
        (gone(103), false, false),
        (gone(111), true, false),
        (gone(111), false, false),
        (gone(113), false, false),
        (gone(999), false, false),
        (
            CloseFields {
                probes_out: 9,
                ..gone(110)
            },
            false,
            false,
        ),
        (unacknowledged, false, false),
        (
            CloseFields {
                send_window: 9,
                ..unacknowledged
            },
            false,
            false,
        ),
    ]
}

/// How a connection comes to be in `last`, from ESTABLISHED on.
fn steps_to(last: TcpState) -> &'static [TcpState] {
    match last {
        FinWait1 => &[FinWait1],
        FinWait2 => &[FinWait1, FinWait2],
        Closing => &[FinWait1, Closing],
        CloseWait => &[CloseWait],
        LastAck => &[CloseWait, LastAck],
        Established | SynSent | SynRecv | TimeWait | Close | Listen | NewSynRecv => &[],
    }
}

const LAST_STATES: [TcpState; 8] = [
    SynSent,
    SynRecv,
    Established,
    FinWait1,
    FinWait2,
    Closing,
    CloseWait,
    LastAck,
];

/// One life, chosen by `choice` among all there are.
fn live(host: &mut Host, port: u16, choice: usize) {
    let ends = ends();
    let (fields, reset_before, reset_after) = ends[choice % ends.len()];
    let choice = choice / ends.len();
    let last = LAST_STATES[choice % LAST_STATES.len()];
    let choice = choice / LAST_STATES.len();
    let role = Role::ALL[choice % Role::ALL.len()];
    let choice = choice / Role::ALL.len();
    let peer = [NETWORK, LOOPBACK][choice % 2];

    if role == Role::Active && last == SynSent {
        host.forbid(peer, port);
    }
    let mut socket = begin(host, role, last, peer, port);
    if reset_before {
        host.reset(&socket, last == FinWait2);
    }
    // In SYN_SENT a port that is still 0 tells its own tale.
    if last == SynSent && choice / 2 % 2 == 1 {
        socket.ends.local_port = 0;
    }
    host.close(&mut socket, fields);
    if reset_after {
        host.reset(&socket, true);
    }
}

fn begin(host: &mut Host, role: Role, last: TcpState, peer: std::net::IpAddr, port: u16) -> Socket {
    let mut socket = match role {
        Role::Active | Role::Simultaneous => host.active(peer, port),
        Role::Passive => host.passive(peer, port),
        Role::Unknown => return host.socket(last, peer, 40_000, port),
    };
    if role == Role::Simultaneous {
        host.go(&mut socket, SynRecv);
    }
    if last != SynSent && last != SynRecv {
        host.establish(&mut socket, 1);
        for &state in steps_to(last) {
            host.go(&mut socket, state);
        }
    }
    socket
}

fn all_choices() -> usize {
    ends().len() * LAST_STATES.len() * Role::ALL.len() * 2 * 2
}

#[test]
fn a_host_with_65000_ports_and_every_verdict_stays_below_2000_series() {
    let mut host = Host::new();
    // Every life that there is, at more ports than have labels.
    for choice in 0..all_choices() {
        for port in 1..=18 {
            live(&mut host, port, choice);
        }
    }
    host.settle();
    let before: BTreeSet<String> = Exposition::series_of(&mut host).into_iter().collect();
    for port in 1..=65_000 {
        live(&mut host, port, usize::from(port) * 7);
    }
    host.settle();
    let after: BTreeSet<String> = Exposition::series_of(&mut host).into_iter().collect();

    for &verdict in Verdict::ALL {
        let label = format!("verdict=\"{}\"", verdict.name());
        assert!(
            after.iter().any(|series| series.contains(&label)),
            "{label}"
        );
    }
    for label in [
        "port=\"16\"",
        "port=\"other\"",
        "port=\"unknown\"",
        "scope=\"loopback\"",
    ] {
        assert!(after.iter().any(|series| series.contains(label)), "{label}");
    }
    let new: Vec<&String> = after.difference(&before).collect();
    assert!(new.is_empty(), "more of the same made new series: {new:?}");
    assert_eq!(before.len(), after.len(), "a series vanished");
    assert!(after.len() < 2000, "{} series", after.len());

    let shown = Exposition::of(&mut host);
    assert!(shown.value("tcptrace_series_folded_total") > Some(0.0));
    assert!(shown.value("tcptrace_ports_folded") > Some(20_000.0));
}

#[test]
fn without_the_bound_the_same_host_would_be_far_above() {
    // What the test above can see: the same lives with as many labels as can be asked for.
    let mut host = Host::with(usize::MAX, 1 << 18);
    for port in 1..=5_000 {
        live(&mut host, port, usize::from(port) * 7);
    }
    host.settle();
    assert!(Exposition::series_of(&mut host).len() > 10_000);
}

#[test]
fn sixteen_services_of_one_kind_need_not_be_folded() {
    let mut host = Host::new();
    for port in 1..=16 {
        for _ in 0..3 {
            let mut socket = host.active(NETWORK, port);
            host.establish(&mut socket, 0);
            host.go(&mut socket, FinWait1);
            host.go(&mut socket, FinWait2);
            host.close(
                &mut socket,
                CloseFields {
                    peer_fin: true,
                    ..CloseFields::default()
                },
            );
        }
    }
    host.settle();
    let shown = Exposition::of(&mut host);
    assert_eq!(shown.value("tcptrace_series_folded_total"), Some(0.0));
    let series = Exposition::series_of(&mut host).len();
    assert!(series < 1000, "{series}");
}
