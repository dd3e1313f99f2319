//! The header of an event, and the errors of its fields.

use tcptrace_common::{
    EventHeader, FAMILY_INET, FAMILY_INET6, FIELDS_ALL, FIELDS_TCP, FIELDS_UNSENT, KIND_RELEASE,
    KIND_STEP, TcpState,
};

use crate::feed::event::{Body, Details, Transition};

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length is not the kind's.
    #[error("length: {kind} has {expected} bytes, got {actual}")]
    Length {
        kind: &'static str,
        expected: usize,
        actual: usize,
    },
    /// A field is out of range.
    #[error("{field}: {value} is out of range")]
    Field {
        /// The field's name in `tcptrace-common`.
        field: &'static str,
        value: u64,
    },
    /// The event's kind does not belong to its transition.
    #[error("kind: {kind} cannot carry the transition {old} to {new}")]
    KindOfTransition { kind: u8, old: u8, new: u8 },
}

pub(super) const fn out_of_range(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Field {
        field,
        value: value as u64,
    }
}

pub(super) fn zero(field: &'static str, value: u64) -> Result<(), DecodeError> {
    if value == 0 {
        Ok(())
    } else {
        Err(DecodeError::Field { field, value })
    }
}

pub(super) struct DecodedHeader {
    pub(super) kind: u8,
    pub(super) old: TcpState,
    pub(super) new: TcpState,
    pub(super) fields: u8,
    pub(super) family: u16,
}

impl DecodedHeader {
    pub(super) fn read(raw: &EventHeader) -> Result<Self, DecodeError> {
        let state =
            |field, state| TcpState::from_raw(state).ok_or_else(|| out_of_range(field, state));
        if raw.fields & !FIELDS_ALL != 0 {
            return Err(out_of_range("fields", raw.fields));
        }
        if raw.family != FAMILY_INET && raw.family != FAMILY_INET6 {
            return Err(DecodeError::Field {
                field: "family",
                value: raw.family.into(),
            });
        }
        zero("header.reserved", raw.reserved.into())?;
        Ok(Self {
            kind: raw.kind,
            old: state("old_state", raw.old_state)?,
            new: state("new_state", raw.new_state)?,
            fields: raw.fields,
            family: raw.family,
        })
    }

    /// Whether the transition tells if our FIN has left.
    pub(super) fn knows_fin(&self) -> bool {
        use TcpState::{Closing, FinWait1, FinWait2, LastAck};
        matches!(self.kind, KIND_RELEASE | KIND_STEP)
            && matches!(self.new, FinWait1 | FinWait2 | LastAck | Closing)
            && self.has(FIELDS_TCP)
    }

    pub(super) fn has(&self, fields: u8) -> bool {
        self.fields & fields == fields
    }

    /// Returns the transition of a header, with its details.
    pub(super) fn transition(&self, details: Details) -> Result<Body, DecodeError> {
        Ok(Body::Transition(Transition {
            old: self.old,
            new: self.new,
            details,
            fin_left: self.knows_fin().then(|| !self.has(FIELDS_UNSENT)),
        }))
    }
}
