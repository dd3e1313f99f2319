//! How children of listeners begin, up to ESTABLISHED or to the failure.

use super::{handshakes::assert_failed, *};
use crate::feed::event::{HandshakeRequest, RequestFields};

/// LISTEN→SYN_RECV as up to Linux 6.14: the remote end is not set yet.
fn old_child() -> Story {
    Story::child().goes(SynRecv).but(|details| {
        if let Details::PassiveOpen { endpoints, .. } = details {
            endpoints.remote_address = [0, 0, 0, 0].into();
            endpoints.remote_port = 0;
        }
    })
}

#[test]
fn a_passive_open_has_no_handshake_time_on_any_kernel() {
    for story in [old_child(), Story::child().goes(SynRecv)] {
        let (_, recording) = play(&story.clone().goes(Established).events());
        assert_eq!(
            recording.lines(),
            [
                "entered 1",
                "1 LISTEN SYN_RECV",
                "1 SYN_RECV ESTABLISHED",
                "established 1"
            ]
        );
        let ended = record_of(story.through(&[Established, CloseWait, LastAck, Close]));
        let connection = &ended.connection;
        assert_eq!(connection.role, Role::Passive);
        assert_eq!(connection.handshake.took, None);
        assert_eq!(connection.handshake.srtt_us, Some(250));
        assert_eq!(connection.handshake.syn_retransmits, Some(1));
        assert_eq!(connection.handshake.opened, Moment::new(START));
        assert_eq!(connection.handshake.established_at, Moment::new(START + MS));
        assert_eq!(connection.endpoints, Some(ends(443, 50_000)));
        assert_eq!(connection.service_port(), Some(443));
    }
}

/// The handshake of a child that is made at `START`, established a millisecond later.
fn handshake_of_child(
    request: HandshakeRequest,
    fields: HandshakeFields,
) -> Option<(u64, HandshakeSource)> {
    let story = Story::child()
        .asked(request)
        .through(&[SynRecv, Established])
        .but(|details| {
            if let Details::Established { handshake, .. } = details {
                *handshake = Some(fields);
            }
        })
        .goes(Close);
    record_of(story).connection.handshake.took
}

#[test]
fn a_passive_opens_handshake_begins_with_the_syn_ack() {
    let at_us = |synack_us| HandshakeRequest {
        seen: Some(RequestFields {
            synack_us,
            ..RequestFields::default()
        }),
        ..HandshakeRequest::default()
    };
    let round_trip = HandshakeFields {
        srtt_us: 250,
        last_ack_data: Some(false),
        ..HandshakeFields::default()
    };
    let established_us = (START + MS) / 1_000;
    for (request, took_us) in [
        (at_us(Some(established_us - 40_000)), Some(40_000)),
        (at_us(Some(established_us)), Some(0)),
        // A SYN cookie's, and a time that has not come yet: no other source steps in.
        (at_us(None), None),
        (at_us(Some(established_us + 1)), None),
        (at_us(Some(u64::MAX)), None),
        (
            HandshakeRequest {
                deferred: Some(true),
                ..at_us(Some(established_us - 40_000))
            },
            None,
        ),
    ] {
        assert_eq!(
            handshake_of_child(request, round_trip),
            took_us.map(|took| (took * 1_000, HandshakeSource::Synack)),
            "{request:?}"
        );
    }
    let restored = HandshakeFields {
        repair: true,
        ..round_trip
    };
    let request = at_us(Some(established_us - 40_000));
    assert_eq!(handshake_of_child(request, restored), None);
    assert_eq!(
        handshake_of_child(HandshakeRequest::default(), round_trip),
        Some((250_000, HandshakeSource::Srtt))
    );
}

#[test]
fn an_old_kernels_child_is_not_identified_before_established() {
    let entered = |story: Story| {
        let (_, recording) = play(&story.events());
        let Some(Update::Entered(connection)) = recording.heard.first().cloned() else {
            panic!("nothing entered");
        };
        connection.is_identified()
    };
    assert!(!entered(old_child()));
    assert!(entered(Story::child().goes(SynRecv)));
}

#[test]
fn a_fin_on_the_final_ack_closes_at_once() {
    let ended =
        record_of(Story::child().through(&[SynRecv, Established, CloseWait, LastAck, Close]));
    assert_eq!(
        ended.connection.closing.first_fin_by,
        Some(ClosedBy::Remote)
    );
    assert_eq!(ended.half_closed_ns(), Some(MS));
}

#[test]
fn a_fast_open_child_may_be_closed_before_it_is_established() {
    let story = Story::child().goes(SynRecv).goes(FinWait1);
    let (_, recording) = play(&story.clone().events());
    assert_eq!(
        recording.lines(),
        [
            "entered 1",
            "1 LISTEN SYN_RECV",
            "1 SYN_RECV FIN_WAIT1",
            "established 1"
        ]
    );
    let ended = record_of(story.through(&[FinWait2, Close]));
    assert!(ended.connection.established);
    assert_eq!(ended.connection.handshake.established_at, None);
    assert_eq!(ended.connection.closing.first_fin_by, Some(ClosedBy::Local));
    let process = ended.connection.process.unwrap();
    assert_eq!((process.pid, process.source), (200, ProcessSource::Close));
}

#[test]
fn a_child_with_data_before_it_is_established_is_one_of_fast_open() {
    let child = Story::child().goes(SynRecv);
    let ended = record_of(child.goes_with(Close, closing()));
    assert!(ended.connection.established);
    assert_eq!(ended.connection.handshake.established_at, None);
    assert_eq!(ended.connection.handshake.fast_open, Some(true));
    assert_eq!(ended.connection.handshake.took, None);
}

#[test]
fn a_failed_child_was_never_established() {
    let ended = assert_failed(
        Story::child().goes(SynRecv).goes(Close),
        Verdict::HandshakeFailed,
    );
    assert_eq!(ended.connection.role, Role::Passive);
}
