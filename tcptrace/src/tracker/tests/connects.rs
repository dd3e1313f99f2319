//! connect() that fails inside the call.

use super::*;
use crate::tracker::errno;

/// A tracker that hears of the results of connect().
fn hearing() -> Tracker {
    Tracker::new(TrackerConfig {
        sources: Sources {
            connects: true,
            ..Sources::default()
        },
        ..TrackerConfig::default()
    })
}

fn failure(error: u16) -> ConnectFailure {
    ConnectFailure {
        endpoints: Endpoints {
            local_address: [0, 0, 0, 0].into(),
            ..ends(0, 443)
        },
        owner: SocketOwner::default(),
        task: CLIENT,
        error,
        policy: false,
    }
}

fn fails(socket: u64, time_ns: u64, error: u16) -> Event {
    Event {
        time_ns,
        socket,
        cookie: None,
        recovered: false,
        body: Body::ConnectFailed(failure(error)),
    }
}

fn heard(events: &[Event]) -> (Tracker, Recording) {
    let (mut tracker, mut recording) = (hearing(), Recording::default());
    for event in events {
        recording.event(&mut tracker, event);
    }
    recording.finish(&mut tracker);
    (tracker, recording)
}

#[test]
fn a_connect_that_never_reaches_syn_sent_has_its_own_record() {
    let events = [
        fails(SOCKET, START, 101),
        // The same socket, for another address.
        fails(SOCKET, START + MS, errno::EPERM),
    ];
    let (tracker, recording) = heard(&events);
    let ended = recording.ended();
    assert_eq!(ended.len(), 2);
    let verdicts: Vec<_> = ended.iter().map(|ended| ended.verdict).collect();
    assert_eq!(verdicts, [Verdict::Unreachable, Verdict::Forbidden]);
    for ended in ended {
        let connection = &ended.connection;
        assert_eq!(connection.role, Role::Active);
        assert_eq!(connection.state, Close);
        assert_eq!(connection.completeness, Completeness::Full);
        assert_eq!(
            connection.process.map(|process| process.pid),
            Some(CLIENT.pid)
        );
        // How long the call took is not known.
        assert_eq!(connection.handshake.opened, None);
        assert!(!connection.established);
    }
    let stats = tracker.stats();
    assert_eq!((stats.attempts, stats.failed, stats.closed), (2, 2, 0));
    assert!(tracker.is_empty());
}

#[test]
fn a_connect_that_fails_in_syn_sent_has_one_record_with_its_error() {
    let portless = CloseFields {
        segments_sent: 0,
        ..closing()
    };
    let mut events = Story::client()
        .between(ends(0, 443))
        .goes(SynSent)
        .closes(portless)
        .events();
    let closed_ns = events[1].time_ns;
    for late_ns in [3_000, GRACE_NS + MS] {
        events.truncate(2);
        events.push(fails(SOCKET, closed_ns + late_ns, errno::EADDRNOTAVAIL));
        // The next call of the same socket is another matter.
        events.push(fails(SOCKET, closed_ns + late_ns + MS, 101));
        let (_, recording) = heard(&events);
        let told: Vec<_> = recording
            .ended()
            .iter()
            .map(|ended| (ended.verdict, ended.connect.map(|failure| failure.error)))
            .collect();
        // A result that comes after the record is not in it.
        let error = Some(errno::EADDRNOTAVAIL).filter(|_| late_ns < GRACE_NS);
        assert_eq!(
            told,
            [
                (Verdict::NoLocalPort, error),
                (Verdict::Unreachable, Some(101))
            ]
        );
    }
}

#[test]
fn a_connect_ended_by_the_application_or_the_network_waits_for_no_result() {
    let refused = CloseFields {
        error: errno::ECONNREFUSED,
        ..closing()
    };
    let cancelled = CloseFields {
        receive_shut: true,
        send_shut: true,
        ..closing()
    };
    // shutdown() or connect(AF_UNSPEC), after the SYN.
    let disconnected = CloseFields {
        segments_sent: 1,
        ..closing()
    };
    for fields in [refused, cancelled, disconnected] {
        let mut events = Story::client().goes(SynSent).closes(fields).events();
        let closed_ns = events[1].time_ns;
        events.push(fails(SOCKET, closed_ns + MS, 101));
        let (_, recording) = heard(&events);
        assert_eq!(recording.ended().len(), 2);
    }
}

#[test]
fn a_connection_held_for_a_socket_in_close_is_over() {
    let mut events = Story::client().through(&[SynSent, Established]).events();
    events.push(fails(SOCKET, events[1].time_ns + MS, 101));
    let (tracker, recording) = heard(&events);
    let ends: Vec<_> = recording
        .ended()
        .iter()
        .map(|ended| (ended.end_seen, ended.verdict))
        .collect();
    assert_eq!(
        ends,
        [(false, Verdict::Unknown), (true, Verdict::Unreachable)]
    );
    assert!(tracker.is_empty());
}

#[test]
fn results_that_never_come_are_forgotten() {
    let portless = CloseFields {
        segments_sent: 0,
        ..closing()
    };
    let mut events: Vec<Event> = (0..1_000)
        .flat_map(|n| {
            Story::client()
                .on(SOCKET + 64 * n)
                .goes(SynSent)
                .closes(portless)
                .events()
        })
        .collect();
    let late_ns = START + 3_600_000 * MS;
    events.push(fails(SOCKET + 64 * 999, late_ns, 101));
    let (_, recording) = heard(&events);
    assert_eq!(recording.ended().len(), 1_001);
}
