//! Runs of events that never came: the end of one connection and the beginning of the next.

use super::{
    lives::{afterwards, lives, play_without},
    *,
};

#[test]
fn the_next_connection_of_the_address_is_full_again_whatever_was_lost() {
    let fresh = record_of(afterwards());
    for (name, life) in lives() {
        let mut events = life.clone();
        events.extend(afterwards().events());
        for first in 0..life.len() {
            for end in first + 1..=life.len() {
                let context = format!("{name} without {first}..{end}");
                let (_, recording) = play_without(&events, first..end, true);
                let last = recording.ended().pop().unwrap();
                let mut connection = last.connection.clone();
                assert_eq!(connection.completeness, Completeness::Full, "{context}");
                (connection.id, connection.followed.heard) = (1, fresh.connection.followed.heard);
                assert_eq!(
                    format!("{connection:?}"),
                    format!("{:?}", fresh.connection),
                    "{context}"
                );
                assert_eq!(
                    (last.verdict, last.fields),
                    (fresh.verdict, fresh.fields),
                    "{context}"
                );
                assert_eq!(last.closed_at, fresh.closed_at, "{context}");
            }
        }
    }
}

#[test]
fn an_end_that_was_lost_is_not_dated_by_the_next_beginning() {
    let mut events = Story::client().through(&[SynSent, Established]).events();
    events.extend(afterwards().events());
    let (tracker, recording) = play(&events);
    let ended = recording.ended();
    assert!(!ended[0].end_seen && ended[1].end_seen);
    assert_eq!(ended[0].verdict, Verdict::Unknown);
    assert_eq!(ended[0].connection.completeness, Completeness::Gap);
    assert_eq!(tracker.stats().gaps, 1);
}

#[test]
fn two_connections_are_never_made_one_where_an_event_tells_them_apart() {
    // One address, two lives that differ in everything; any run of events lost in between.
    let first = Story::client().through(&[SynSent, Established, FinWait1, FinWait2]);
    let second = first
        .clone()
        .goes(Close)
        .again(Listen, MS)
        .between(ends(443, 50_000));
    let events = second
        .through(&[SynRecv, Established, CloseWait, LastAck, Close])
        .events();
    let (_, whole) = play(&events);
    let truths = whole.ended();
    let whose = |ended: &Ended, truth: &Ended| {
        let (one, other) = (&ended.connection, &truth.connection);
        let ends = |connection: &Connection| connection.endpoints.map(|ends| ends.remote_port);
        (one.role == Role::Unknown || one.role == other.role)
            && (one.handshake.opened.is_none() || one.handshake.opened == other.handshake.opened)
            && (one.handshake.took.is_none() || one.handshake.took == other.handshake.took)
            && (ends(one).is_none() || ends(one) == ends(other))
    };
    for lost in 0..events.len() {
        for end in lost + 1..=events.len() {
            let (_, recording) = play_without(&events, lost..end, true);
            for ended in recording.ended() {
                let matches = truths.iter().filter(|truth| whose(ended, truth)).count();
                assert!(matches > 0, "without {lost}..{end}: {ended:#?}");
            }
        }
    }
}

#[test]
fn an_event_from_before_what_is_held_is_another_connections() {
    for (held, old, new) in [
        (&[SynSent, Established][..], SynRecv, Established),
        (&[SynSent, Established], SynSent, Established),
        (
            &[SynSent, Established, FinWait1, FinWait2],
            Established,
            CloseWait,
        ),
        (&[SynSent, Established, CloseWait], Established, FinWait1),
        (
            &[SynSent, Established, FinWait1, FinWait2],
            FinWait1,
            Closing,
        ),
    ] {
        let story = Story::client().through(held).again(old, MS).goes(new);
        let (tracker, recording) = play(&story.events());
        let context = format!("{held:?}, then {old:?} to {new:?}: {:?}", recording.lines());
        assert_eq!(recording.ended().len(), 1, "{context}");
        assert!(!recording.ended()[0].end_seen, "{context}");
        let snapshot = tracker.snapshot();
        // Only connect() leads to SYN_SENT.
        let role = if old == SynSent {
            Role::Active
        } else {
            Role::Unknown
        };
        assert_eq!(snapshot.connections, [(role, new, 1)], "{context}");
        let met = tracker.sockets.store.iter().next().unwrap();
        assert_eq!(
            met.completeness,
            Completeness::Gap,
            "{context}: it was not there before"
        );
        assert_eq!(
            (met.handshake.opened, met.handshake.took),
            (None, None),
            "{context}"
        );
        assert_eq!(tracker.stats().gaps, 2, "{context}");
    }
}
