//! How connections end, row by row, from ESTABLISHED on.

use super::*;
use crate::tracker::errno;

fn client() -> Story {
    Story::client().through(&[SynSent, Established])
}

fn child() -> Story {
    Story::child().through(&[SynRecv, Established])
}

fn with_peer_fin(fields: CloseFields) -> CloseFields {
    CloseFields {
        peer_fin: true,
        ..fields
    }
}

fn with_error(error: u16) -> CloseFields {
    CloseFields { error, ..closing() }
}

/// When the nth event of a story happens.
fn nth(n: u64) -> Option<Moment> {
    Moment::new(START + n * MS)
}

#[test]
fn an_active_close_that_sees_the_peers_fin() {
    let story = client().through(&[FinWait1, FinWait2]).wait(20 * MS);
    let story = story.closes(released());
    let (tracker, recording) = play(&story.clone().events());
    assert_eq!(
        recording.lines(),
        [
            "entered 1",
            "1 CLOSE SYN_SENT",
            "1 SYN_SENT ESTABLISHED",
            "established 1",
            "1 ESTABLISHED FIN_WAIT1",
            "1 FIN_WAIT1 FIN_WAIT2",
            "1 FIN_WAIT2 CLOSE",
            "ended 1 graceful"
        ]
    );
    assert_eq!(
        (tracker.stats().established, tracker.stats().closed),
        (1, 1)
    );
    let ended = record_of(story);
    assert_eq!(ended.connection.closing.first_fin_by, Some(ClosedBy::Local));
    assert_eq!(ended.connection.closing.first_fin, nth(2));
    assert_eq!(ended.closed_at, nth(24).unwrap());
    assert_eq!(ended.half_closed_ns(), Some(22 * MS));
    assert_eq!(ended.peer_fin(), Some(true));
    assert_eq!(ended.connection.state, FinWait2);
    assert_eq!(ended.fields, Some(released()));
}

#[test]
fn an_active_close_swapped_for_a_minisocket_does_not_know_the_peers_fin() {
    let ended = record_of(client().through(&[FinWait1, FinWait2]).closes(orphan()));
    assert_eq!(ended.verdict, Verdict::Graceful);
    assert_eq!(ended.closed_by(), Some(ClosedBy::Local));
    assert_eq!((ended.peer_fin(), ended.half_closed_ns()), (None, None));
}

#[test]
fn a_fin_that_waits_behind_data_has_no_time_and_its_acknowledgement_says_whose_was_first() {
    let story = client().fin_waits().goes(FinWait1).wait(20 * MS);
    let (tracker, _) = play(&story.clone().events());
    assert!(
        tracker
            .connections()
            .all(|held| held.closing.first_fin_by.is_none())
    );
    let ended = record_of(story.fin_leaves().goes(FinWait2).closes(released()));
    assert_eq!(ended.connection.closing.first_fin_by, Some(ClosedBy::Local));
    assert_eq!(
        (ended.connection.closing.first_fin, ended.half_closed_ns()),
        (None, None)
    );
    assert_eq!(ended.fin_wait2_ns(), Some(MS));
}

#[test]
fn a_fin_that_comes_while_ours_waits_is_the_first() {
    let ended = record_of(client().fin_waits().through(&[FinWait1, Closing, Close]));
    assert_eq!(ended.closed_by(), Some(ClosedBy::Remote));
    assert_eq!(ended.connection.closing.first_fin, nth(3));
    assert_eq!(ended.half_closed_ns(), None);
    // It left in the meantime, and the peer had not heard of it.
    let story = client().fin_waits().goes(FinWait1).fin_leaves();
    let ended = record_of(story.through(&[Closing, Close]));
    assert_eq!(ended.closed_by(), Some(ClosedBy::Simultaneous));
    assert_eq!(
        (ended.connection.closing.first_fin, ended.half_closed_ns()),
        (None, None)
    );
}

#[test]
fn a_second_fin_that_waits_has_no_time() {
    let story = child().goes(CloseWait).fin_waits().goes(LastAck);
    let ended = record_of(story.closes(released()));
    assert_eq!(ended.closed_by(), Some(ClosedBy::Remote));
    assert_eq!((ended.half_closed_ns(), ended.last_ack_ns()), (None, None));
}

#[test]
fn a_socket_that_ends_with_its_fin_unsent_has_not_closed() {
    for (in_flight, closed_by) in [(4, Some(ClosedBy::Remote)), (5, Some(ClosedBy::Local))] {
        let fields = CloseFields {
            unacknowledged: 5,
            in_flight,
            ..with_error(errno::ECONNRESET)
        };
        let story = client().fin_waits().goes(FinWait1).receives_reset();
        let ended = record_of(story.closes(fields));
        assert_eq!(ended.verdict, Verdict::ResetReceived);
        assert_eq!(ended.closed_by(), closed_by);
    }
}

#[test]
fn payload_is_told_by_sequence_numbers() {
    let fields = CloseFields {
        bytes_sent: 240,
        ..with_error(errno::ECONNRESET)
    };
    let sent = |story: Story, bytes_acked, in_flight, unacknowledged| {
        let fields = CloseFields {
            bytes_acked,
            in_flight,
            unacknowledged,
            ..fields
        };
        let (_, recording) = play(&story.closes(fields).events());
        recording.ended()[0].bytes_sent()
    };
    // The SYN is the client's own; what waits has not left.
    assert_eq!(sent(client(), 1, 72, 100), Some(72));
    assert_eq!(sent(child(), 30, 42, 42), Some(72));
    // The FIN counts when it has left.
    assert_eq!(sent(child().goes(FinWait1), 30, 43, 43), Some(72));
    assert_eq!(sent(child().goes(FinWait1), 30, 42, 43), Some(72));
    // Whether there was a SYN among it the socket's own count can tell, if nothing was tried twice.
    let met = || Story::client().already(Established);
    assert_eq!(sent(met(), 240, 0, 0), Some(240));
    assert_eq!(sent(met(), 241, 0, 0), Some(240));
    assert_eq!(sent(met(), 73, 0, 0), None);
    // No SYN left.
    let nothing = CloseFields::default();
    let story = Story::client().goes(SynSent).closes(nothing);
    assert_eq!(record_of(story).bytes_sent(), Some(0));
}

#[test]
fn a_passive_close_is_half_closed_until_we_close_too() {
    let story = child()
        .goes(CloseWait)
        .wait(70 * MS)
        .goes(LastAck)
        .wait(3 * MS);
    let ended = record_of(story.closes(released()));
    assert_eq!(ended.verdict, Verdict::Graceful);
    assert_eq!(ended.closed_by(), Some(ClosedBy::Remote));
    assert_eq!(
        (
            ended.connection.closing.first_fin,
            ended.connection.closing.second_fin
        ),
        (nth(2), nth(73))
    );
    assert_eq!(ended.half_closed_ns(), Some(71 * MS));
    assert_eq!(ended.peer_fin(), Some(true));
    assert_eq!(ended.connection.state, LastAck);
}

#[test]
fn fins_that_cross_close_simultaneously() {
    let story = client()
        .goes(FinWait1)
        .wait(5 * MS)
        .goes(Closing)
        .wait(9 * MS);
    let ended = record_of(story.closes(released()));
    assert_eq!(ended.verdict, Verdict::Graceful);
    assert_eq!(ended.closed_by(), Some(ClosedBy::Simultaneous));
    assert_eq!(ended.half_closed_ns(), Some(6 * MS));
    assert_eq!(ended.peer_fin(), Some(true));
}

#[test]
fn close_after_shutdown_enters_the_same_state_and_changes_nothing() {
    let graceful = released();
    for (path, again, rest) in [
        (&[FinWait1][..], FinWait1, &[FinWait2][..]),
        (&[FinWait1, FinWait2], FinWait2, &[]),
        (&[FinWait1, Closing], Closing, &[]),
        (&[CloseWait, LastAck], LastAck, &[]),
    ] {
        let before = client().through(path).wait(10 * MS);
        let with = record_of(before.clone().goes(again).through(rest).closes(graceful));
        let without = record_of(before.wait(MS).through(rest).closes(graceful));
        assert_eq!(with.verdict, Verdict::Graceful);
        let phases = |ended: &Ended| {
            let connection = &ended.connection;
            let fins = (connection.closing.first_fin, connection.closing.second_fin);
            (
                fins,
                connection.closing.first_fin_by,
                ended.half_closed_ns(),
                ended.closed_at,
            )
        };
        assert_eq!(phases(&with), phases(&without), "{again:?} again");
    }
}

#[test]
fn a_transition_tells_how_long_the_state_left_was_held() {
    let story = client()
        .wait(6 * MS)
        .goes(FinWait1)
        .goes(FinWait1)
        .goes(FinWait2)
        .goes(Close);
    let (_, recording) = play(&story.events());
    let mut held = Vec::new();
    for heard in &recording.heard {
        if let Update::Transition { in_state_ns, .. } = heard {
            held.push(in_state_ns.map(|ns| ns / MS));
        }
    }
    // FIN_WAIT1 was entered once, though two transitions name it as theirs.
    assert_eq!(held, [None, Some(1), Some(7), Some(1), Some(2), Some(1)]);
}

#[test]
fn an_aborting_close_is_a_reset_by_us() {
    let closed = CloseFields {
        receive_shut: true,
        send_shut: true,
        ..closing()
    };
    let unread = CloseFields {
        unread: 1,
        ..closed
    };
    for (fields, verdict) in [
        // SO_LINGER 0; connect(AF_UNSPEC); unread data.
        (closed, Verdict::ResetByUs),
        (closing(), Verdict::ResetByUs),
        (unread, Verdict::UnreadData),
    ] {
        let ended = record_of(client().closes(fields).sends_reset());
        assert_eq!(ended.verdict, verdict);
        assert_eq!(ended.closed_by(), Some(ClosedBy::Local));
        assert_eq!(ended.peer_fin(), Some(false));
        assert!(ended.reset_after);
        assert_eq!(ended.half_closed_ns(), None);
        let after_peer = record_of(client().goes(CloseWait).closes(with_peer_fin(fields)));
        assert_eq!(after_peer.verdict, verdict);
        assert_eq!(after_peer.half_closed_ns(), Some(MS));
        assert_eq!(after_peer.closed_by(), Some(ClosedBy::Remote));
    }
}

#[test]
fn a_reset_from_the_peer_is_one_in_every_state() {
    for (path, error) in [
        (&[][..], errno::ECONNRESET),
        (&[CloseWait], errno::EPIPE),
        (&[CloseWait, LastAck], errno::ECONNRESET),
        (&[FinWait1], errno::ECONNRESET),
        (&[FinWait1, FinWait2], errno::ECONNRESET),
        (&[FinWait1, Closing], errno::ECONNRESET),
    ] {
        let story = client()
            .through(path)
            .receives_reset()
            .closes(with_error(error));
        let ended = record_of(story);
        assert_eq!(ended.verdict, Verdict::ResetReceived, "{path:?}");
        assert!(ended.connection.resets.received);
        if path.is_empty() {
            assert_eq!(ended.closed_by(), Some(ClosedBy::Remote));
        }
    }
}

#[test]
fn a_peer_that_is_gone_is_told_by_what_was_outstanding() {
    let timeout = with_error(errno::ETIMEDOUT);
    let keepalive = CloseFields {
        probes_out: 9,
        ..timeout
    };
    let ended = record_of(client().sends_reset().closes(keepalive));
    assert_eq!(ended.verdict, Verdict::KeepaliveTimeout);
    assert!(ended.connection.resets.sent && !ended.reset_after);

    let retransmission = CloseFields {
        unacknowledged: 1000,
        ..timeout
    };
    let ended = record_of(client().closes(retransmission));
    assert_eq!(ended.verdict, Verdict::RetransmissionTimeout);

    let zero_window = CloseFields {
        send_window: 0,
        ..retransmission
    };
    assert_eq!(
        record_of(client().closes(zero_window)).verdict,
        Verdict::ZeroWindowTimeout
    );
}

#[test]
fn a_connection_killed_by_ss_is_killed_in_every_state() {
    let paths: [&[TcpState]; 7] = [
        &[SynSent],
        &[SynSent, SynRecv],
        &[SynSent, Established],
        &[SynSent, Established, FinWait1],
        &[SynSent, Established, FinWait1, FinWait2],
        &[SynSent, Established, CloseWait],
        &[SynSent, Established, CloseWait, LastAck],
    ];
    for path in paths {
        let story = Story::client().through(path).sends_reset();
        let ended = record_of(story.closes(with_error(errno::ECONNABORTED)));
        assert_eq!(ended.verdict, Verdict::Killed, "{path:?}");
    }
}

#[test]
fn data_after_our_close_is_told_from_a_reset_in_each_of_its_shapes() {
    let waiting = || client().through(&[FinWait1, FinWait2]);
    // On the full socket: the kernel acts as on a RST, though none came in, and sends one.
    let reset = CloseFields {
        error: errno::ECONNRESET,
        ..orphan()
    };
    let story = waiting().receives_reset().closes(reset).sends_reset();
    assert_eq!(record_of(story).verdict, Verdict::DataAfterClose);
    // After shutdown(RDWR) without close().
    let shut = CloseFields {
        dead: false,
        has_socket: true,
        ..reset
    };
    let story = waiting().receives_reset().closes(shut).sends_reset();
    assert_eq!(record_of(story).verdict, Verdict::DataAfterClose);
    // On the acknowledgement of our FIN.
    let story = waiting().closes(orphan()).sends_reset();
    let ended = record_of(story);
    assert_eq!(ended.verdict, Verdict::DataAfterClose);
    assert_eq!(ended.closed_by(), Some(ClosedBy::Local));
}

#[test]
fn an_orphan_that_died_in_fin_wait2_did_not_get_the_peers_fin() {
    let waiting = || client().through(&[FinWait1, FinWait2]);
    let reset = CloseFields {
        error: errno::ECONNRESET,
        ..orphan()
    };
    // By the peer's reset; by its data; by the timer.
    for story in [
        waiting().receives_reset().closes(reset),
        waiting().closes(orphan()).sends_reset(),
        waiting().sends_reset().closes(orphan()),
    ] {
        let ended = record_of(story);
        assert_eq!(ended.peer_fin(), Some(false), "{:?}", ended.verdict);
        assert_eq!(ended.half_closed_ns(), None);
    }
}

#[test]
fn an_orphan_that_waited_too_long_for_the_peers_fin() {
    let story = client()
        .through(&[FinWait1, FinWait2])
        .wait(60_000 * MS)
        .sends_reset();
    assert_eq!(
        record_of(story.closes(orphan())).verdict,
        Verdict::FinWaitTimeout
    );
}

#[test]
fn a_child_that_nobody_accepted_ends_with_its_listener() {
    let never_given_out = CloseFields {
        has_socket: false,
        ..closing()
    };
    for path in [&[][..], &[CloseWait]] {
        let story = child().through(path).closes(never_given_out).sends_reset();
        assert_eq!(record_of(story).verdict, Verdict::NotAccepted, "{path:?}");
    }
}

#[test]
fn a_passive_connections_process_is_who_closed_it_where_no_listener_is_known() {
    let closed = |task| record_of(child().by(task).through(&[FinWait1, FinWait2, Close]));
    let process = closed(CLIENT).connection.process.unwrap();
    assert_eq!((process.pid, process.source), (100, ProcessSource::Close));
    let thread = Task {
        kernel: true,
        ..CLIENT
    };
    assert_eq!(closed(thread).connection.process, None);
    // The peer's FIN is anybody's interrupt; our own is the closer's.
    let ended = record_of(
        child()
            .goes(CloseWait)
            .by(CLIENT)
            .through(&[LastAck, Close]),
    );
    assert_eq!(ended.connection.process.unwrap().pid, 100);
}

#[test]
fn without_btf_the_phases_are_known_and_the_cause_is_not() {
    let story = client()
        .through(&[FinWait1, FinWait2, Close])
        .but(|details| {
            if let Details::Close { fields, .. } = details {
                *fields = None;
            }
        });
    let ended = record_of(story);
    assert_eq!(ended.verdict, Verdict::Unknown);
    assert_eq!(ended.closed_by(), Some(ClosedBy::Local));
    assert_eq!((ended.peer_fin(), ended.fields), (None, None));
    assert_eq!(
        ended.connection.handshake.took,
        Some((MS, HandshakeSource::SynSent))
    );
}
