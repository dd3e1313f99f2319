//! Decodes bytes of the ring: every field is checked, and no byte sequence panics.
//!
//! Nothing is guessed: an event with a value out of range is an error that names the field, and the
//! reader counts it as lost.

mod fields;
mod header;

use std::mem::offset_of;
use tcptrace_common::{
    AcceptEvent, CgroupEvent, CloseEvent, ConnectFailedEvent, EstablishedEvent, EventHeader,
    FIELDS_KTHREAD, FIELDS_RECOVERED, FIELDS_TASK, FIELDS_UNSENT, KIND_ACCEPT, KIND_CGROUP,
    KIND_CLOSE, KIND_CONNECT_FAILED, KIND_ESTABLISHED, KIND_EXIT, KIND_HELD, KIND_OPEN,
    KIND_PASSIVE_OPEN, KIND_RELEASE, KIND_RENAME, KIND_RESET_RECEIVED, KIND_RESET_SENT, KIND_SEED,
    KIND_STEP, KIND_SYNACK_RETRANSMIT, KIND_TIMEWAIT, KIND_TIMEWAIT_STEP, OpenEvent,
    PassiveOpenEvent, PlaceEvent, ProcessEvent, REASON_NONE, ReleaseEvent, ResetEvent, SeedEvent,
    StepEvent, TcpState, TimewaitEvent, TimewaitStepEvent, kind_of_transition,
};

use zerocopy::FromBytes;

use self::fields::{
    read_bind, read_close, read_connect_failed, read_endpoints, read_handshake, read_owner,
    read_request, read_task,
};
pub use self::header::DecodeError;
use self::header::{DecodedHeader, out_of_range, zero};
use crate::feed::event::{Body, Details, Event, Seed, TimewaitArrival};

/// Returns when an event happened, CLOCK_MONOTONIC nanoseconds, without decoding the rest; `None`
/// when it is too short.
pub fn time_of(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk().map(|first| u64::from_ne_bytes(*first))
}

/// Returns the id of a new cgroup, and its path if it fitted: all that such an event tells. `None`
/// for every other event.
pub fn cgroup_in(bytes: &[u8]) -> Option<(u64, Option<&[u8]>)> {
    if bytes.get(offset_of!(EventHeader, kind)) != Some(&KIND_CGROUP) {
        return None;
    }
    let event = CgroupEvent::read_from_bytes(bytes).ok()?;
    // The last byte is the NUL.
    let length = (event.length as usize).checked_sub(1);
    let path = length.and_then(|length| bytes.get(offset_of!(CgroupEvent, path)..)?.get(..length));
    Some((event.cgroup, path))
}

/// An event as sent.
enum WireBody {
    Open(OpenEvent),
    PassiveOpen(PassiveOpenEvent),
    Established(EstablishedEvent),
    Step,
    Release(ReleaseEvent),
    Close(CloseEvent),
    Reset(ResetEvent),
    Accept(AcceptEvent),
    Timewait(TimewaitEvent),
    TimewaitStep(TimewaitStepEvent),
    SynackRetransmit(PlaceEvent),
    Seed(SeedEvent),
    ConnectFailed(ConnectFailedEvent),
    Held(PlaceEvent),
    Process(ProcessEvent),
}

impl WireBody {
    fn read(kind: u8, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            KIND_OPEN => Self::Open(whole("open", bytes)?),
            KIND_PASSIVE_OPEN => Self::PassiveOpen(whole("passive open", bytes)?),
            KIND_ESTABLISHED => Self::Established(whole("established", bytes)?),
            KIND_STEP => whole::<StepEvent>("step", bytes).map(|_| Self::Step)?,
            KIND_RELEASE => Self::Release(whole("release", bytes)?),
            KIND_CLOSE => Self::Close(whole("close", bytes)?),
            KIND_RESET_RECEIVED | KIND_RESET_SENT => Self::Reset(whole("reset", bytes)?),
            KIND_ACCEPT => Self::Accept(whole("accept", bytes)?),
            KIND_TIMEWAIT => Self::Timewait(whole("timewait", bytes)?),
            KIND_TIMEWAIT_STEP => Self::TimewaitStep(whole("timewait step", bytes)?),
            KIND_SYNACK_RETRANSMIT => Self::SynackRetransmit(whole("SYN-ACK retransmit", bytes)?),
            KIND_SEED => Self::Seed(whole("seed", bytes)?),
            KIND_CONNECT_FAILED => Self::ConnectFailed(whole("failed connect", bytes)?),
            KIND_HELD => Self::Held(whole("held", bytes)?),
            KIND_RENAME | KIND_EXIT => Self::Process(whole("process", bytes)?),
            _ => return Err(out_of_range("kind", kind)),
        })
    }

    /// Whether the program that sends it has a second copy.
    const fn has_second_copy(&self) -> bool {
        !matches!(
            self,
            Self::Accept(_)
                | Self::Timewait(_)
                | Self::TimewaitStep(_)
                | Self::SynackRetransmit(_)
                | Self::Seed(_)
                | Self::ConnectFailed(_)
                | Self::Held(_)
        )
    }
}

/// Reads the bytes as a `T`, if the length is the same.
fn whole<T: FromBytes>(kind: &'static str, bytes: &[u8]) -> Result<T, DecodeError> {
    T::read_from_bytes(bytes).map_err(|_| DecodeError::Length {
        kind,
        expected: size_of::<T>(),
        actual: bytes.len(),
    })
}

/// Decodes one event.
///
/// Fails when the length is not the kind's, or a field is out of range; the error names it.
pub fn decode(bytes: &[u8]) -> Result<Event, DecodeError> {
    let prefix = bytes.get(..size_of::<EventHeader>()).unwrap_or(bytes);
    let raw: EventHeader = whole("header", prefix)?;
    let sent = WireBody::read(raw.kind, bytes)?;
    if let WireBody::Process(process) = &sent {
        return read_process(process);
    }
    let header = DecodedHeader::read(&raw)?;
    if header.has(FIELDS_UNSENT) && !header.knows_fin()
        || header.has(FIELDS_RECOVERED) && !sent.has_second_copy()
    {
        return Err(out_of_range("fields", header.fields));
    }
    Ok(Event {
        time_ns: raw.time_ns,
        socket: raw.socket,
        cookie: Some(raw.cookie).filter(|&cookie| cookie != 0),
        recovered: header.has(FIELDS_RECOVERED),
        body: read_body(&sent, &header)?,
    })
}

fn read_body(sent: &WireBody, header: &DecodedHeader) -> Result<Body, DecodeError> {
    let family = header.family;
    let (old, new) = (header.old, header.new);
    match sent {
        WireBody::Open(_)
        | WireBody::PassiveOpen(_)
        | WireBody::Established(_)
        | WireBody::Step
        | WireBody::Release(_)
        | WireBody::Close(_) => {
            if header.kind != kind_of_transition(old.raw(), new.raw()) {
                return Err(DecodeError::KindOfTransition {
                    kind: header.kind,
                    old: old.raw(),
                    new: new.raw(),
                });
            }
        }
        // No transition: the old state is the current one.
        WireBody::Reset(_)
        | WireBody::Accept(_)
        | WireBody::Timewait(_)
        | WireBody::SynackRetransmit(_)
        | WireBody::Seed(_)
        | WireBody::ConnectFailed(_)
        | WireBody::Held(_) => {
            if old != new {
                return Err(out_of_range("new_state", new.raw()));
            }
        }
        WireBody::TimewaitStep(_) | WireBody::Process(_) => {}
    }
    match sent {
        WireBody::Open(event) => header.transition(Details::Open {
            endpoints: read_endpoints(&event.endpoints, family)?,
            owner: read_owner(event.uid, event.cgroup, header),
            bind: read_bind(event.bind_flags)?,
            task: read_task(&event.task, header.fields)?,
        }),
        WireBody::PassiveOpen(event) => header.transition(Details::PassiveOpen {
            endpoints: read_endpoints(&event.endpoints, family)?,
            owner: read_owner(event.uid, event.cgroup, header),
            bind: read_bind(event.bind_flags)?,
            request: read_request(event)?,
        }),
        WireBody::Established(event) => header.transition(Details::Established {
            endpoints: read_endpoints(&event.endpoints, family)?,
            handshake: read_handshake(event, header)?,
        }),
        WireBody::Step => header.transition(Details::Step),
        WireBody::Release(event) => header.transition(Details::Release {
            task: read_task(&event.task, header.fields)?,
        }),
        WireBody::Close(event) => header.transition(Details::Close {
            endpoints: read_endpoints(&event.endpoints, family)?,
            fields: read_close(event, header)?,
        }),
        WireBody::Reset(event) => read_reset(event, header),
        WireBody::Accept(event) => Ok(Body::Accept {
            state: new,
            endpoints: read_endpoints(&event.endpoints, family)?,
            task: read_task(&event.task, header.fields)?,
            listener: Some(event.listener).filter(|&listener| listener != 0),
        }),
        WireBody::Timewait(event) => read_timewait(event),
        WireBody::TimewaitStep(event) => read_timewait_step(event, header),
        WireBody::SynackRetransmit(event) => {
            read_endpoints(&event.endpoints, family).map(Body::SynackRetransmit)
        }
        WireBody::Seed(event) => Ok(Body::Seed(Seed {
            state: new,
            endpoints: read_endpoints(&event.endpoints, family)?,
            owner: read_owner(event.uid, event.cgroup, header),
            bind: read_bind(event.bind_flags)?,
            inode: Some(event.inode).filter(|&inode| inode != 0),
        })),
        WireBody::ConnectFailed(event) => {
            read_connect_failed(event, header).map(Body::ConnectFailed)
        }
        WireBody::Held(event) => read_endpoints(&event.endpoints, family).map(Body::Held),
        // Its header names no socket: it was read before.
        WireBody::Process(event) => Err(out_of_range("kind", event.header.kind)),
    }
}

fn read_reset(event: &ResetEvent, header: &DecodedHeader) -> Result<Body, DecodeError> {
    let endpoints = read_endpoints(&event.endpoints, header.family)?;
    zero("reset.reserved", event.reserved.into())?;
    let reason = Some(event.reason).filter(|&reason| reason != REASON_NONE);
    match (header.kind, reason) {
        (KIND_RESET_RECEIVED, None) => Ok(Body::ResetReceived(endpoints)),
        // The tracepoint has no such argument.
        (KIND_RESET_RECEIVED, Some(reason)) => Err(DecodeError::Field {
            field: "reason",
            value: reason.into(),
        }),
        (_, reason) => Ok(Body::ResetSent { endpoints, reason }),
    }
}

/// Reads a process event, whose header names no socket.
fn read_process(event: &ProcessEvent) -> Result<Event, DecodeError> {
    let header = &event.header;
    if header.fields & !(FIELDS_TASK | FIELDS_KTHREAD) != 0 {
        return Err(out_of_range("fields", header.fields));
    }
    zero("process.socket", header.socket)?;
    zero("process.cookie", header.cookie)?;
    zero("process.old_state", header.old_state.into())?;
    zero("process.new_state", header.new_state.into())?;
    zero("process.family", header.family.into())?;
    zero("header.reserved", header.reserved.into())?;
    let task = read_task(&event.task, header.fields)?;
    Ok(Event {
        time_ns: header.time_ns,
        socket: 0,
        cookie: None,
        recovered: false,
        body: if header.kind == KIND_RENAME {
            Body::Rename(task)
        } else {
            Body::Exit(task)
        },
    })
}

fn read_timewait(event: &TimewaitEvent) -> Result<Body, DecodeError> {
    let reserved = event.reserved.iter().map(|&byte| u64::from(byte)).sum();
    zero("timewait.reserved", reserved)?;
    Ok(Body::Timewait {
        timewait: Some(event.timewait).filter(|&address| address != 0),
        awaits_fin: match TcpState::from_raw(event.substate) {
            Some(TcpState::FinWait2) => true,
            Some(TcpState::TimeWait) => false,
            Some(_) | None => return Err(out_of_range("substate", event.substate)),
        },
    })
}

fn read_timewait_step(
    event: &TimewaitStepEvent,
    header: &DecodedHeader,
) -> Result<Body, DecodeError> {
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
    let reset = match event.reset {
        0 => false,
        1 => true,
        other => {
            return Err(DecodeError::Field {
                field: "reset",
                value: other.into(),
            });
        }
    };
    let status = event.status;
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
        endpoints: read_endpoints(&event.endpoints, header.family)?,
        arrived,
    })
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
