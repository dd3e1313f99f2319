//! That no reset was seen is evidence only where one would have been.

use proptest::prelude::*;

use super::*;
use crate::tracker::{errno, tests::recording::sources, time_wait::release::TimeWaitEntry};

#[test]
fn an_unseen_reset_is_no_evidence_while_events_are_lost() {
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
fn an_unseen_reset_is_no_evidence_for_a_connection_first_seen_at_its_end() {
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
fn an_unseen_reset_is_no_evidence_if_the_end_does_not_follow() {
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

/// A connect that fails with ECONNREFUSED without a RST: unreachable, where a RST would have been
/// seen.
fn unreachable() -> Vec<Event> {
    let fields = CloseFields {
        error: errno::ECONNREFUSED,
        ..closing()
    };
    Story::client().goes(SynSent).closes(fields).events()
}

/// An orphan whose FIN was acknowledged: graceful, where a RST that follows would have been seen.
fn swapped() -> Vec<Event> {
    let story = Story::client().through(&[SynSent, Established, FinWait1, FinWait2]);
    story.closes(orphan()).events()
}

/// The verdict on `events`, with an item before the last event and one after it.
fn verdict_between(events: &[Event], before: Option<&Item>, after: Option<&Item>) -> Verdict {
    let (mut tracker, mut recording) = (tracker(), Recording::default());
    let (last, first) = events.split_last().expect("events");
    for event in first {
        recording.event(&mut tracker, event);
    }
    recording.heard.extend(
        before
            .into_iter()
            .flat_map(|item| tracker.apply(item).collect::<Vec<_>>()),
    );
    recording.event(&mut tracker, last);
    recording.heard.extend(
        after
            .into_iter()
            .flat_map(|item| tracker.apply(item).collect::<Vec<_>>()),
    );
    recording.time(&mut tracker, last.time_ns + GRACE_NS);
    recording.ended()[0].verdict
}

#[test]
fn only_lost_resets_make_their_absence_worthless() {
    for kind in [None]
        .into_iter()
        .chain(EventKind::ALL.iter().copied().map(Some))
    {
        let loss = Item::Loss {
            events: 1,
            place: LossPlace::Kernel,
            kind,
        };
        let may_be_a_reset = matches!(kind, None | Some(EventKind::Reset));
        for (events, silent) in [
            (unreachable(), Verdict::Unreachable),
            (swapped(), Verdict::Graceful),
        ] {
            let expected = if may_be_a_reset {
                Verdict::Unknown
            } else {
                silent
            };
            for at in [(Some(&loss), None), (None, Some(&loss))] {
                let verdict = verdict_between(&events, at.0, at.1);
                assert_eq!(verdict, expected, "{kind:?} {at:?}");
            }
        }
    }
}

#[test]
fn a_hook_attached_late_or_detached_early_is_no_evidence() {
    let hook = |witness, attached, time_ns| Item::Hook {
        witness,
        attached,
        time_ns,
    };
    for (events, witness, until_ns, silent) in [
        (
            unreachable(),
            EvidenceHook::ResetReceived,
            0,
            Verdict::Unreachable,
        ),
        (
            swapped(),
            EvidenceHook::ResetSent,
            GRACE_NS,
            Verdict::Graceful,
        ),
    ] {
        let closed_ns = events.last().expect("events").time_ns;
        let since_ns = events[events.len() - 2].time_ns;
        let verdict = |change| verdict_between(&events, Some(&change), None);
        // Gone before the last moment at which it could have spoken, and right after it.
        let last_ns = closed_ns + until_ns;
        assert_eq!(verdict(hook(witness, false, last_ns)), Verdict::Unknown);
        assert_eq!(verdict(hook(witness, false, last_ns + 1)), silent);
        // There before the first moment at which it could have spoken, and after it.
        assert_eq!(verdict(hook(witness, true, since_ns)), silent);
        assert_eq!(verdict(hook(witness, true, since_ns + 1)), Verdict::Unknown);
    }
}

#[test]
fn a_tracker_that_stops_within_the_grace_does_not_believe_the_silence_after_the_end() {
    for (early, verdict) in [(1, Verdict::Unknown), (0, Verdict::Graceful)] {
        let (mut tracker, mut recording) = (tracker(), Recording::default());
        for event in &swapped() {
            recording.event(&mut tracker, event);
        }
        let closed_ns = swapped().last().expect("events").time_ns;
        recording.time(&mut tracker, closed_ns + GRACE_NS - early);
        recording.heard.extend(tracker.finish());
        assert_eq!(recording.ended()[0].verdict, verdict);
    }
}

#[test]
fn a_timewait_hook_that_went_early_does_not_say_that_there_was_no_allocation() {
    let story = Story::client().through(&[SynSent, Established, FinWait1, FinWait2]);
    let fields = CloseFields {
        peer_fin: true,
        ..orphan()
    };
    let events = story.closes(fields).events();
    let closed_ns = events.last().expect("events").time_ns;
    for (gone_ns, time_wait) in [
        (
            closed_ns,
            Some(TimeWaitEntry {
                entered: true,
                source: TimeWaitSource::Flags,
            }),
        ),
        (
            closed_ns + 1,
            Some(TimeWaitEntry {
                entered: false,
                source: TimeWaitSource::TwskAlloc,
            }),
        ),
    ] {
        let mut tracker = Tracker::new(TrackerConfig {
            sources: Sources {
                timewait: true,
                ..sources()
            },
            ..TrackerConfig::default()
        });
        let mut recording = Recording::default();
        tracker.apply(&Item::Hook {
            witness: EvidenceHook::Timewait,
            attached: false,
            time_ns: gone_ns,
        });
        for event in &events {
            recording.event(&mut tracker, event);
        }
        recording.time(&mut tracker, closed_ns + GRACE_NS);
        assert_eq!(recording.ended()[0].time_wait, time_wait);
    }
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
        // By kind: one that is no reset is no excuse.
        let mut lost = [0, 0];
        let tell = |tracker: &mut Tracker, recording: &mut Recording, lost: &mut [u64; 2]| {
            let kinds = [EventKind::Transition, EventKind::Reset];
            for (kind, events) in kinds.into_iter().zip(std::mem::take(lost)) {
                recording.lose(tracker, events, LossPlace::Ring, Some(kind));
            }
        };
        for (at, event) in events.iter().enumerate() {
            if kept[at] {
                recording.heard.extend(tracker.apply(&Item::Event(*event)));
            } else {
                lost[usize::from(at % 3 == 1)] += 1;
            }
            // It may be told with the next event already, and must be before time is.
            if settled_after[at] || told_at[at / 3] == at % 3 {
                tell(&mut tracker, &mut recording, &mut lost);
            }
            if settled_after[at] {
                recording.time(&mut tracker, event.time_ns);
            }
        }
        tell(&mut tracker, &mut recording, &mut lost);
        recording.time(&mut tracker, u64::MAX);
        for ended in recording.ended() {
            prop_assert_ne!(ended.verdict, Verdict::Unreachable);
        }
    }
}
