//! What the tracker said, kept.

use super::*;

/// An update, outliving the call that brought it.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    Entered(Connection),
    Transition {
        connection: Connection,
        from: TcpState,
        to: TcpState,
        time: Moment,
        in_state_ns: Option<u64>,
    },
    Established(Connection),
    Ended(Ended),
    Evicted(Connection),
    Accepted(Connection),
    Released(Release),
    SynackRetransmit(Endpoints),
    Reset {
        sent: bool,
    },
    Listener {
        listener: Listener,
        began: bool,
    },
    Lost {
        events: u64,
        place: LossPlace,
    },
}

impl Heard {
    /// As one line.
    fn line(&self) -> String {
        match self {
            Self::Entered(connection) => format!("entered {}", connection.id),
            Self::Transition {
                connection,
                from,
                to,
                ..
            } => format!("{} {} {}", connection.id, from.name(), to.name()),
            Self::Established(connection) => format!("established {}", connection.id),
            Self::Ended(ended) => {
                format!("ended {} {}", ended.connection.id, ended.verdict.name())
            }
            Self::Evicted(connection) => format!("evicted {}", connection.id),
            Self::Accepted(connection) => format!("accepted {}", connection.id),
            Self::Released(release) => {
                format!("released {} {}", release.id, release.outcome.name())
            }
            Self::SynackRetransmit(listener) => {
                format!("SYN-ACK retransmit {}", listener.local_port)
            }
            Self::Reset { sent } => {
                format!("reset {}", if *sent { "sent" } else { "received" })
            }
            Self::Listener { listener, began } => {
                let what = if *began { "began" } else { "ceased" };
                format!("listener {} {what}", listener.id)
            }
            Self::Lost { events, place } => format!("lost {events} {}", place.name()),
        }
    }
}

/// Every update in order.
#[derive(Debug, Default)]
pub(super) struct Recording {
    pub(super) heard: Vec<Heard>,
}

impl Sink for Recording {
    fn update(&mut self, update: Update<'_>) {
        self.heard.push(match update {
            Update::Entered(connection) => Heard::Entered(connection.clone()),
            Update::Transition {
                connection,
                from,
                to,
                time,
                in_state_ns,
            } => Heard::Transition {
                connection: connection.clone(),
                from,
                to,
                time,
                in_state_ns,
            },
            Update::Established(connection) => Heard::Established(connection.clone()),
            Update::Ended(ended) => Heard::Ended(ended.clone()),
            Update::Evicted(connection) => Heard::Evicted(connection.clone()),
            Update::Accepted(connection) => Heard::Accepted(connection.clone()),
            Update::Released(release) => Heard::Released(release.clone()),
            Update::SynackRetransmit(listener) => Heard::SynackRetransmit(*listener),
            Update::Reset { sent, .. } => Heard::Reset { sent },
            Update::Listener {
                listener, began, ..
            } => Heard::Listener {
                listener: *listener,
                began,
            },
            Update::Lost { events, place } => Heard::Lost { events, place },
        });
    }
}

impl Recording {
    /// What was said, a line each.
    pub(super) fn lines(&self) -> Vec<String> {
        self.heard.iter().map(Heard::line).collect()
    }

    /// The records.
    pub(super) fn ended(&self) -> Vec<&Ended> {
        self.heard
            .iter()
            .filter_map(|heard| {
                if let Heard::Ended(ended) = heard {
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
        tracker.on_event(event, &mut recording);
    }
    tracker.finish(&mut recording);
    (tracker, recording)
}

/// The one record of a story that went well: complete, and nothing was odd about it.
#[track_caller]
pub(super) fn record_of(story: Story) -> Ended {
    let (tracker, recording) = play(&story.events());
    let ended = recording.ended();
    assert_eq!(ended.len(), 1, "{:#?}", recording.lines());
    assert_eq!(ended[0].connection.completeness, Completeness::Full);
    assert_eq!((tracker.stats.gaps, tracker.stats.anomalies), (0, 0));
    assert!(tracker.is_empty());
    ended[0].clone()
}
