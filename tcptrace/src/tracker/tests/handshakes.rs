//! How connects begin, row by row, up to ESTABLISHED or to the failure.

use super::*;
use crate::tracker::errno;

/// SYN_SENT→CLOSE with an error.
fn failed(error: u16) -> CloseFields {
    CloseFields {
        error,
        segments_sent: 1,
        ..closing()
    }
}

fn connecting() -> Story {
    Story::client().goes(SynSent)
}

/// What every attempt has that failed.
#[track_caller]
pub(super) fn assert_failed(story: Story, verdict: Verdict) -> Ended {
    let ended = record_of(story);
    let connection = &ended.connection;
    assert_eq!(ended.verdict, verdict);
    assert!(!connection.established);
    assert_eq!(
        (
            connection.handshake.took,
            connection.handshake.established_at
        ),
        (None, None)
    );
    assert_eq!(
        (connection.closing.first_fin, ended.half_closed_ns()),
        (None, None)
    );
    assert!(connection.handshake.opened.is_some());
    ended
}

#[test]
fn an_active_open_is_timed_from_syn_sent_to_established() {
    let story = Story::client()
        .goes(SynSent)
        .wait(30 * MS)
        .goes(Established);
    let (tracker, recording) = play(&story.events());
    assert_eq!(
        recording.lines(),
        [
            "entered 1",
            "1 CLOSE SYN_SENT",
            "1 SYN_SENT ESTABLISHED",
            "established 1"
        ]
    );
    let snapshot = tracker.snapshot();
    assert_eq!(snapshot.connections, [(Role::Active, Established, 1)]);
    assert_eq!((snapshot.live, snapshot.pending), (1, 0));
    let Some(Update::Established(connection)) = recording.heard.last() else {
        panic!("not established");
    };
    assert_eq!(
        connection.handshake.took,
        Some((31 * MS, HandshakeSource::SynSent))
    );
    assert_eq!(connection.handshake.opened, Moment::new(START));
    assert_eq!(
        connection.handshake.established_at,
        Moment::new(START + 31 * MS)
    );
    assert_eq!(connection.handshake.syn_retransmits, Some(1));
    assert_eq!(connection.handshake.srtt_us, Some(250));
}

#[test]
fn the_local_port_of_an_active_open_comes_with_established() {
    let (_, recording) = play(&Story::client().through(&[SynSent, Established]).events());
    let ports: Vec<_> = recording
        .heard
        .iter()
        .filter_map(|heard| match heard {
            Update::Transition { connection, .. } => Some(connection.endpoints?.local_port),
            Update::Entered(_)
            | Update::Established(_)
            | Update::Accepted(_)
            | Update::Released(_)
            | Update::SynackRetransmit(_)
            | Update::Ended(_)
            | Update::Evicted(_)
            | Update::Reset { .. }
            | Update::Listener { .. }
            | Update::Stray { .. }
            | Update::Lost { .. } => None,
        })
        .collect();
    assert_eq!(ports, [0, 40_000]);
}

#[test]
fn an_active_opens_process_is_who_called_connect_whoever_is_current_later() {
    let story = Story::client().through(&[SynSent, Established]).by(SERVER);
    let ended = record_of(story.through(&[FinWait1, FinWait2, Close]));
    let process = ended.connection.process.unwrap();
    assert_eq!((process.pid, process.source), (100, ProcessSource::Connect));
    assert_eq!(process.name(), "client");
    assert_eq!(ended.connection.owner.uid, Some(1000));
    assert_eq!(ended.connection.owner.cgroup, Some(7777));
}

#[test]
fn the_idle_task_is_nobodys_process() {
    let idle = Task { pid: 0, ..CLIENT };
    let ended = record_of(
        Story::client()
            .by(idle)
            .through(&[SynSent, Established, Close]),
    );
    assert_eq!(ended.connection.process, None);
}

#[test]
fn a_handshake_without_a_sample_has_no_round_trip_and_without_btf_nothing() {
    let told = |srtt_us| {
        let story = Story::client()
            .goes(SynSent)
            .goes(Established)
            .but(|details| {
                if let Details::Established { handshake, .. } = details {
                    handshake.as_mut().unwrap().srtt_us = srtt_us;
                }
            });
        record_of(story.goes(Close)).connection.handshake.srtt_us
    };
    assert_eq!((told(0), told(7)), (None, Some(7)));

    let story = Story::client()
        .goes(SynSent)
        .goes(Established)
        .but(|details| {
            if let Details::Established { handshake, .. } = details {
                *handshake = None;
            }
        });
    let connection = record_of(story.goes(Close)).connection;
    assert_eq!(
        (
            connection.handshake.syn_retransmits,
            connection.handshake.srtt_us
        ),
        (None, None)
    );
    assert_eq!(
        connection.handshake.took,
        Some((MS, HandshakeSource::SynSent))
    );
}

#[test]
fn a_reset_to_our_syn_is_a_refusal() {
    let story = connecting()
        .receives_reset()
        .closes(failed(errno::ECONNREFUSED));
    let (tracker, recording) = play(&story.clone().events());
    assert_eq!(
        recording.lines(),
        [
            "entered 1",
            "1 CLOSE SYN_SENT",
            "reset received",
            "1 SYN_SENT CLOSE",
            "ended 1 refused"
        ]
    );
    assert_eq!((tracker.stats().attempts, tracker.stats().failed), (1, 1));
    let ended = assert_failed(story, Verdict::Refused);
    assert_eq!(ended.connection.role, Role::Active);
    assert_eq!(ended.closed_by(), None);
}

#[test]
fn a_port_unreachable_is_no_refusal() {
    assert_failed(
        connecting().closes(failed(errno::ECONNREFUSED)),
        Verdict::Unreachable,
    );
}

#[test]
fn syns_that_nobody_answers_time_out_and_icmp_makes_them_unreachable() {
    assert_failed(
        connecting().closes(failed(errno::ETIMEDOUT)),
        Verdict::HandshakeTimeout,
    );
    for error in errno::ICMP {
        assert_failed(connecting().closes(failed(error)), Verdict::Unreachable);
    }
}

#[test]
fn close_while_connecting_is_the_applications_cancel() {
    let fields = CloseFields {
        receive_shut: true,
        send_shut: true,
        ..failed(0)
    };
    let ended = assert_failed(connecting().closes(fields), Verdict::Cancelled);
    assert_eq!(ended.closed_by(), Some(ClosedBy::Local));
}

#[test]
fn without_a_free_port_the_local_port_stays_0() {
    let story = connecting().between(ends(0, 443)).closes(CloseFields {
        segments_sent: 0,
        ..failed(0)
    });
    let ended = assert_failed(story, Verdict::NoLocalPort);
    assert!(!ended.connection.is_identified());
}

#[test]
fn a_connect_that_sent_nothing_failed_by_itself() {
    let fields = CloseFields {
        segments_sent: 0,
        ..failed(0)
    };
    assert_failed(connecting().closes(fields), Verdict::HandshakeFailed);
}

#[test]
fn a_restored_socket_shook_no_hands_here() {
    let story = connecting().goes(Established).but(|details| {
        if let Details::Established { handshake, .. } = details {
            *handshake = Some(HandshakeFields {
                repair: true,
                ..HandshakeFields::default()
            });
        }
    });
    let connection = record_of(story.goes(Close)).connection;
    assert!(connection.established);
    assert_eq!(connection.handshake.took, None);
}

#[test]
fn a_repaired_socket_is_established_without_a_packet() {
    let ended = record_of(Story::client().through(&[SynSent, Established, Close]));
    assert_eq!(ended.connection.role, Role::Active);
    assert_eq!(ended.verdict, Verdict::ResetByUs);
}

#[test]
fn crossed_syns_are_a_simultaneous_open_timed_from_connect() {
    let story = Story::client()
        .through(&[SynSent, SynRecv])
        .wait(9 * MS)
        .goes(Established);
    let (tracker, recording) = play(&story.clone().events());
    assert_eq!(
        recording.lines(),
        [
            "entered 1",
            "1 CLOSE SYN_SENT",
            "1 SYN_SENT SYN_RECV",
            "1 SYN_RECV ESTABLISHED",
            "established 1"
        ]
    );
    assert_eq!(
        tracker.snapshot().connections,
        [(Role::Simultaneous, Established, 1)]
    );
    let connection = record_of(story.goes(Close)).connection;
    assert_eq!(
        connection.handshake.took,
        Some((11 * MS, HandshakeSource::SynSent))
    );
    assert_eq!(connection.process.unwrap().source, ProcessSource::Connect);
    assert_eq!(connection.service_port(), None);
}

#[test]
fn a_socket_connected_to_itself_is_a_simultaneous_open() {
    let story = Story::client().between(Endpoints {
        remote_address: [10, 0, 0, 1].into(),
        ..ends(40_000, 40_000)
    });
    let story = story.through(&[SynSent, SynRecv, Established, FinWait1, Closing, Close]);
    let ended = record_of(story);
    assert_eq!(ended.connection.role, Role::Simultaneous);
    assert_eq!(
        ended.connection.closing.first_fin_by,
        Some(ClosedBy::Simultaneous)
    );
    assert_eq!(ended.verdict, Verdict::Graceful);
}
