//! Every way in which bytes are no event is an error that names what is wrong.

use std::ops::Range;

use super::{samples::*, *};

/// Where the fields lie that only some events have.
const OWNER_RESERVED: Range<usize> = 84..88;
const CLOSE_RESERVED: Range<usize> = 131..136;

#[track_caller]
fn assert_refused(bytes: &[u8], field: &'static str, value: u64) {
    let error = decode(bytes).expect_err("it decodes");
    assert_eq!(error, DecodeError::Field { field, value });
    assert!(error.to_string().starts_with(field), "{error}");
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
        for kind in (0..=0).chain(9..=u8::MAX) {
            assert_refused(&with(&bytes, 24, &[kind]), "kind", kind.into());
        }
    }
}

#[test]
fn every_state_out_of_range_is_refused() {
    for (_, bytes) in samples() {
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
    for (_, bytes) in samples() {
        for fields in 0..=u8::MAX {
            let bytes = with(&bytes, 27, &[fields]);
            if fields <= 15 {
                assert!(decode(&bytes).is_ok());
            } else {
                assert_refused(&bytes, "fields", fields.into());
            }
        }
    }
    for value in 0..=u8::MAX {
        let (shutdown, flags) = (
            with(&bytes_of(&close()), 128, &[value]),
            with(&bytes_of(&close()), 129, &[value]),
        );
        if value > 3 {
            assert_refused(&shutdown, "shutdown", value.into());
        }
        if value > 15 {
            assert_refused(&flags, "sock_flags", value.into());
        }
        assert_eq!(decode(&shutdown).is_ok(), value <= 3);
        assert_eq!(decode(&flags).is_ok(), value <= 15);
    }
}

#[test]
fn reserved_bytes_are_zero_or_the_event_is_refused() {
    let places: [(Vec<u8>, Range<usize>, &str); 5] = [
        (bytes_of(&open()), OWNER_RESERVED, "owner.reserved"),
        (bytes_of(&passive_open()), OWNER_RESERVED, "owner.reserved"),
        (bytes_of(&open()), 92..96, "task.reserved"),
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
fn a_reset_holds_one_state() {
    let bytes = bytes_of(&reset(KIND_RESET_SENT));
    for old in TcpState::ALL {
        for new in TcpState::ALL {
            let bytes = with(&bytes, 25, &[old.raw(), new.raw()]);
            if old == new {
                assert!(decode(&bytes).is_ok());
            } else {
                assert_refused(&bytes, "new_state", new.raw().into());
            }
        }
    }
}
