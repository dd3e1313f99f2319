//! Whatever the bytes, they become an answer or are refused.

use proptest::prelude::*;

use super::*;

/// An answer as the kernel writes one.
pub(in crate::sock_diag) struct Sample {
    family: u8,
    state: u8,
    timer: u8,
    inode: u32,
    attributes: Vec<u8>,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            family: DiagFamily::V4.raw(),
            state: TcpState::Established as u8,
            timer: 0,
            inode: 77,
            attributes: Vec::new(),
        }
    }
}

impl Sample {
    pub(in crate::sock_diag) fn body(&self) -> Vec<u8> {
        let mut body = vec![self.family, self.state, self.timer, 0];
        body.extend(80_u16.to_be_bytes());
        body.extend(40_000_u16.to_be_bytes());
        for last in [1, 2] {
            let mut address = [0; 16];
            let tail: &[u8] = &[10, 0, 0, last];
            if self.family == DiagFamily::V6.raw() {
                address[10..12].fill(0xff);
                address[12..].copy_from_slice(tail);
            } else {
                address[..4].copy_from_slice(tail);
            }
            body.extend(address);
        }
        // Interface, cookie (lower half first), expires, both queues, uid, inode.
        for word in [3, 0x89ab_cdef, 0x0123_4567, 250, 6, 9, 1000, self.inode] {
            body.extend(u32::to_ne_bytes(word));
        }
        body.extend(&self.attributes);
        body
    }

    pub(in crate::sock_diag) fn parse(&self) -> Result<DiagSocket, Malformed> {
        DiagSocket::parse(&self.body())
    }
}

fn with_attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(((4 + value.len()) as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn every_field_is_read_from_its_place() {
    let mut attributes = with_attribute(8, &[0]);
    attributes.extend(with_attribute(
        INET_DIAG_CGROUP_ID | 0x4000,
        &42_u64.to_ne_bytes(),
    ));
    let socket = Sample {
        attributes,
        ..Sample::default()
    }
    .parse()
    .unwrap();
    assert_eq!(
        socket,
        DiagSocket {
            cookie: 0x0123_4567_89ab_cdef,
            state: TcpState::Established,
            family: DiagFamily::V4,
            tuple: Tuple {
                local_address: "10.0.0.1".parse().unwrap(),
                remote_address: "10.0.0.2".parse().unwrap(),
                local_port: 80,
                remote_port: 40_000,
                interface: 3,
            },
            uid: Some(1000),
            inode: 77,
            timer: 0,
            expires_ms: 250,
            receive_queue: 6,
            send_queue: 9,
            cgroup: Some(42),
        }
    );
}

#[test]
fn mapped_addresses_are_ipv4() {
    let socket = Sample {
        family: DiagFamily::V6.raw(),
        ..Sample::default()
    }
    .parse()
    .unwrap();
    assert_eq!(socket.family, DiagFamily::V6);
    assert_eq!(socket.tuple.local_address, IpAddr::from([10, 0, 0, 1]));
    assert_eq!(socket.tuple.remote_address, IpAddr::from([10, 0, 0, 2]));
}

#[test]
fn without_an_inode_there_is_no_user() {
    assert_eq!(
        Sample {
            inode: 0,
            ..Sample::default()
        }
        .parse()
        .unwrap()
        .uid,
        None
    );
}

#[test]
fn a_minisocket_is_told_by_its_timer() {
    let is = |state: TcpState, timer, inode| {
        let sample = Sample {
            state: state as u8,
            timer,
            inode,
            ..Sample::default()
        };
        sample.parse().unwrap().is_minisocket()
    };
    assert!(is(TcpState::TimeWait, 3, 0));
    assert!(is(TcpState::FinWait2, 3, 0));
    assert!(!is(TcpState::FinWait2, 2, 0));
    assert!(!is(TcpState::FinWait2, 0, 9));
    assert!(!is(TcpState::Established, 3, 0));
}

/// An attribute that was not asked for.
const OTHER: u16 = 2;

#[test]
fn an_unknown_state_or_family_is_refused() {
    let family = Sample {
        family: 1,
        ..Sample::default()
    };
    assert_eq!(family.parse(), Err(Malformed::Family(1)));
    for state in [0, 13, 255] {
        assert_eq!(
            Sample {
                state,
                ..Sample::default()
            }
            .parse(),
            Err(Malformed::State(state))
        );
    }
}

#[test]
fn a_truncated_entry_is_refused() {
    let mut attributes = with_attribute(INET_DIAG_CGROUP_ID, &[1; 8]);
    attributes.extend(with_attribute(OTHER, &[2; 216]));
    let whole = Sample {
        attributes,
        ..Sample::default()
    }
    .body();
    assert!(DiagSocket::parse(&whole).is_ok());
    for length in 0..whole.len() {
        // Between two attributes is a fair end.
        let fair = [ANSWER, ANSWER + 12].contains(&length);
        assert_eq!(
            DiagSocket::parse(&whole[..length]).is_ok(),
            fair,
            "{length}"
        );
    }
    for length in [0_u16, 3, 9, u16::MAX] {
        let mut attributes = with_attribute(9, &[0; 4]);
        attributes[..2].copy_from_slice(&length.to_ne_bytes());
        let sample = Sample {
            attributes,
            ..Sample::default()
        };
        assert_eq!(sample.parse(), Err(Malformed::Short), "{length}");
    }
}

proptest! {
    #[test]
    fn no_change_of_an_answer_makes_it_panic(at in 0_usize..148, byte: u8) {
        let mut attributes = with_attribute(INET_DIAG_CGROUP_ID, &[1; 8]);
        attributes.extend(with_attribute(OTHER, &[2; 60]));
        let mut bytes = Sample { attributes, ..Sample::default() }.body();
        bytes[at] = byte;
        // What stands in the fixed part and is neither family nor state can be anything.
        prop_assert!(DiagSocket::parse(&bytes).is_ok() || !(2..ANSWER).contains(&at));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(DiagSocket::parse(&bytes).is_ok() <= (bytes.len() >= ANSWER));
    }
}
