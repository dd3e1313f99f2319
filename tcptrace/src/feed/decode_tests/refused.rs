//! Every way in which bytes are no event is an error that names what is wrong.

use std::ops::Range;

use tcptrace_common::{FIELDS_ALL, FIELDS_RECOVERED, FIELDS_TCP, FIELDS_UNSENT, SOCK_FLAGS_ALL};

use super::{samples::*, *};

/// Where the fields lie that only some events have.
const CLOSE_RESERVED: Range<usize> = 139..140;

#[track_caller]
fn assert_refused(bytes: &[u8], field: &'static str, value: u64) {
    let error = decode(bytes).expect_err("it decodes");
    assert_eq!(error, DecodeError::Field { field, value });
    assert!(error.to_string().starts_with(field), "{error}");
}

/// Those that are of a socket.
fn of_sockets() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    samples()
        .into_iter()
        .filter(|(_, bytes)| !matches!(bytes[24], KIND_RENAME | KIND_EXIT))
}

#[test]
fn a_process_has_no_socket() {
    for kind in [KIND_RENAME, KIND_EXIT] {
        let bytes = bytes_of(&process(kind));
        for (at, field) in [
            (8, "process.socket"),
            (16, "process.cookie"),
            (25, "process.old_state"),
            (26, "process.new_state"),
            (28, "process.family"),
            (36, "task.reserved"),
        ] {
            assert_refused(&with(&bytes, at, &[1]), field, 1);
        }
        for fields in 0..=u8::MAX {
            let bytes = with(&bytes, 27, &[fields]);
            if fields & !(FIELDS_TASK | FIELDS_KTHREAD) == 0 {
                assert!(decode(&bytes).is_ok());
            } else {
                assert_refused(&bytes, "fields", fields.into());
            }
        }
    }
}

#[test]
fn the_bind_of_a_listener_is_whole_or_absent() {
    for bits in 0..64_u32 {
        let event = OpenEvent {
            bind_flags: bits,
            ..open()
        };
        if bits <= BIND_ALL && (bits == 0 || bits & BIND_KNOWN != 0) {
            let Details::Open { bind, .. } = transition(&bytes_of(&event)).details else {
                panic!("no open");
            };
            let flag = |bit| bits & bit != 0;
            let expected = flag(BIND_KNOWN).then(|| Bind {
                reuse_port: flag(BIND_REUSEPORT),
                v6_only: flag(BIND_V6ONLY),
                transparent: flag(BIND_TRANSPARENT),
                steered: flag(BIND_STEERED),
            });
            assert_eq!(bind, expected);
        } else {
            assert_refused(&bytes_of(&event), "bind_flags", bits.into());
        }
    }
}

#[test]
fn every_wrong_length_is_an_error_that_names_the_kind() {
    for (name, bytes) in samples() {
        let size = bytes.len();
        let mut longer = bytes;
        longer.resize(size + 64, 0);
        for actual in (0..size).chain(size + 1..=size + 64) {
            let short = actual < size_of::<EventHeader>();
            let kind = if short { "header" } else { name };
            let expected = if short {
                size_of::<EventHeader>()
            } else {
                size
            };
            let error = decode(&longer[..actual]).expect_err("it decodes");
            assert_eq!(
                error,
                DecodeError::Length {
                    kind,
                    expected,
                    actual
                }
            );
            assert!(error.to_string().contains(kind), "{error}");
        }
    }
}

#[test]
fn every_kind_that_is_not_known_is_refused() {
    for (_, bytes) in samples() {
        for kind in (0..=0).chain(18..=u8::MAX) {
            assert_refused(&with(&bytes, 24, &[kind]), "kind", kind.into());
        }
    }
}

#[test]
fn every_state_out_of_range_is_refused() {
    for (_, bytes) in of_sockets() {
        for state in (0..=0).chain(13..=u8::MAX) {
            assert_refused(&with(&bytes, 25, &[state]), "old_state", state.into());
            assert_refused(&with(&bytes, 26, &[state]), "new_state", state.into());
        }
    }
}

#[test]
fn every_family_but_the_two_is_refused() {
    let bytes = bytes_of(&step());
    for family in 0..=u16::MAX {
        let bytes = with(&bytes, 28, &family.to_ne_bytes());
        if matches!(family, 2 | 10) {
            assert!(decode(&bytes).is_ok());
        } else {
            assert_refused(&bytes, "family", family.into());
        }
    }
}

#[test]
fn every_bit_without_a_meaning_is_refused() {
    for (_, bytes) in of_sockets() {
        // Of a FIN that waits only those transitions tell that have one, with TCP's fields.
        let has_fin = matches!(bytes[24], KIND_STEP | KIND_RELEASE);
        let has_second_copy = bytes[24] <= KIND_RESET_SENT;
        for fields in 0..=u8::MAX {
            let bytes = with(&bytes, 27, &[fields]);
            let unsent = fields & FIELDS_UNSENT != 0 && !(has_fin && fields & FIELDS_TCP != 0);
            let recovered = fields & FIELDS_RECOVERED != 0 && !has_second_copy;
            if fields <= FIELDS_ALL && !unsent && !recovered {
                assert!(decode(&bytes).is_ok());
            } else {
                assert_refused(&bytes, "fields", fields.into());
            }
        }
    }
    for value in 0..=u8::MAX {
        let (shutdown, flags) = (
            with(&bytes_of(&close()), 136, &[value]),
            with(&bytes_of(&close()), 137, &[value]),
        );
        if value > 3 {
            assert_refused(&shutdown, "shutdown", value.into());
        }
        if value > SOCK_FLAGS_ALL {
            assert_refused(&flags, "sock_flags", value.into());
        }
        assert_eq!(decode(&shutdown).is_ok(), value <= 3);
        assert_eq!(decode(&flags).is_ok(), value <= SOCK_FLAGS_ALL);
    }
}

#[test]
fn a_cookie_without_its_namespace_is_refused() {
    for bytes in [bytes_of(&accept()), bytes_of(&open())] {
        let error = decode(&with(&bytes, 68, &[0; 4])).expect_err("it decodes");
        assert!(
            error.to_string().starts_with("endpoints.netns_cookie"),
            "{error}"
        );
    }
}

#[test]
fn a_connect_that_failed_without_an_error_is_refused() {
    for error in [0_u32, 4096, u32::MAX] {
        let event = ConnectFailedEvent {
            error,
            ..connect_failed()
        };
        let error = decode(&bytes_of(&event)).expect_err("it decodes");
        assert!(error.to_string().starts_with("error"), "{error}");
    }
    let event = ConnectFailedEvent {
        policy: 2,
        ..connect_failed()
    };
    let error = decode(&bytes_of(&event)).expect_err("it decodes");
    assert!(error.to_string().starts_with("policy"), "{error}");
}

#[test]
fn reserved_bytes_are_zero_or_the_event_is_refused() {
    let places: [(Vec<u8>, Range<usize>, &str); 9] = [
        (bytes_of(&established()), 100..104, "established.reserved"),
        (
            bytes_of(&reset(KIND_RESET_RECEIVED)),
            84..88,
            "reset.reserved",
        ),
        (bytes_of(&reset(KIND_RESET_SENT)), 84..88, "reset.reserved"),
        (bytes_of(&accept()), 84..88, "task.reserved"),
        (bytes_of(&timewait()), 41..48, "timewait.reserved"),
        (bytes_of(&open()), 100..104, "task.reserved"),
        (
            bytes_of(&connect_failed()),
            124..128,
            "connect_failed.reserved",
        ),
        (bytes_of(&release()), 36..40, "task.reserved"),
        (bytes_of(&close()), CLOSE_RESERVED, "close.reserved"),
    ];
    let headers = samples()
        .into_iter()
        .map(|(_, bytes)| (bytes, 30..32, "header.reserved"));
    for (bytes, range, field) in headers.chain(places) {
        for at in range {
            for bit in 0..8 {
                let error = decode(&with(&bytes, at, &[1 << bit])).expect_err("it decodes");
                assert!(error.to_string().starts_with(field), "{error}");
            }
        }
    }
}

#[test]
fn an_error_past_the_kernels_last_errno_is_refused() {
    for error in [4096, 65_535, 65_536, 65_537, u32::MAX] {
        assert_refused(
            &bytes_of(&CloseEvent { error, ..close() }),
            "error",
            error.into(),
        );
    }
    for error in [0, 1, 4095] {
        let fields = close_fields(&CloseEvent { error, ..close() }).unwrap();
        assert_eq!(u32::from(fields.error), error);
    }
}

/// Which kind carries which transition: from down, to across, in the kernel's order.
const KINDS: &str = "\
    E S S R S S C S S S S S  ESTABLISHED
    E S S S S S C S S S S S  SYN_SENT
    E S S R S S C S S S S S  SYN_RECV
    E S S S S S C S S S S S  FIN_WAIT1
    E S S S S S C S S S S S  FIN_WAIT2
    E S S S S S C S S S S S  TIME_WAIT
    E O S S S S C S S O S S  CLOSE
    E S S S S S C S R S S S  CLOSE_WAIT
    E S S S S S C S S S S S  LAST_ACK
    E S P S S S C S S S S S  LISTEN
    E S S S S S C S S S S S  CLOSING
    E S S S S S C S S S S S  NEW_SYN_RECV";

#[test]
fn a_kind_carries_its_own_transitions_and_no_other() {
    let letters = "OPESRC";
    for (old, row) in TcpState::ALL.into_iter().zip(KINDS.lines()) {
        assert!(row.ends_with(old.name()), "{row}");
        for (new, letter) in TcpState::ALL.into_iter().zip(row.split_whitespace()) {
            for (name, bytes) in &samples()[..6] {
                let kind = bytes[24];
                let bytes = with(bytes, 25, &[old.raw(), new.raw()]);
                let fits = letters.as_bytes()[usize::from(kind) - 1] == letter.as_bytes()[0];
                match decode(&bytes) {
                    Ok(_) => assert!(fits, "{name} carries {old:?} to {new:?}"),
                    Err(error) => {
                        assert!(!fits, "{name} does not carry {old:?} to {new:?}");
                        let (old, new) = (old.raw(), new.raw());
                        assert_eq!(error, DecodeError::KindOfTransition { kind, old, new });
                        assert!(error.to_string().starts_with("kind"), "{error}");
                    }
                }
            }
        }
    }
}

#[test]
fn every_flag_without_a_meaning_or_without_its_other_is_refused() {
    for bits in 0..32_u32 {
        let has = |bit| bits & bit != 0;
        let event = PassiveOpenEvent {
            open_flags: bits,
            ..passive_open()
        };
        let valid = bits <= OPEN_ALL
            && (!has(OPEN_FAST) || has(OPEN_REQUEST_SEEN))
            && (!has(OPEN_DEFERRED) || has(OPEN_DEFER_KNOWN));
        if valid {
            assert!(decode(&bytes_of(&event)).is_ok(), "{bits:#b}");
        } else {
            assert_refused(&bytes_of(&event), "open_flags", bits.into());
        }
        let event = EstablishedEvent {
            handshake_flags: bits,
            ..established()
        };
        if bits <= HANDSHAKE_ALL && (!has(HANDSHAKE_ACK_DATA) || has(HANDSHAKE_ACK_SEEN)) {
            assert!(decode(&bytes_of(&event)).is_ok(), "{bits:#b}");
        } else {
            assert_refused(&bytes_of(&event), "handshake_flags", bits.into());
        }
    }
}

#[test]
fn a_timewait_socket_is_in_one_of_its_two_states() {
    for state in 0..=u8::MAX {
        let valid = matches!(
            TcpState::from_raw(state),
            Some(TcpState::FinWait2 | TcpState::TimeWait)
        );
        let bytes = with(&bytes_of(&timewait()), 40, &[state]);
        if valid {
            assert!(decode(&bytes).is_ok());
        } else {
            assert_refused(&bytes, "substate", state.into());
        }
    }
}

#[test]
fn a_timewait_step_that_changes_nothing_is_refused() {
    use TcpState::{FinWait2, TimeWait};
    let bytes = bytes_of(&timewait_step());
    for value in 2..=8_u32 {
        assert_refused(
            &with(&bytes, 84, &value.to_ne_bytes()),
            "reset",
            value.into(),
        );
    }
    for old in TcpState::ALL {
        for new in TcpState::ALL {
            for (status, reset) in [0, 1, 2, 3, 4, 5, u32::MAX]
                .into_iter()
                .flat_map(|status| [(status, 0_u32), (status, 1)])
            {
                let bytes = with(&bytes, 25, &[old.raw(), new.raw()]);
                let bytes = with(&bytes, 80, &status.to_ne_bytes());
                let bytes = with(&bytes, 84, &reset.to_ne_bytes());
                let decoded = decode(&bytes);
                let good = status <= 4
                    && match (old, new) {
                        (FinWait2, TimeWait) => true,
                        (FinWait2, FinWait2) => status == 1 || reset == 1,
                        (TimeWait, TimeWait) => reset == 1,
                        (_, _) => false,
                    };
                assert_eq!(decoded.is_ok(), good, "{old:?} {new:?} {status} {reset}");
            }
        }
    }
}

#[test]
fn a_rst_that_came_in_has_no_reason_of_ours() {
    let event = ResetEvent {
        reason: REASON,
        ..reset(KIND_RESET_RECEIVED)
    };
    assert_refused(&bytes_of(&event), "reason", REASON.into());
}

#[test]
fn an_event_without_a_transition_has_one_state() {
    for bytes in [
        bytes_of(&reset(KIND_RESET_SENT)),
        bytes_of(&accept()),
        bytes_of(&timewait()),
        bytes_of(&synack_retransmit()),
        bytes_of(&seed()),
    ] {
        hold_one_state(&bytes);
    }
}

fn hold_one_state(bytes: &[u8]) {
    for old in TcpState::ALL {
        for new in TcpState::ALL {
            let bytes = with(bytes, 25, &[old.raw(), new.raw()]);
            if old == new {
                assert!(decode(&bytes).is_ok());
            } else {
                assert_refused(&bytes, "new_state", new.raw().into());
            }
        }
    }
}
