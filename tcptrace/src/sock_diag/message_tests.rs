//! Messages are told apart, and what does not fit ends the telling.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;
use crate::sock_diag::entry::tests::Sample;

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

#[test]
fn messages_come_one_after_the_other() {
    let mut bytes = message(SOCK_DIAG_BY_FAMILY, 0x12, 5, &Sample::default().body());
    bytes.extend(message(libc::NLMSG_NOOP as u16, 0, 5, &[]));
    bytes.extend(message(
        libc::NLMSG_ERROR as u16,
        0,
        6,
        &(-libc::ENOENT).to_ne_bytes(),
    ));
    bytes.extend(message(libc::NLMSG_DONE as u16, 2, 7, &0_i32.to_ne_bytes()));
    let messages: Vec<Message> = Messages(&bytes).map(Result::unwrap).collect();
    let socket = Sample::default().parse().unwrap();
    let expected = [
        (5, true, Answer::Socket(socket)),
        (5, false, Answer::Other),
        (6, false, Answer::End(libc::ENOENT)),
        (7, false, Answer::End(0)),
    ];
    let expected = expected.map(|(sequence, interrupted, answer)| Message {
        sequence,
        interrupted,
        answer: Ok(answer),
    });
    assert_eq!(messages, expected);
}

#[test]
fn after_a_message_that_does_not_fit_nothing_is_told() {
    for length in [0_u32, 15, 100, u32::MAX] {
        let mut bytes = message(libc::NLMSG_DONE as u16, 0, 1, &[0; 4]);
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        let messages: Vec<_> = Messages(&bytes).collect();
        assert_eq!(messages, [Err(Malformed::Short)], "{length}");
    }
}

#[test]
fn a_lookup_between_families_is_refused() {
    let tuple = Tuple {
        local_address: Ipv4Addr::LOCALHOST.into(),
        remote_address: Ipv6Addr::LOCALHOST.into(),
        local_port: 1,
        remote_port: 2,
        interface: 0,
    };
    assert!(DiagRequest::exact(1, &tuple, None).is_none());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(Messages(&bytes).count() <= bytes.len());
    }

    #[test]
    fn no_change_of_a_message_makes_it_panic(at in 0_usize..HEADER, byte: u8) {
        let mut bytes = message(SOCK_DIAG_BY_FAMILY, 0, 1, &Sample::default().body());
        bytes[at] = byte;
        prop_assert!(Messages(&bytes).count() >= 1);
    }
}
