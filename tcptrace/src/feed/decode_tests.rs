//! What the kernel side sends, decoded: exactly that, and never a panic.

#[path = "decode_tests/refused.rs"]
mod refused;
#[path = "decode_tests/samples.rs"]
mod samples;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use tcptrace_common::{
    BIND_ALL, BIND_KNOWN, BIND_REUSEPORT, BIND_STEERED, BIND_TRANSPARENT, BIND_V6ONLY, FAMILY_INET,
    FAMILY_INET6, FIELDS_KTHREAD, FIELDS_TCP, FIELDS_USER, HANDSHAKE_ACK_DATA, HANDSHAKE_ACK_SEEN,
    HANDSHAKE_ALL, HANDSHAKE_SYN_DATA, OPEN_ALL, OPEN_DEFER_KNOWN, OPEN_DEFERRED, OPEN_FAST,
    OPEN_REQUEST_SEEN, SOCK_DEAD, SOCK_DONE, SOCK_FLAGS_ALL, SOCK_HAS_SOCKET,
    SOCK_LINGER2_NEGATIVE, SOCK_TIMEWAIT_FULL,
};

use self::samples::*;
use super::*;
use crate::feed::event::{
    Bind, CloseFields, Endpoints, HandshakeFields, HandshakeRequest, RequestFields, SocketOwner,
    Task, Transition,
};

/// The event that `samples()` should become.
fn expected(old: TcpState, new: TcpState, details: Details) -> Event {
    use TcpState::{Closing, FinWait1, FinWait2, LastAck};
    let tells = matches!(new, FinWait1 | FinWait2 | LastAck | Closing);
    Event {
        time_ns: 1_000_000_007,
        socket: SOCKET,
        cookie: Some(42),
        recovered: false,
        body: Body::Transition(Transition {
            old,
            new,
            details,
            fin_left: tells.then_some(true),
        }),
    }
}

#[test]
fn each_kind_decodes_to_exactly_what_was_sent() {
    use TcpState::{Close, Established, FinWait1, FinWait2, LastAck, Listen, SynRecv, SynSent};
    let details = Details::Open {
        endpoints: ENDS,
        owner: OWNER,
        task: TASK,
        bind: Some(Bind {
            reuse_port: true,
            ..Bind::default()
        }),
    };
    assert_eq!(
        decode(&bytes_of(&open())),
        Ok(expected(Close, SynSent, details))
    );
    let details = Details::PassiveOpen {
        endpoints: ENDS,
        owner: OWNER,
        request: REQUEST,
        bind: Some(Bind {
            transparent: true,
            steered: true,
            ..Bind::default()
        }),
    };
    assert_eq!(
        decode(&bytes_of(&passive_open())),
        Ok(expected(Listen, SynRecv, details))
    );
    let details = Details::Established {
        endpoints: ENDS,
        handshake: Some(HandshakeFields {
            srtt_us: 250_362,
            retransmits: 2,
            syn_ns: Some(999_600_001),
            fastopen_connect: false,
            syn_data: true,
            repair: false,
            last_ack_data: Some(false),
        }),
    };
    assert_eq!(
        decode(&bytes_of(&established())),
        Ok(expected(SynSent, Established, details))
    );
    assert_eq!(
        decode(&bytes_of(&step())),
        Ok(expected(FinWait1, FinWait2, Details::Step))
    );
    let details = Details::Release { task: TASK };
    assert_eq!(
        decode(&bytes_of(&release())),
        Ok(expected(Established, FinWait1, details))
    );
    let details = Details::Close {
        endpoints: ENDS,
        fields: Some(CloseFields {
            bytes_sent: 4000,
            bytes_acked: 3998,
            in_flight: 4,
            time_wait_full: false,
            bytes_received: 300,
            segments_sent: 11,
            segments_received: 12,
            retransmits: 3,
            srtt_us: 99,
            error: 104,
            unread: 20,
            unacknowledged: 5,
            send_window: 65_535,
            receive_shut: false,
            send_shut: true,
            dead: false,
            peer_fin: true,
            has_socket: true,
            linger2_negative: false,
            repair: false,
            probes_out: 4,
        }),
    };
    assert_eq!(
        decode(&bytes_of(&close())),
        Ok(expected(LastAck, Close, details))
    );
}

#[test]
fn a_reset_tells_its_direction_and_both_ends() {
    for (kind, body) in [
        (KIND_RESET_RECEIVED, Body::ResetReceived(ENDS)),
        (
            KIND_RESET_SENT,
            Body::ResetSent {
                endpoints: ENDS,
                reason: Some(REASON),
            },
        ),
    ] {
        let event = decode(&bytes_of(&reset(kind))).unwrap();
        assert_eq!((event.socket, event.body), (SOCKET, body));
    }
}

#[test]
fn a_kernel_without_reasons_tells_none() {
    let event = ResetEvent {
        reason: REASON_NONE,
        ..reset(KIND_RESET_SENT)
    };
    let Body::ResetSent { reason, .. } = decode(&bytes_of(&event)).unwrap().body else {
        panic!("no reset");
    };
    assert_eq!(reason, None);
}

#[test]
fn each_event_without_a_transition_decodes_to_what_was_sent() {
    let body = |bytes: Vec<u8>| decode(&bytes).unwrap().body;
    assert_eq!(
        body(bytes_of(&accept())),
        Body::Accept {
            state: TcpState::CloseWait,
            endpoints: ENDS,
            task: TASK,
            listener: Some(0xffff_8880_0000_2000),
        }
    );
    for (timewait, address) in [(TIMEWAIT, Some(TIMEWAIT)), (0, None)] {
        for (substate, awaits_fin) in [(TcpState::FinWait2, true), (TcpState::TimeWait, false)] {
            let event = TimewaitEvent {
                timewait,
                substate: substate.raw(),
                ..self::timewait()
            };
            assert_eq!(
                body(bytes_of(&event)),
                Body::Timewait {
                    timewait: address,
                    awaits_fin
                }
            );
        }
    }
    for (new, status, arrived) in [
        (TcpState::TimeWait, 2, TimewaitArrival::Fin),
        (TcpState::FinWait2, 1, TimewaitArrival::Refused),
    ] {
        let mut event = timewait_step();
        (event.header.new_state, event.status) = (new.raw(), status);
        assert_eq!(
            body(bytes_of(&event)),
            Body::TimewaitStep {
                endpoints: ENDS,
                arrived
            }
        );
    }
    assert_eq!(
        body(bytes_of(&synack_retransmit())),
        Body::SynackRetransmit(ENDS)
    );
    assert_eq!(
        body(bytes_of(&seed())),
        Body::Seed(Seed {
            state: TcpState::FinWait2,
            endpoints: ENDS,
            owner: OWNER,
            inode: Some(4242),
            bind: None,
        })
    );
    for (kind, expected) in [
        (KIND_RENAME, Body::Rename(TASK)),
        (KIND_EXIT, Body::Exit(TASK)),
    ] {
        assert_eq!(body(bytes_of(&process(kind))), expected);
    }
}

#[test]
fn a_request_says_what_it_knows() {
    let request = |open_flags, synack_us| {
        let event = PassiveOpenEvent {
            open_flags,
            synack_us,
            listener: 0,
            ..passive_open()
        };
        let Details::PassiveOpen { request, .. } = transition(&bytes_of(&event)).details else {
            panic!("no passive open");
        };
        request
    };
    assert_eq!(request(0, 0), HandshakeRequest::default());
    // A SYN cookie left no time, and Fast Open has none yet.
    assert_eq!(request(OPEN_REQUEST_SEEN, 0).seen.unwrap().synack_us, None);
    assert!(
        request(OPEN_REQUEST_SEEN | OPEN_FAST, 0)
            .seen
            .unwrap()
            .fast_open
    );
    assert_eq!(request(OPEN_DEFER_KNOWN, 0).deferred, Some(false));
    assert_eq!(
        request(OPEN_DEFER_KNOWN | OPEN_DEFERRED, 0).deferred,
        Some(true)
    );
}

#[test]
fn without_btf_what_could_not_be_read_is_absent() {
    let mut open = open();
    (open.header.fields, open.header.cookie) = (0, 0);
    (open.endpoints.netns, open.cgroup, open.uid) = (0, 0, 0);
    (open.endpoints.interface, open.bind_flags) = (0, 0);
    open.endpoints.netns_cookie = 0;
    let event = decode(&bytes_of(&open)).unwrap();
    assert_eq!(event.cookie, None);
    let Details::Open {
        endpoints,
        owner,
        bind,
        ..
    } = transition(&bytes_of(&open)).details
    else {
        panic!("no open");
    };
    assert_eq!(
        endpoints,
        Endpoints {
            netns: None,
            interface: None,
            ..ENDS
        }
    );
    assert_eq!(bind, None);
    assert_eq!(owner, SocketOwner::default());

    let mut established = established();
    established.header.fields = 0;
    let details = transition(&bytes_of(&established)).details;
    let handshake = None;
    assert_eq!(
        details,
        Details::Established {
            endpoints: ENDS,
            handshake
        }
    );

    let mut close = close();
    for fields in [0, FIELDS_USER] {
        close.header.fields = fields;
        assert_eq!(close_fields(&close), None);
    }
}

#[test]
fn root_owns_a_socket_by_uid_0_where_the_field_could_be_read() {
    let event = PassiveOpenEvent {
        uid: 0,
        ..passive_open()
    };
    let Details::PassiveOpen { owner, .. } = transition(&bytes_of(&event)).details else {
        panic!("no passive open");
    };
    assert_eq!(owner.uid, Some(0));
}

#[test]
fn a_thread_of_the_kernel_is_told_from_a_process() {
    let mut release = release();
    release.header.fields |= FIELDS_KTHREAD;
    let details = transition(&bytes_of(&release)).details;
    assert_eq!(
        details,
        Details::Release {
            task: Task {
                kernel: true,
                ..TASK
            }
        }
    );
}

#[test]
fn an_ipv6_address_stays_and_a_mapped_one_becomes_ipv4() {
    let mut event = reset(KIND_RESET_SENT);
    event.header.family = FAMILY_INET6;
    let v6: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
    event.endpoints.local_address = v6.octets();
    event.endpoints.remote_address = mapped.octets();
    let Body::ResetSent {
        endpoints: ends, ..
    } = decode(&bytes_of(&event)).unwrap().body
    else {
        panic!("no reset");
    };
    assert_eq!(ends.local_address, IpAddr::V6(v6));
    assert_eq!(ends.remote_address, REMOTE);
    // Not mapped: the unspecified address and the loopback of IPv6 look like small numbers.
    for address in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST] {
        event.endpoints.remote_address = address.octets();
        let Body::ResetSent {
            endpoints: ends, ..
        } = decode(&bytes_of(&event)).unwrap().body
        else {
            panic!("no reset");
        };
        assert_eq!(ends.remote_address, IpAddr::V6(address));
    }
}

#[test]
fn the_peers_fin_is_no_payload() {
    // rcv_nxt - copied_seq, the peer's FIN received, what the application did not read.
    for (raw, fin, unread) in [
        (0, false, 0),
        (10, false, 10),
        (11, true, 10),
        (1, true, 0),
        (0, true, 0),
        (u32::MAX, false, 0),
        (i32::MAX.unsigned_abs(), false, i32::MAX.unsigned_abs()),
        (i32::MAX.unsigned_abs() + 1, false, 0),
    ] {
        let sock_flags = if fin { SOCK_DONE } else { 0 };
        let event = CloseEvent {
            unread: raw,
            sock_flags,
            ..close()
        };
        let fields = close_fields(&event).unwrap();
        assert_eq!(
            fields.unread, unread,
            "rcv_nxt - copied_seq = {raw}, FIN {fin}"
        );
        assert_eq!(fields.bytes_received, if fin { 300 } else { 301 });
        assert_eq!(fields.peer_fin, fin);
    }
    // A FIN without a byte before it, and a counter that is short of it.
    for bytes_received in [0, 1] {
        let event = CloseEvent {
            bytes_received,
            sock_flags: SOCK_DONE,
            ..close()
        };
        assert_eq!(close_fields(&event).unwrap().bytes_received, 0);
    }
}

#[test]
fn each_flag_of_the_socket_is_its_own() {
    for bits in 0..=SOCK_FLAGS_ALL {
        let event = CloseEvent {
            sock_flags: bits,
            shutdown: bits & 3,
            ..close()
        };
        let fields = close_fields(&event).unwrap();
        let set = |bit: u8| bits & bit != 0;
        assert_eq!(fields.dead, set(SOCK_DEAD));
        assert_eq!(fields.peer_fin, set(SOCK_DONE));
        assert_eq!(fields.has_socket, set(SOCK_HAS_SOCKET));
        assert_eq!(fields.linger2_negative, set(SOCK_LINGER2_NEGATIVE));
        assert_eq!(fields.time_wait_full, set(SOCK_TIMEWAIT_FULL));
        assert_eq!((fields.receive_shut, fields.send_shut), (set(1), set(2)));
    }
}

#[test]
fn the_numbers_of_an_event_that_have_names_are_found() {
    for (name, bytes) in samples() {
        let body = decode(&bytes).unwrap().body;
        let (cgroup, has_interface) = match name {
            "open" | "passive open" | "seed" | "failed connect" => (Some(7777), true),
            "established" => (None, true),
            _ => (None, false),
        };
        let numbers = body.numbers();
        assert_eq!(numbers.cgroup, cgroup, "{name}");
        let interface = body
            .endpoints()
            .and_then(|ends| ends.netns.zip(ends.interface));
        assert_eq!(
            numbers.interface,
            interface.filter(|_| has_interface),
            "{name}"
        );
    }
}

/// Every byte of a header's fixed fields survives, and the length was the kind's.
fn assert_faithful(bytes: &[u8]) -> Result<(), TestCaseError> {
    let Ok(event) = decode(bytes) else {
        return Ok(());
    };
    prop_assert_eq!(event.time_ns.to_ne_bytes(), &bytes[..8]);
    prop_assert_eq!(event.socket.to_ne_bytes(), &bytes[8..16]);
    prop_assert_eq!(event.cookie.unwrap_or(0).to_ne_bytes(), &bytes[16..24]);
    let sizes = samples();
    prop_assert!(
        sizes
            .iter()
            .any(|(_, one)| one.len() == bytes.len() && one[24] == bytes[24])
    );
    Ok(())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        assert_faithful(&bytes)?;
    }

    #[test]
    fn no_mutation_of_a_valid_event_panics(
        sample in 0..samples().len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(0..200_usize),
    ) {
        let mut bytes = samples().swap_remove(sample).1;
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(length) = cut {
            bytes.resize(length, 0);
        }
        assert_faithful(&bytes)?;
    }
}
