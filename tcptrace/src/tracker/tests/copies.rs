//! Events of the second copies of programs: what they repeat is not heard, what they alone tell is.

use super::{lives::lives, *};

/// The same event as the second copy tells it, if there is one.
fn second(event: &Event) -> Option<Event> {
    let told = matches!(
        event.body,
        Body::Transition(_) | Body::ResetReceived(_) | Body::ResetSent { .. }
    );
    told.then_some(Event {
        recovered: true,
        time_ns: event.time_ns + 500,
        ..*event
    })
}

fn listener() -> Vec<Event> {
    Story::listener().through(&[Listen, Close]).events()
}

fn repeated(tracker: &Tracker) -> u64 {
    tracker.stats().repeated_transitions + tracker.stats().repeated_resets
}

#[test]
fn an_event_repeated_by_the_second_copy_is_ignored() {
    let listening = ("a listener", listener());
    for (name, life) in lives().into_iter().chain([listening]) {
        let (_, whole) = play(&life);
        for (at, event) in life.iter().enumerate() {
            let Some(again) = second(event) else {
                continue;
            };
            let mut events = life.clone();
            events.insert(at + 1, again);
            let (tracker, recording) = play(&events);
            let context = format!("{name}, twice {event:?}");
            assert_eq!(recording.lines(), whole.lines(), "{context}");
            assert_eq!(repeated(&tracker), 1, "{context}");
        }
    }
}

#[test]
fn an_event_only_from_the_second_copy_counts() {
    for (name, life) in lives().into_iter().chain([("a listener", listener())]) {
        let (_, whole) = play(&life);
        let recovered: Vec<_> = life
            .iter()
            .map(|event| Event {
                recovered: second(event).is_some(),
                ..*event
            })
            .collect();
        let (tracker, recording) = play(&recovered);
        assert_eq!(recording.lines(), whole.lines(), "{name}");
        assert_eq!(repeated(&tracker), 0, "{name}");
    }
}
