//! What ends a timewait socket before its time.

use super::{recording::sources, *};
use crate::feed::event::TimewaitArrival::{self, Fin, Reset};
use crate::tracker::time_wait::release::TimeWaitEntry;

/// A timewait socket's address.
const TIMEWAIT: u64 = SOCKET + 0x10_0000;
const SECOND: u64 = 1_000 * MS;

impl Story {
    /// A timewait socket is about to take over.
    fn allocates(self, awaits_fin: bool) -> Self {
        self.happens(Body::Timewait {
            timewait: Some(TIMEWAIT),
            awaits_fin,
        })
    }

    /// Something comes to it.
    fn timewait_gets(self, arrived: TimewaitArrival) -> Self {
        let endpoints = ends(40_000, 443);
        let body = Body::TimewaitStep { endpoints, arrived };
        self.on(TIMEWAIT).happens(body).on(SOCKET)
    }
}

/// All that is said where a timewait socket's life is seen, of which at most so many are watched.
fn said(story: Story, most: usize) -> (Tracker, Vec<String>) {
    let mut tracker = Tracker::new(TrackerConfig {
        sources: Sources {
            timewait: true,
            timewait_process: true,
            ..sources()
        },
        max_time_waits: most,
        ..TrackerConfig::default()
    });
    let mut recording = Recording::default();
    let events = story.events();
    for event in &events {
        recording.event(&mut tracker, event);
    }
    let last = events.last().map_or(0, |event| event.time_ns);
    recording.time(&mut tracker, last + SECOND);
    let lines = recording
        .heard
        .iter()
        .filter_map(|update| {
            let (what, id, time_wait) = if let Update::Ended(ended) = update {
                ("ended", ended.connection.id, ended.time_wait)
            } else if let Update::Released(release) = update {
                (release.outcome.name(), release.id, release.time_wait)
            } else {
                return None;
            };
            let entered = time_wait.map(|time_wait| time_wait.entered);
            Some(format!("{what} {id} {entered:?}"))
        })
        .collect();
    (tracker, lines)
}

/// Closed by us, and by the peer.
fn in_time_wait() -> Story {
    let story = Story::client().through(&[SynSent, Established, FinWait1, FinWait2]);
    story.allocates(false).closes(released())
}

/// Closed by us, and not yet by the peer.
fn in_fin_wait2() -> Story {
    let story = Story::client().through(&[SynSent, Established, FinWait1, FinWait2]);
    story.allocates(true).closes(orphan())
}

#[test]
fn a_rst_ends_time_wait_after_a_late_fin() {
    let story = in_fin_wait2().wait(SECOND).timewait_gets(Fin);
    let (_, lines) = said(story.clone().wait(SECOND).timewait_gets(Reset), 10);
    assert_eq!(
        lines,
        ["ended 1 None", "time_wait 1 Some(true)", "reset 1 None"]
    );
    // What ended is not ended again.
    let story = story.timewait_gets(Reset).timewait_gets(Reset);
    assert_eq!(said(story, 10).1.len(), 3);
}

#[test]
fn a_rst_ends_fin_wait2_without_time_wait() {
    let (_, lines) = said(in_fin_wait2().wait(SECOND).timewait_gets(Reset), 10);
    assert_eq!(lines, ["ended 1 None", "reset 1 Some(false)"]);
}

#[test]
fn an_address_belongs_to_who_had_it_last() {
    // The first one's FIN_WAIT2 ran out in the kernel, or its TIME_WAIT did: there is no event.
    for first in [in_fin_wait2(), in_time_wait()] {
        for awaits_fin in [true, false] {
            let second = first.clone().wait(SECOND).on(SOCKET + 0x800);
            let second = second.already(Close).between(ends(40_001, 443));
            let second = second.through(&[SynSent, Established, FinWait1, FinWait2]);
            let fields = if awaits_fin { orphan() } else { released() };
            let second = second.allocates(awaits_fin).closes(fields).wait(SECOND);
            let (_, lines) = said(second.timewait_gets(Reset), 10);
            let time_wait = if awaits_fin { "Some(false)" } else { "None" };
            assert_eq!(lines[2..], [format!("reset 2 {time_wait}")], "{lines:?}");
        }
    }
}

#[test]
fn a_release_at_once_follows_the_record() {
    let (_, lines) = said(in_time_wait().timewait_gets(Reset), 10);
    assert_eq!(lines, ["ended 1 Some(true)", "reset 1 None"]);
    let (_, lines) = said(in_fin_wait2().timewait_gets(Reset), 10);
    assert_eq!(lines, ["ended 1 None", "reset 1 Some(false)"]);
}

#[test]
fn a_new_connection_at_its_place_ends_time_wait_while_that_lasts() {
    for (seconds, expected) in [
        (1, &["ended 1 Some(true)", "reused 1 None"][..]),
        (61, &["ended 1 Some(true)"]),
    ] {
        let story = in_time_wait().wait(seconds * SECOND);
        let story = story.on(SOCKET + 0x800).already(Close);
        let story = story.through(&[SynSent, Established]);
        assert_eq!(said(story, 10).1, expected, "after {seconds} s");
    }
}

#[test]
fn flags_alone_say_nothing_of_time_wait_where_there_may_be_no_room() {
    let full = CloseFields {
        time_wait_full: true,
        ..released()
    };
    for path in [&[FinWait1, FinWait2][..], &[FinWait1, Closing]] {
        let story = Story::client().through(&[SynSent, Established]);
        let story = story.through(path);
        let entered = record_of(story.clone().closes(released())).time_wait;
        assert_eq!(
            entered,
            Some(TimeWaitEntry {
                entered: true,
                source: TimeWaitSource::Flags
            })
        );
        assert_eq!(record_of(story.closes(full)).time_wait, None);
    }
    let story = Story::client().through(&[SynSent, Established, FinWait1, FinWait2]);
    let (tracker, _) = play(&story.closes(full).events());
    assert_eq!(tracker.snapshot().stats.time_wait_unknown, 1);
    // The allocation is seen.
    let story = Story::client().through(&[SynSent, Established, FinWait1, FinWait2]);
    let (_, lines) = said(story.allocates(false).closes(full), 10);
    assert_eq!(lines, ["ended 1 Some(true)"]);
}

#[test]
fn a_new_timewait_socket_evicts_the_oldest() {
    let another = in_time_wait().wait(SECOND).on(SOCKET + 0x800);
    let another = another.already(Close).between(ends(40_001, 443));
    let another = another.through(&[SynSent, Established, FinWait1, FinWait2]);
    let (tracker, _) = said(another.clone().closes(released()), 1);
    // Nothing was allocated for it.
    assert_eq!(tracker.snapshot().stats.time_waits_evicted, 0);
    let (tracker, _) = said(another.allocates(false).closes(released()), 1);
    assert_eq!(tracker.snapshot().stats.time_waits_evicted, 1);
}
