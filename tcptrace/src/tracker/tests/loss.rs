//! Events that never came: what is missing is said to be missing, and nothing is made up for it.

use std::fmt::Debug;

use super::{
    lives::{afterwards, lives, play_without},
    *,
};

/// Everything that is known in `told` is as it really was, in `truth`.
#[track_caller]
fn assert_nothing_invented(told: &Ended, truth: &Ended, context: &str) {
    fn same<T: Copy + PartialEq + Debug>(
        name: &str,
        told: Option<T>,
        truth: Option<T>,
        context: &str,
    ) {
        let fits = told.is_none() || told == truth;
        assert!(fits, "{context}: {name} {told:?}, but {truth:?}");
    }
    let (one, other) = (&told.connection, &truth.connection);
    same(
        "opened",
        one.handshake.opened,
        other.handshake.opened,
        context,
    );
    same(
        "established_at",
        one.handshake.established_at,
        other.handshake.established_at,
        context,
    );
    same(
        "handshake",
        one.handshake.took,
        other.handshake.took,
        context,
    );
    same(
        "first_fin",
        one.closing.first_fin,
        other.closing.first_fin,
        context,
    );
    same(
        "second_fin",
        one.closing.second_fin,
        other.closing.second_fin,
        context,
    );
    same("closed_by", told.closed_by(), truth.closed_by(), context);
    same(
        "half_closed",
        told.half_closed_ns(),
        truth.half_closed_ns(),
        context,
    );
    same(
        "syn_retransmits",
        one.handshake.syn_retransmits,
        other.handshake.syn_retransmits,
        context,
    );
    same(
        "srtt",
        one.handshake.srtt_us,
        other.handshake.srtt_us,
        context,
    );
    same("fields", told.fields, truth.fields, context);
    let process = one
        .process
        .filter(|process| process.source != ProcessSource::Close);
    // Without the event of a stronger source there is the weaker one.
    let pid = |process: Process| process.pid;
    same("pid", process.map(pid), other.process.map(pid), context);
    let role = Some(one.role).filter(|&role| role != Role::Unknown);
    same("role", role, Some(other.role), context);
    let verdict = Some(told.verdict).filter(|&verdict| verdict != Verdict::Unknown);
    same("verdict", verdict, Some(truth.verdict), context);
    let closed_at = Some(told.closed_at).filter(|_| told.end_seen);
    same("closed_at", closed_at, Some(truth.closed_at), context);
    assert_eq!(one.established, other.established, "{context}");
    assert!(
        !one.resets.received || other.resets.received,
        "{context}: reset received"
    );
    // Whose →CLOSE was lost may have sent it after.
    let sent = |ended: &Ended| ended.connection.resets.sent || ended.reset_after;
    assert!(!sent(told) || sent(truth), "{context}: reset sent");
}

/// The moments of transitions, and how long the state left was said to be held.
fn stays(recording: &Recording) -> Vec<(Moment, Option<u64>)> {
    let mut stays = Vec::new();
    for heard in &recording.heard {
        if let Update::Transition {
            time, in_state_ns, ..
        } = heard
        {
            stays.push((*time, *in_state_ns));
        }
    }
    stays
}

/// A loss that what follows gives away: a transition that leads to another state.
fn shows(event: &Event) -> bool {
    match event.body {
        Body::Transition(Transition { old, new, .. }) => old != new && new != Listen,
        Body::ResetReceived(_)
        | Body::ResetSent { .. }
        | Body::Accept { .. }
        | Body::Timewait { .. }
        | Body::TimewaitStep { .. }
        | Body::SynackRetransmit(_)
        | Body::Seed(_)
        | Body::ConnectFailed(_)
        | Body::Held(_)
        | Body::Rename(_)
        | Body::Exit(_) => false,
    }
}

#[test]
fn any_one_event_lost_leaves_a_gap_and_invents_nothing() {
    for (name, life) in lives() {
        let (_, whole) = play(&life);
        let truth = whole.ended()[0];
        let all_stays = stays(&whole);
        let mut events = life.clone();
        events.extend(afterwards().events());
        for (lost, event) in life.iter().enumerate() {
            for told in [false, true] {
                let context = format!("{name} without {event:?}");
                let (tracker, recording) = play_without(&events, lost..lost + 1, told);
                let ended = recording.ended();
                assert_eq!(ended.len(), 2, "{context}: {:?}", recording.lines());
                if told || shows(event) {
                    assert_nothing_invented(ended[0], truth, &context);
                }
                for stay in stays(&recording)
                    .iter()
                    .filter(|(time, _)| time.get() < 2 * START)
                {
                    let known = all_stays.contains(stay);
                    let unknown = stay.1.is_none();
                    assert!(known || unknown, "{context}: {stay:?} of {all_stays:?}");
                }
                let completeness = ended[0].connection.completeness;
                if shows(event) {
                    assert_ne!(completeness, Completeness::Full, "{context}");
                    let begins = matches!(
                        event.body,
                        Body::Transition(Transition {
                            old: Close | Listen,
                            ..
                        })
                    );
                    // What had begun unseen may have been there before.
                    let expected = match (begins, told) {
                        (false, _) => Completeness::Gap,
                        (true, true) => Completeness::Partial,
                        (true, false) => Completeness::Seeded,
                    };
                    assert_eq!(completeness, expected, "{context}");
                    assert_eq!(tracker.stats().gaps, u64::from(!begins), "{context}");
                }
                assert_eq!(tracker.stats().anomalies, 0, "{context}");
            }
        }
    }
}

#[test]
fn a_handshake_with_an_impossible_event_in_it_is_not_timed() {
    let story = Story::client().through(&[SynSent, SynSent, Established, Close]);
    let (tracker, recording) = play(&story.events());
    let connection = &recording.ended()[0].connection;
    assert_eq!(connection.completeness, Completeness::Gap);
    assert_eq!(connection.handshake.took, None);
    assert_eq!(connection.role, Role::Active);
    assert_eq!((tracker.stats().anomalies, tracker.stats().gaps), (1, 1));
}
