//! Bytes of the ring into events: every field checked, no byte sequence panics.
//!
//! It refuses to guess: an event with anything out of range is an error that names the field,
//! and the reader counts it as lost.

mod fields;

use tcptrace_common::{
    AcceptEvent, CloseEvent, EstablishedEvent, EventHeader, FAMILY_INET, FAMILY_INET6, FIELDS_ALL,
    FIELDS_KTHREAD, FIELDS_RECOVERED, FIELDS_TASK, FIELDS_TCP, FIELDS_UNSENT, KIND_ACCEPT,
    KIND_CLOSE, KIND_ESTABLISHED, KIND_EXIT, KIND_OPEN, KIND_PASSIVE_OPEN, KIND_RELEASE,
    KIND_RENAME, KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_SEED, KIND_STEP,
    KIND_SYNACK_RETRANSMIT, KIND_TIMEWAIT, KIND_TIMEWAIT_STEP, OpenEvent, PassiveOpenEvent,
    ProcessEvent, REASON_NONE, ReleaseEvent, ResetEvent, SeedEvent, StepEvent,
    SynackRetransmitEvent, TcpState, TimewaitEvent, TimewaitStepEvent, kind_of_transition,
};

use self::fields::{
    Raw, read_bind, read_close, read_endpoints, read_handshake, read_owner, read_request, read_task,
};
use crate::feed::{
    event::{Body, Details, Event, Seed, TimewaitArrival, Transition},
    names::Numbers,
};

/// Why bytes are no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Fewer or more bytes than the kind has.
    #[error("length: {kind} has {expected} bytes, got {actual}")]
    Length {
        /// The kind's name.
        kind: &'static str,
        /// Bytes.
        expected: usize,
        /// Bytes.
        actual: usize,
    },
    /// A field holds what it cannot hold.
    #[error("{field}: {value} is out of range")]
    Field {
        /// The field's name in `tcptrace-common`.
        field: &'static str,
        /// What it held.
        value: u64,
    },
    /// The kind is not the one that its transition makes.
    #[error("kind: {kind} cannot carry the transition {old} to {new}")]
    KindOfTransition {
        /// As sent.
        kind: u8,
        /// As sent.
        old: u8,
        /// As sent.
        new: u8,
    },
}

/// When an event happened, without a look at the rest of it: CLOCK_MONOTONIC, nanoseconds. `None`
/// when it is too short to say.
#[must_use]
pub fn time_of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|first| u64::from_ne_bytes(*first))
}

/// What an event needs names for, without a look at the rest of it.
#[must_use]
pub fn numbers_in(bytes: &[u8]) -> Numbers {
    let raw = Raw(bytes);
    let (has_owner, size) = match bytes.get(24) {
        Some(&KIND_OPEN) => (true, size_of::<OpenEvent>()),
        Some(&KIND_PASSIVE_OPEN) => (true, size_of::<PassiveOpenEvent>()),
        Some(&KIND_SEED) => (true, size_of::<SeedEvent>()),
        Some(&KIND_ESTABLISHED) => (false, size_of::<EstablishedEvent>()),
        Some(_) | None => return Numbers::default(),
    };
    if bytes.len() != size {
        return Numbers::default();
    }
    let (netns, interface) = (raw.u32(68), raw.u32(72));
    Numbers {
        cgroup: has_owner.then(|| raw.u64(80)).filter(|&cgroup| cgroup != 0),
        interface: (netns != 0 && interface != 0).then_some((netns, interface)),
    }
}

/// Decodes one event.
///
/// # Errors
///
/// When the length is not the kind's, or a field is out of range; the error names it.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let raw = Raw(bytes);
    let header_size = size_of::<EventHeader>();
    if bytes.len() < header_size {
        return Err(DecodeError::Length {
            kind: "header",
            expected: header_size,
            actual: bytes.len(),
        });
    }
    let kind: u8 = raw.u8(24);
    let (name, expected) = match kind {
        KIND_OPEN => ("open", size_of::<OpenEvent>()),
        KIND_PASSIVE_OPEN => ("passive open", size_of::<PassiveOpenEvent>()),
        KIND_ESTABLISHED => ("established", size_of::<EstablishedEvent>()),
        KIND_STEP => ("step", size_of::<StepEvent>()),
        KIND_RELEASE => ("release", size_of::<ReleaseEvent>()),
        KIND_CLOSE => ("close", size_of::<CloseEvent>()),
        KIND_RESET_RECEIVED | KIND_RESET_SENT => ("reset", size_of::<ResetEvent>()),
        KIND_ACCEPT => ("accept", size_of::<AcceptEvent>()),
        KIND_TIMEWAIT => ("timewait", size_of::<TimewaitEvent>()),
        KIND_TIMEWAIT_STEP => ("timewait step", size_of::<TimewaitStepEvent>()),
        KIND_SYNACK_RETRANSMIT => ("SYN-ACK retransmit", size_of::<SynackRetransmitEvent>()),
        KIND_SEED => ("seed", size_of::<SeedEvent>()),
        KIND_RENAME | KIND_EXIT => ("process", size_of::<ProcessEvent>()),
        _ => return Err(out_of_range("kind", kind)),
    };
    if bytes.len() != expected {
        return Err(DecodeError::Length {
            kind: name,
            expected,
            actual: bytes.len(),
        });
    }
    if matches!(kind, KIND_RENAME | KIND_EXIT) {
        return read_process(raw, kind);
    }
    let header = Header::read(raw)?;
    let knows_fin = header.knows_fin(kind);
    if header.has(FIELDS_UNSENT) && !knows_fin {
        return Err(out_of_range("fields", header.fields));
    }
    let has_second_copy = !matches!(
        kind,
        KIND_ACCEPT | KIND_TIMEWAIT | KIND_TIMEWAIT_STEP | KIND_SYNACK_RETRANSMIT | KIND_SEED
    );
    if header.has(FIELDS_RECOVERED) && !has_second_copy {
        return Err(out_of_range("fields", header.fields));
    }
    let body = match kind {
        KIND_RESET_RECEIVED
        | KIND_RESET_SENT
        | KIND_ACCEPT
        | KIND_TIMEWAIT
        | KIND_SYNACK_RETRANSMIT
        | KIND_SEED => read_standing(raw, kind, &header)?,
        KIND_TIMEWAIT_STEP => read_timewait_step(raw, &header)?,
        _ => {
            let (old, new) = (header.old, header.new);
            if kind != kind_of_transition(old.raw(), new.raw()) {
                return Err(DecodeError::KindOfTransition {
                    kind,
                    old: old.raw(),
                    new: new.raw(),
                });
            }
            let details = read_details(raw, kind, &header)?;
            Body::Transition(Transition {
                old,
                new,
                details,
                fin_left: knows_fin.then(|| !header.has(FIELDS_UNSENT)),
            })
        }
    };
    Ok(Event {
        time_ns: raw.u64(0),
        socket: raw.u64(8),
        cookie: Some(raw.u64(16)).filter(|&cookie| cookie != 0),
        recovered: header.has(FIELDS_RECOVERED),
        body,
    })
}

const fn out_of_range(field: &'static str, value: u8) -> DecodeError {
    DecodeError::Field {
        field,
        value: value as u64,
    }
}

struct Header {
    old: TcpState,
    new: TcpState,
    fields: u8,
    family: u16,
}

impl Header {
    fn read(raw: Raw<'_>) -> Result<Self, DecodeError> {
        let state = |field, at| {
            TcpState::from_raw(raw.u8(at)).ok_or_else(|| out_of_range(field, raw.u8(at)))
        };
        let fields = raw.u8(27);
        if fields & !FIELDS_ALL != 0 {
            return Err(out_of_range("fields", fields));
        }
        let family = raw.u16(28);
        if family != FAMILY_INET && family != FAMILY_INET6 {
            return Err(DecodeError::Field {
                field: "family",
                value: family.into(),
            });
        }
        zero("header.reserved", raw.u16(30).into())?;
        Ok(Self {
            old: state("old_state", 25)?,
            new: state("new_state", 26)?,
            fields,
            family,
        })
    }

    /// It is a transition that tells whether our FIN has left.
    fn knows_fin(&self, kind: u8) -> bool {
        use TcpState::{Closing, FinWait1, FinWait2, LastAck};
        matches!(kind, KIND_RELEASE | KIND_STEP)
            && matches!(self.new, FinWait1 | FinWait2 | LastAck | Closing)
            && self.has(FIELDS_TCP)
    }

    fn has(&self, fields: u8) -> bool {
        self.fields & fields == fields
    }
}

fn zero(field: &'static str, value: u64) -> Result<(), DecodeError> {
    if value == 0 {
        Ok(())
    } else {
        Err(DecodeError::Field { field, value })
    }
}

/// An event that is no transition: the state left is the state held.
fn read_standing(raw: Raw<'_>, kind: u8, header: &Header) -> Result<Body, DecodeError> {
    let state = header.new;
    if header.old != state {
        return Err(out_of_range("new_state", state.raw()));
    }
    if kind == KIND_TIMEWAIT {
        return read_timewait(raw);
    }
    let endpoints = read_endpoints(raw, header.family)?;
    Ok(match kind {
        KIND_RESET_RECEIVED | KIND_RESET_SENT => {
            zero("reset.reserved", raw.u32(84).into())?;
            let reason = Some(raw.u32(80)).filter(|&reason| reason != REASON_NONE);
            match (kind, reason) {
                (KIND_RESET_RECEIVED, None) => Body::ResetReceived(endpoints),
                // The tracepoint has no such argument.
                (KIND_RESET_RECEIVED, Some(reason)) => {
                    return Err(DecodeError::Field {
                        field: "reason",
                        value: reason.into(),
                    });
                }
                (_, reason) => Body::ResetSent { endpoints, reason },
            }
        }
        KIND_ACCEPT => Body::Accept {
            state,
            endpoints,
            task: read_task(raw, 80, header.fields)?,
            listener: Some(raw.u64(104)).filter(|&listener| listener != 0),
        },
        KIND_SYNACK_RETRANSMIT => Body::SynackRetransmit(endpoints),
        _ => Body::Seed(Seed {
            state,
            endpoints,
            owner: read_owner(raw, header),
            bind: read_bind(raw, 92)?,
            inode: Some(raw.u64(96)).filter(|&inode| inode != 0),
        }),
    })
}

/// A process: its header tells of no socket.
fn read_process(raw: Raw<'_>, kind: u8) -> Result<Event, DecodeError> {
    let fields = raw.u8(27);
    if fields & !(FIELDS_TASK | FIELDS_KTHREAD) != 0 {
        return Err(out_of_range("fields", fields));
    }
    zero("process.socket", raw.u64(8))?;
    zero("process.cookie", raw.u64(16))?;
    zero("process.old_state", raw.u8(25).into())?;
    zero("process.new_state", raw.u8(26).into())?;
    zero("process.family", raw.u16(28).into())?;
    zero("header.reserved", raw.u16(30).into())?;
    let task = read_task(raw, 32, fields)?;
    Ok(Event {
        time_ns: raw.u64(0),
        socket: 0,
        cookie: None,
        recovered: false,
        body: if kind == KIND_RENAME {
            Body::Rename(task)
        } else {
            Body::Exit(task)
        },
    })
}

fn read_timewait(raw: Raw<'_>) -> Result<Body, DecodeError> {
    let reserved: [u8; 7] = raw.array(41);
    zero(
        "timewait.reserved",
        reserved.iter().map(|&byte| u64::from(byte)).sum(),
    )?;
    Ok(Body::Timewait {
        timewait: Some(raw.u64(32)).filter(|&address| address != 0),
        awaits_fin: match TcpState::from_raw(raw.u8(40)) {
            Some(TcpState::FinWait2) => true,
            Some(TcpState::TimeWait) => false,
            Some(_) | None => return Err(out_of_range("substate", raw.u8(40))),
        },
    })
}

fn read_timewait_step(raw: Raw<'_>, header: &Header) -> Result<Body, DecodeError> {
    // enum tcp_tw_status: TCP_TW_SUCCESS, RST, ACK, SYN, and from Linux 6.17 ACK_OOW.
    const TCP_TW_RST: u32 = 1;
    const TCP_TW_LAST: u32 = 4;
    let substate = |field, state: TcpState| {
        if state == TcpState::FinWait2 || state == TcpState::TimeWait {
            Ok(state == TcpState::TimeWait)
        } else {
            Err(out_of_range(field, state.raw()))
        }
    };
    let before = substate("old_state", header.old)?;
    let after = substate("new_state", header.new)?;
    let reset = match raw.u32(84) {
        0 => false,
        1 => true,
        other => {
            return Err(DecodeError::Field {
                field: "reset",
                value: other.into(),
            });
        }
    };
    let status = raw.u32(80);
    let arrived = match (before, after, reset, status) {
        (false, true, _, ..=TCP_TW_LAST) => TimewaitArrival::Fin,
        (false, false, _, TCP_TW_RST) => TimewaitArrival::Refused,
        (false, false, true, ..=TCP_TW_LAST) | (true, true, true, ..=TCP_TW_LAST) => {
            TimewaitArrival::Reset
        }
        (true, false, _, _) => return Err(out_of_range("new_state", header.new.raw())),
        (_, _, _, status) => {
            return Err(DecodeError::Field {
                field: "status",
                value: status.into(),
            });
        }
    };
    Ok(Body::TimewaitStep {
        endpoints: read_endpoints(raw, header.family)?,
        arrived,
    })
}

fn read_details(raw: Raw<'_>, kind: u8, header: &Header) -> Result<Details, DecodeError> {
    let endpoints = || read_endpoints(raw, header.family);
    Ok(match kind {
        KIND_OPEN => Details::Open {
            endpoints: endpoints()?,
            owner: read_owner(raw, header),
            bind: read_bind(raw, 92)?,
            task: read_task(raw, 96, header.fields)?,
        },
        KIND_PASSIVE_OPEN => Details::PassiveOpen {
            endpoints: endpoints()?,
            owner: read_owner(raw, header),
            bind: read_bind(raw, 108)?,
            request: read_request(raw)?,
        },
        KIND_ESTABLISHED => Details::Established {
            endpoints: endpoints()?,
            handshake: read_handshake(raw, header)?,
        },
        KIND_RELEASE => Details::Release {
            task: read_task(raw, 32, header.fields)?,
        },
        KIND_CLOSE => Details::Close {
            endpoints: endpoints()?,
            fields: read_close(raw, header)?,
        },
        _ => Details::Step,
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
