//! When a record is written: once, after the grace, or earlier when it must be.

use super::*;

/// A client's whole life; →CLOSE is its fifth event.
fn life() -> Story {
    Story::client().through(&[SynSent, Established, FinWait1, FinWait2, Close])
}

const CLOSED: u64 = START + 4 * MS;

/// A tracker that has seen `story`, and what it said.
fn after(story: Story) -> (Tracker, Recording) {
    let mut tracker = tracker();
    let mut recording = Recording::default();
    for event in story.events() {
        recording.event(&mut tracker, &event);
    }
    (tracker, recording)
}

#[test]
fn a_record_waits_for_its_grace_and_is_written_once() {
    let (mut tracker, mut recording) = after(life());
    assert_eq!(recording.ended().len(), 0);
    assert_eq!(tracker.next_due_ns(), Some(CLOSED + GRACE_NS));
    assert_eq!((tracker.len(), tracker.stats().closed), (1, 0));
    recording.time(&mut tracker, CLOSED + GRACE_NS - 1);
    assert_eq!(recording.ended().len(), 0);
    recording.time(&mut tracker, CLOSED + GRACE_NS);
    assert_eq!(recording.ended().len(), 1);
    assert_eq!(tracker.next_due_ns(), None);
    assert_eq!((tracker.len(), tracker.stats().closed), (0, 1));
    recording.time(&mut tracker, u64::MAX);
    recording.finish(&mut tracker);
    assert_eq!(recording.ended().len(), 1);
}

#[test]
fn a_record_that_waits_is_counted_as_live_in_close() {
    let (mut tracker, mut recording) = after(life());
    let snapshot = tracker.snapshot();
    assert_eq!(snapshot.connections, [(Role::Active, Close, 1)]);
    assert_eq!((snapshot.live, snapshot.pending), (1, 0));
    recording.finish(&mut tracker);
    assert_eq!(tracker.snapshot().connections, []);
}

#[test]
fn the_time_of_another_sockets_event_is_time() {
    let other = |ns: u64| {
        Story::client()
            .on(SOCKET + ns)
            .wait(ns)
            .goes(SynSent)
            .events()
    };
    let (mut tracker, mut recording) = after(life());
    recording.event(&mut tracker, &other(4 * MS + GRACE_NS - 1)[0]);
    assert_eq!(recording.ended().len(), 0);
    recording.event(&mut tracker, &other(4 * MS + GRACE_NS)[0]);
    assert_eq!(recording.ended().len(), 1);
}

#[test]
fn an_event_after_the_next_generation_began_is_not_about_the_previous_one() {
    let (mut tracker, mut recording) = after(life().again(Close, 0).goes(SynSent).sends_reset());
    recording.finish(&mut tracker);
    let ended = recording.ended()[0];
    assert_eq!(ended.connection.id, 1);
    assert_eq!(ended.connection.completeness, Completeness::Full);
    assert!(!ended.reset_after && !ended.connection.resets.sent);
    let next = tracker.connections().next().expect("the next generation");
    assert!(next.resets.sent);
}

#[test]
fn no_record_is_written_before_it_is_known_what_was_lost() {
    let (mut tracker, mut recording) = (tracker(), Recording::default());
    let refused = Story::client()
        .goes(SynSent)
        .closes(CloseFields {
            error: errno::ECONNREFUSED,
            ..CloseFields::default()
        })
        .events();
    for event in &refused {
        recording.heard.extend(tracker.apply(&Item::Event(*event)));
    }
    // Much later events of other sockets change nothing: only time does, after the losses.
    let later = Story::client()
        .on(SOCKET + 64)
        .wait(2 * GRACE_NS)
        .goes(SynSent);
    for event in later.events() {
        recording.heard.extend(tracker.apply(&Item::Event(event)));
    }
    assert_eq!(recording.ended().len(), 0);
    recording.loss(&mut tracker, 1, LossPlace::Ring);
    recording.time(&mut tracker, START + 2 * GRACE_NS);
    let ended = recording.ended();
    // The RST may be what was lost.
    assert_eq!(ended[0].verdict, Verdict::Unknown);
}

#[test]
fn the_end_of_the_tracker_flushes_pending_records_only() {
    let story = life()
        .again(Close, 0)
        .on(SOCKET + 64)
        .through(&[SynSent, Established]);
    let (mut tracker, mut recording) = after(story);
    recording.finish(&mut tracker);
    assert_eq!(recording.ended().len(), 1);
    // The other one lives on: its end was not seen, so that it has no record.
    assert_eq!(
        tracker.snapshot().connections,
        [(Role::Active, Established, 1)]
    );
}

#[test]
fn records_are_written_in_the_order_of_their_ends() {
    let (mut tracker, mut recording) = after(
        life()
            .again(Close, 0)
            .on(SOCKET + 64)
            .through(&[SynSent, Close])
            .again(Listen, 0)
            .on(SOCKET + 128)
            .through(&[SynRecv, Close]),
    );
    recording.finish(&mut tracker);
    let ids: Vec<u64> = recording
        .ended()
        .iter()
        .map(|ended| ended.connection.id)
        .collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[test]
fn a_reset_that_follows_the_end_within_the_grace_belongs_to_it() {
    for late in [0, GRACE_NS - MS - 1] {
        let (mut tracker, mut recording) = after(life().wait(late).sends_reset());
        recording.finish(&mut tracker);
        assert!(recording.ended()[0].reset_after, "{late} ns late");
    }
}

#[test]
fn a_reset_after_the_grace_changes_no_record_tick_or_no_tick() {
    for late in [GRACE_NS - MS, GRACE_NS, 10 * GRACE_NS] {
        let (mut tracker, mut recording) = after(life().wait(late).sends_reset());
        recording.finish(&mut tracker);
        let ended = recording.ended();
        assert_eq!(ended.len(), 1);
        assert!(!ended[0].reset_after, "{late} ns late");
        assert_eq!(ended[0].verdict, Verdict::Graceful);
        assert_eq!(recording.lines().last().unwrap(), "reset sent");
    }
}

#[test]
fn a_reset_goes_to_the_address_it_names() {
    let other = Story::client().on(SOCKET + 64).wait(5 * MS).sends_reset();
    let mut events = life().events();
    events.extend(other.events());
    let (_, recording) = play(&events);
    assert!(!recording.ended()[0].reset_after);
}

#[test]
fn a_reset_of_the_next_generation_is_not_the_last_ones() {
    let story = life()
        .again(Close, 0)
        .goes(SynSent)
        .receives_reset()
        .sends_reset()
        .goes(Close);
    let (_, recording) = play(&story.events());
    let resets: Vec<_> = recording
        .ended()
        .iter()
        .map(|ended| {
            let connection = &ended.connection;
            (
                connection.resets.received,
                connection.resets.sent,
                ended.reset_after,
            )
        })
        .collect();
    assert_eq!(resets, [(false, false, false), (true, true, false)]);
}

#[test]
fn a_reset_of_no_connection_is_reported_and_changes_nothing() {
    let (tracker, recording) = play(&Story::client().receives_reset().sends_reset().events());
    assert_eq!(recording.lines(), ["reset received", "reset sent"]);
    assert!(tracker.is_empty());
    assert_eq!(*tracker.stats(), TrackerStats::default());
}

#[test]
fn lost_events_are_counted_and_reported_once() {
    let mut tracker = tracker();
    let mut recording = Recording::default();
    recording.loss(&mut tracker, 0, LossPlace::Ring);
    recording.loss(&mut tracker, 3, LossPlace::Ring);
    recording.loss(&mut tracker, 1, LossPlace::Decode);
    assert_eq!(recording.lines(), ["lost 3 ring", "lost 1 decode"]);
    assert_eq!(tracker.stats().lost, 4);
}
