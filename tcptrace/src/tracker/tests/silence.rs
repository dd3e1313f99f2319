//! That no reset was seen is evidence only where one would have been.

use proptest::prelude::*;

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
                    recording.loss(&mut tracker, 1, LossPlace::Ring);
                }
                recording.event(&mut tracker, event);
            }
            if n == 2 {
                recording.loss(&mut tracker, 1, LossPlace::Ring);
            }
            recording.finish(&mut tracker);
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

proptest! {
    /// Every connect is refused by a RST. Whichever events are lost, and whenever that is told
    /// before the next settling, nothing is said to be unreachable.
    #[test]
    fn a_refused_connect_is_never_unreachable_whatever_is_lost(
        kept in prop::collection::vec(any::<bool>(), 60),
        told_at in prop::collection::vec(0..4_usize, 20),
        settled_after in prop::collection::vec(any::<bool>(), 60),
    ) {
        let fields = CloseFields {
            error: errno::ECONNREFUSED,
            ..closing()
        };
        let mut events: Vec<Event> = (0..20)
            .flat_map(|n| {
                Story::client()
                    .on(SOCKET + 64 * n)
                    .wait(n * 3 * MS / 2)
                    .goes(SynSent)
                    .receives_reset()
                    .closes(fields)
                    .events()
            })
            .collect();
        events.sort_by_key(|event| event.time_ns);
        let (mut tracker, mut recording) = (tracker(), Recording::default());
        let mut lost = 0;
        for (at, event) in events.iter().enumerate() {
            if kept[at] {
                recording.heard.extend(tracker.take(&Item::Event(*event)));
            } else {
                lost += 1;
            }
            // It may be told with the next event already, and must be before time is.
            if settled_after[at] || told_at[at / 3] == at % 3 {
                recording.loss(&mut tracker, lost, LossPlace::Ring);
                lost = 0;
            }
            if settled_after[at] {
                recording.time(&mut tracker, event.time_ns);
            }
        }
        recording.loss(&mut tracker, lost, LossPlace::Ring);
        recording.time(&mut tracker, u64::MAX);
        for ended in recording.ended() {
            prop_assert_ne!(ended.verdict, Verdict::Unreachable);
        }
    }
}
