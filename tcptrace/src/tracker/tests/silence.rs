//! That no reset was seen is evidence only where one would have been.

use super::*;
use crate::tracker::errno;

#[test]
fn that_no_reset_was_seen_says_nothing_while_events_are_lost() {
    let fields = CloseFields {
        error: errno::ECONNREFUSED,
        ..closing()
    };
    let refused = || Story::client().goes(SynSent).closes(fields).events();
    let verdict_with_loss_before = |n: usize| {
        let (_, recording) = {
            let mut tracker = tracker();
            let mut recording = Recording::default();
            for (at, event) in refused().iter().enumerate() {
                if at == n {
                    tracker.on_loss(1, LossPlace::Ring, &mut recording);
                }
                tracker.on_event(event, &mut recording);
            }
            if n == 2 {
                tracker.on_loss(1, LossPlace::Ring, &mut recording);
            }
            tracker.finish(&mut recording);
            (tracker, recording)
        };
        recording.ended()[0].verdict
    };
    // Before it all; in between; while the record waits.
    assert_eq!(verdict_with_loss_before(0), Verdict::Unreachable);
    assert_eq!(verdict_with_loss_before(1), Verdict::Unknown);
    assert_eq!(verdict_with_loss_before(2), Verdict::Unknown);
}

#[test]
fn that_no_reset_was_seen_says_nothing_of_a_connection_met_at_its_end() {
    let refused = CloseFields {
        error: errno::ECONNREFUSED,
        ..closing()
    };
    let story = Story::client()
        .already(SynSent)
        .receives_reset()
        .closes(refused);
    let (_, recording) = play(&story.events());
    assert_ne!(recording.ended()[0].verdict, Verdict::Unreachable);
    let story = Story::client()
        .already(FinWait2)
        .sends_reset()
        .closes(orphan());
    let (_, recording) = play(&story.events());
    assert_ne!(recording.ended()[0].verdict, Verdict::Graceful);
}

#[test]
fn that_no_reset_was_seen_says_nothing_where_the_end_does_not_follow() {
    // FIN_WAIT1→FIN_WAIT2 never came, and nobody says that anything was lost.
    let story = Story::client().through(&[SynSent, Established, FinWait1]);
    let (_, recording) = play(&story.already(FinWait2).closes(orphan()).events());
    assert_eq!(recording.ended()[0].verdict, Verdict::Unknown);
    // A gap long before the end is another matter.
    let story = Story::client()
        .goes(SynSent)
        .already(Established)
        .through(&[FinWait1, FinWait2]);
    let (_, recording) = play(&story.closes(orphan()).events());
    let ended = recording.ended()[0];
    assert_eq!(ended.connection.completeness, Completeness::Gap);
    assert_eq!(ended.verdict, Verdict::Graceful);
}
