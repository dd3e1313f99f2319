//! What the tracker said, kept.

use super::*;

/// An update as one line.
fn line(update: &Update) -> String {
    match update {
        Update::Entered(connection) => format!("entered {}", connection.id),
        Update::Transition {
            connection,
            from,
            to,
            ..
        } => format!("{} {} {}", connection.id, from.name(), to.name()),
        Update::Established(connection) => format!("established {}", connection.id),
        Update::Ended(ended) => {
            format!("ended {} {}", ended.connection.id, ended.verdict.name())
        }
        Update::Evicted(connection) => format!("evicted {}", connection.id),
        Update::Accepted(connection) => format!("accepted {}", connection.id),
        Update::Released(release) => {
            format!("released {} {}", release.id, release.outcome.name())
        }
        Update::SynackRetransmit(listener) => {
            format!("SYN-ACK retransmit {}", listener.local_port)
        }
        Update::Reset { sent, .. } => {
            format!("reset {}", if *sent { "sent" } else { "received" })
        }
        Update::Listener {
            listener, began, ..
        } => {
            let what = if *began { "began" } else { "ceased" };
            format!("listener {} {what}", listener.id)
        }
        Update::Stray { from, to, .. } => format!("stray {} {}", from.name(), to.name()),
        Update::Lost { events, place } => format!("lost {events} {}", place.name()),
    }
}

/// Every update in order.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) heard: Vec<Update>,
}

impl Recording {
    /// An event, with the time told before it: nothing is said late.
    pub(super) fn event(&mut self, tracker: &mut Tracker, event: &Event) {
        self.time(tracker, event.time_ns);
        self.heard.extend(tracker.apply(&Item::Event(*event)));
    }

    /// Time has passed.
    pub(super) fn time(&mut self, tracker: &mut Tracker, now_ns: u64) {
        self.heard.extend(tracker.apply(&Item::Time(now_ns)));
    }

    /// Events were lost.
    pub(super) fn loss(&mut self, tracker: &mut Tracker, events: u64, place: LossPlace) {
        self.lose(tracker, events, place, None);
    }

    /// Events of a kind were lost.
    pub(super) fn lose(
        &mut self,
        tracker: &mut Tracker,
        events: u64,
        place: LossPlace,
        kind: Option<EventKind>,
    ) {
        self.heard.extend(tracker.apply(&Item::Loss {
            events,
            place,
            kind,
        }));
    }

    /// The tracker stops, once every record was due.
    pub(super) fn finish(&mut self, tracker: &mut Tracker) {
        while let Some(due_ns) = tracker.next_due_ns() {
            self.time(tracker, due_ns);
        }
        self.heard.extend(tracker.finish());
    }

    /// What was said, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        self.heard.iter().map(line).collect()
    }

    /// The records.
    pub(super) fn ended(&self) -> Vec<&Ended> {
        self.heard
            .iter()
            .filter_map(|heard| {
                if let Update::Ended(ended) = heard {
                    Some(ended)
                } else {
                    None
                }
            })
            .collect()
    }
}

/// Every reset is seen, and nothing else that is optional.
pub(super) fn sources() -> Sources {
    Sources {
        resets: ResetHooks {
            received: true,
            sent: true,
        },
        ..Sources::default()
    }
}

/// A tracker that can see every reset.
pub(super) fn tracker() -> Tracker {
    Tracker::new(TrackerConfig {
        sources: sources(),
        ..TrackerConfig::default()
    })
}

/// Everything that is said of `events`, up to the tracker's end.
pub(super) fn play(events: &[Event]) -> (Tracker, Recording) {
    let mut tracker = tracker();
    let mut recording = Recording::default();
    for event in events {
        recording.event(&mut tracker, event);
    }
    recording.finish(&mut tracker);
    (tracker, recording)
}

/// The one record of a story that went well: complete, and nothing was odd about it.
#[track_caller]
pub(super) fn record_of(story: Story) -> Ended {
    let (tracker, recording) = play(&story.events());
    let ended = recording.ended();
    assert_eq!(ended.len(), 1, "{:#?}", recording.lines());
    assert_eq!(ended[0].connection.completeness, Completeness::Full);
    assert_eq!((tracker.stats().gaps, tracker.stats().anomalies), (0, 0));
    assert!(tracker.is_empty());
    ended[0].clone()
}
