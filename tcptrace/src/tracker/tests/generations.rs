//! One address, many connections: the kernel reuses a socket's address within microseconds.

use super::*;

fn closed_by_us() -> [TcpState; 5] {
    [SynSent, Established, FinWait1, FinWait2, Close]
}

fn closed_by_them() -> [TcpState; 5] {
    [SynRecv, Established, CloseWait, LastAck, Close]
}

#[test]
fn each_open_begins_a_connection_of_its_own() {
    // A nanosecond apart: far within the grace of the one before.
    let story = Story::client()
        .through(&closed_by_us())
        .again(Listen, 1)
        .between(ends(443, 50_000))
        .through(&closed_by_them())
        .again(Close, 1)
        .between(ends(40_001, 80))
        .through(&[SynSent, Close])
        .again(Close, 1)
        .between(ends(40_002, 80))
        .through(&closed_by_us());
    let (tracker, recording) = play(&story.events());
    let ended = recording.ended();
    let told: Vec<_> = ended
        .iter()
        .map(|ended| {
            let connection = &ended.connection;
            let ports = connection
                .endpoints
                .map(|ends| (ends.local_port, ends.remote_port));
            (
                connection.id,
                connection.role,
                ports.unwrap(),
                ended.closed_by(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, Role::Active, (40_000, 443), Some(ClosedBy::Local)),
            (2, Role::Passive, (443, 50_000), Some(ClosedBy::Remote)),
            (3, Role::Active, (40_001, 80), Some(ClosedBy::Local)),
            (4, Role::Active, (40_002, 80), Some(ClosedBy::Local)),
        ]
    );
    assert!(
        ended
            .iter()
            .all(|ended| ended.connection.completeness == Completeness::Full)
    );
    assert_eq!((tracker.stats().gaps, tracker.stats().anomalies), (0, 0));
    assert_eq!((tracker.stats().attempts, tracker.stats().failed), (4, 1));
}

#[test]
fn a_generation_inherits_nothing_from_the_one_before() {
    let first = Story::client()
        .through(&[SynSent, Established])
        .receives_reset();
    let story = first
        .goes(Close)
        .sends_reset()
        .again(Listen, 0)
        .by(SERVER)
        .between(ends(443, 50_000));
    let (_, recording) = play(&story.through(&closed_by_them()).events());
    let fresh = record_of(Story::child().wait(5 * MS).through(&closed_by_them()));
    let second = recording.ended()[1];
    // Everything but the id, which is the second.
    let mut expected = fresh.connection;
    expected.id = 2;
    assert_eq!(format!("{:?}", second.connection), format!("{expected:?}"));
    assert!(!second.reset_after);
}

#[test]
fn a_hundred_generations_make_a_hundred_records() {
    let mut story = Story::client();
    for _ in 0..100 {
        story = story.through(&closed_by_us()).again(Close, 0);
    }
    let (tracker, recording) = play(&story.events());
    let ids: Vec<u64> = recording
        .ended()
        .iter()
        .map(|ended| ended.connection.id)
        .collect();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    assert_eq!(tracker.stats().closed, 100);
    assert!(tracker.is_empty() && tracker.sockets.ended.next_due_ns().is_none());
}

#[test]
fn a_socket_may_listen_after_it_was_connected_and_connect_after_it_listened() {
    let story = Story::client()
        .through(&closed_by_us())
        .through(&[Listen, Close])
        .through(&closed_by_us());
    let (tracker, recording) = play(&story.events());
    assert_eq!(recording.ended().len(), 2);
    assert_eq!((tracker.stats().gaps, tracker.stats().anomalies), (0, 0));
    assert_eq!(tracker.sockets.listeners.len(), 0);
}

#[test]
fn a_connection_that_was_there_before_is_seeded_and_has_no_age() {
    let story = Story::client()
        .already(Established)
        .through(&[FinWait1, FinWait2, Close]);
    let (tracker, recording) = play(&story.events());
    assert_eq!(
        recording.lines(),
        [
            "entered 1",
            "1 ESTABLISHED FIN_WAIT1",
            "1 FIN_WAIT1 FIN_WAIT2",
            "1 FIN_WAIT2 CLOSE",
            "ended 1 graceful"
        ]
    );
    assert_eq!(
        (tracker.stats().seeded, tracker.stats().established),
        (1, 0)
    );
    assert_eq!((tracker.stats().attempts, tracker.stats().closed), (0, 1));
    assert_eq!(tracker.stats().gaps, 0);
    let ended = recording.ended()[0];
    let connection = &ended.connection;
    assert_eq!(connection.completeness, Completeness::Seeded);
    assert_eq!(connection.role, Role::Unknown);
    assert_eq!(
        (
            connection.handshake.opened,
            connection.handshake.established_at
        ),
        (None, None)
    );
    assert_eq!(connection.handshake.took, None);
    // Who closes is seen, and is the best that can be had of whose it is.
    assert_eq!(connection.closing.first_fin_by, Some(ClosedBy::Local));
    assert_eq!(connection.process.unwrap().source, ProcessSource::Close);
    assert_eq!(connection.endpoints, Some(ends(40_000, 443)));
}

#[test]
fn a_seeded_connection_knows_no_more_than_its_first_transition_tells() {
    for (old, path, closed_by) in [
        (CloseWait, &[LastAck, Close][..], Some(ClosedBy::Remote)),
        (LastAck, &[Close], Some(ClosedBy::Remote)),
        (FinWait1, &[FinWait2, Close], Some(ClosedBy::Local)),
        (FinWait1, &[Closing, Close], Some(ClosedBy::Simultaneous)),
        (FinWait2, &[Close], Some(ClosedBy::Local)),
        // Whether our FIN had left when the peer's came was not seen.
        (Closing, &[Close], None),
    ] {
        let (_, recording) = play(&Story::client().already(old).through(path).events());
        let ended = recording.ended()[0];
        assert_eq!(ended.connection.closing.first_fin_by, closed_by, "{old:?}");
        assert_eq!(ended.connection.completeness, Completeness::Seeded);
        assert_eq!(
            ended.half_closed_ns(),
            None,
            "{old:?}: the first FIN was not seen"
        );
    }
}

#[test]
fn a_seeded_attempt_has_no_handshake_time() {
    for old in [SynSent, SynRecv] {
        let (tracker, recording) = play(&Story::client().already(old).goes(Established).events());
        let Some(Update::Established(connection)) = recording.heard.last() else {
            panic!("not established");
        };
        assert_eq!(
            (connection.handshake.took, connection.handshake.opened),
            (None, None)
        );
        assert_eq!(
            (tracker.stats().attempts, tracker.stats().established),
            (1, 1)
        );
    }
}

#[test]
fn a_tracker_that_is_full_gives_up_the_longest_unchanged() {
    let mut tracker = Tracker::new(TrackerConfig {
        max_connections: 2,
        ..TrackerConfig::default()
    });
    let mut recording = Recording::default();
    let mut events = Story::client()
        .on(1)
        .through(&[SynSent, Established])
        .events();
    events.extend(Story::client().on(2).wait(2 * MS).goes(SynSent).events());
    events.extend(
        Story::client()
            .on(1)
            .already(Established)
            .wait(3 * MS)
            .goes(FinWait1)
            .events(),
    );
    events.extend(Story::client().on(3).wait(4 * MS).goes(SynSent).events());
    events.extend(Story::client().on(4).wait(5 * MS).goes(SynSent).events());
    for event in &events {
        recording.event(&mut tracker, event);
    }
    let evicted: Vec<_> = recording.lines();
    let evicted: Vec<_> = evicted
        .iter()
        .filter(|line| line.starts_with("evicted"))
        .collect();
    assert_eq!(evicted, ["evicted 2", "evicted 1"]);
    assert_eq!(
        (tracker.stats().evicted_pending, tracker.stats().evicted),
        (1, 1)
    );
    assert_eq!((tracker.len(), tracker.snapshot().limit), (2, 2));
    // Given up, a connection has no record; should it go on, it is met anew.
    let story = Story::client()
        .on(1)
        .already(FinWait1)
        .wait(6 * MS)
        .goes(FinWait2);
    recording.event(&mut tracker, &story.events()[0]);
    recording.finish(&mut tracker);
    assert_eq!(recording.ended().len(), 0);
}

#[test]
fn an_evicted_connection_comes_back_as_partial() {
    let mut tracker = Tracker::new(TrackerConfig {
        max_connections: 2,
        sources: recording::sources(),
        ..TrackerConfig::default()
    });
    let mut recording = Recording::default();
    let all: Vec<Story> = (0..3)
        .map(|n| {
            Story::client()
                .on(SOCKET + 64 * n)
                .between(ends(40_000 + u16::try_from(n).unwrap(), 443))
        })
        .collect();
    for story in &all {
        for event in story.clone().through(&[SynSent, Established]).events() {
            recording.event(&mut tracker, &event);
        }
    }
    assert_eq!(
        (tracker.stats().evicted, tracker.stats().evicted_pending),
        (1, 0)
    );
    let met = all[0].clone().already(Established).wait(MS).goes(CloseWait);
    for event in met.goes(LastAck).closes(released()).events() {
        recording.event(&mut tracker, &event);
    }
    recording.finish(&mut tracker);
    let ended = recording.ended();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].connection.completeness, Completeness::Partial);
    assert_eq!(tracker.stats().gaps, 0);
}

#[test]
fn a_connection_first_seen_in_a_batch_with_a_loss_has_a_gap() {
    for loss_first in [true, false] {
        let mut tracker = tracker();
        let mut recording = Recording::default();
        let story = Story::client().already(Established);
        let [event] = story.goes(CloseWait).events()[..] else {
            panic!("one event");
        };
        if loss_first {
            recording.loss(&mut tracker, 1, LossPlace::Ring);
        }
        recording.heard.extend(tracker.apply(&Item::Event(event)));
        if !loss_first {
            recording.loss(&mut tracker, 1, LossPlace::Ring);
        }
        recording.time(&mut tracker, event.time_ns);
        let rest = Story::client().wait(MS).already(CloseWait).goes(LastAck);
        for event in rest.closes(released()).events() {
            recording.event(&mut tracker, &event);
        }
        recording.finish(&mut tracker);
        let ended = recording.ended();
        assert_eq!(ended[0].connection.completeness, Completeness::Partial);
    }
}
