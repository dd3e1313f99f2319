//! Lives of every kind, to lose events of.

use std::ops::Range;

use super::*;
use crate::tracker::errno;

/// Lives of every kind, by name; a listener's among them.
pub(super) fn lives() -> Vec<(&'static str, Vec<Event>)> {
    let client = || Story::client().through(&[SynSent, Established]);
    let child = || Story::child().through(&[SynRecv, Established]);
    let error = |error| CloseFields { error, ..closing() };
    let by_ours = || client().through(&[FinWait1, FinWait2]);
    let listener = Story::listener().goes(Listen).events();
    let mut listened = listener;
    listened.extend(
        child()
            .wait(MS)
            .through(&[CloseWait, LastAck])
            .goes(Close)
            .events(),
    );
    vec![
        ("active close", by_ours().goes(Close).events()),
        (
            "swapped for a minisocket",
            by_ours().closes(orphan()).events(),
        ),
        (
            "passive close",
            child().through(&[CloseWait, LastAck]).goes(Close).events(),
        ),
        ("of a listener", listened),
        (
            "simultaneous close",
            client().through(&[FinWait1, Closing]).goes(Close).events(),
        ),
        (
            "simultaneous open",
            Story::client()
                .through(&[SynSent, SynRecv, Established, Close])
                .events(),
        ),
        (
            "fast open",
            Story::child()
                .through(&[SynRecv, FinWait1, FinWait2])
                .closes(orphan())
                .events(),
        ),
        (
            "close after shutdown",
            client()
                .through(&[FinWait1, FinWait1, FinWait2, FinWait2])
                .goes(Close)
                .events(),
        ),
        (
            "failed child",
            Story::child().through(&[SynRecv, Close]).events(),
        ),
        ("aborted", client().goes(Close).sends_reset().events()),
        (
            "reset",
            client()
                .receives_reset()
                .closes(error(errno::ECONNRESET))
                .events(),
        ),
        (
            "reset half-closed",
            client()
                .goes(CloseWait)
                .closes(error(errno::EPIPE))
                .events(),
        ),
        (
            "refused",
            Story::client()
                .goes(SynSent)
                .receives_reset()
                .closes(error(errno::ECONNREFUSED))
                .events(),
        ),
        (
            "port unreachable",
            Story::client()
                .goes(SynSent)
                .closes(error(errno::ECONNREFUSED))
                .events(),
        ),
        (
            "data after close",
            by_ours()
                .closes(CloseFields {
                    error: errno::ECONNRESET,
                    ..orphan()
                })
                .sends_reset()
                .events(),
        ),
        (
            "data on the acknowledgement",
            by_ours().closes(orphan()).sends_reset().events(),
        ),
        (
            "FIN_WAIT2 timeout",
            by_ours().sends_reset().closes(orphan()).events(),
        ),
    ]
}

/// What another connection of the same address does, long after.
pub(super) fn afterwards() -> Story {
    Story::client()
        .between(ends(41_000, 80))
        .wait(10_000 * MS)
        .through(&[SynSent, Established, CloseWait, LastAck])
        .goes(Close)
}

/// Plays `events` without `lost`; `told` says whether the loss is noticed where it happens.
pub(super) fn play_without(
    events: &[Event],
    lost: Range<usize>,
    told: bool,
) -> (Tracker, Recording) {
    let mut tracker = tracker();
    let mut recording = Recording::default();
    for (n, event) in events.iter().enumerate() {
        if !lost.contains(&n) {
            recording.event(&mut tracker, event);
        } else if told {
            recording.loss(&mut tracker, 1, LossPlace::Ring);
        }
    }
    recording.finish(&mut tracker);
    (tracker, recording)
}
