//! One valid event of each kind, in bytes and as it should decode.

use std::num::NonZeroU32;

use tcptrace_common as wire;
use zerocopy::{Immutable, IntoBytes};

use super::*;
use crate::feed::event::NetnsId;

pub(super) fn bytes_of(event: &(impl IntoBytes + Immutable)) -> Vec<u8> {
    event.as_bytes().to_vec()
}

pub(super) const SOCKET: u64 = 0xffff_8880_1234_5600;
pub(super) const NETNS: u32 = 4_026_531_840;
pub(super) const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
pub(super) const REMOTE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

pub(super) fn header(kind: u8, old: TcpState, new: TcpState) -> EventHeader {
    EventHeader {
        time_ns: 1_000_000_007,
        socket: SOCKET,
        cookie: 42,
        kind,
        old_state: old.raw(),
        new_state: new.raw(),
        fields: FIELDS_USER | FIELDS_TCP,
        family: FAMILY_INET,
        reserved: 0,
    }
}

pub(super) fn v4(address: [u8; 4]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&address);
    bytes
}

pub(super) fn wire_ends() -> wire::RawEndpoints {
    wire::RawEndpoints {
        local_address: v4([10, 0, 0, 1]),
        remote_address: v4([192, 0, 2, 7]),
        local_port: 40_000,
        remote_port: 443,
        netns: NETNS,
        interface: 3,
        netns_cookie: 4711,
    }
}

pub(super) const ENDS: Endpoints = Endpoints {
    local_address: LOCAL,
    remote_address: REMOTE,
    local_port: 40_000,
    remote_port: 443,
    netns: Some(NetnsId {
        inode: NETNS,
        cookie: NonZeroU32::new(4711),
    }),
    interface: Some(3),
};

pub(super) const WIRE_TASK: wire::RawTask = wire::RawTask {
    pid: 1234,
    reserved: 0,
    comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
};
pub(super) const TASK: Task = Task {
    pid: 1234,
    comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
    kernel: false,
};
pub(super) const OWNER: SocketOwner = SocketOwner {
    uid: Some(1000),
    cgroup: Some(7777),
};

pub(super) fn open() -> OpenEvent {
    OpenEvent {
        header: header(KIND_OPEN, TcpState::Close, TcpState::SynSent),
        endpoints: wire_ends(),
        cgroup: 7777,
        uid: 1000,
        bind_flags: BIND_KNOWN | BIND_REUSEPORT,
        task: WIRE_TASK,
    }
}

pub(super) fn passive_open() -> PassiveOpenEvent {
    PassiveOpenEvent {
        header: header(KIND_PASSIVE_OPEN, TcpState::Listen, TcpState::SynRecv),
        endpoints: wire_ends(),
        cgroup: 7777,
        uid: 1000,
        open_flags: OPEN_REQUEST_SEEN | OPEN_DEFER_KNOWN,
        synack_us: 999_700,
        synack_retransmits: 1,
        bind_flags: BIND_KNOWN | BIND_TRANSPARENT | BIND_STEERED,
        listener: 0xffff_8880_0000_2000,
    }
}

pub(super) const REQUEST: HandshakeRequest = HandshakeRequest {
    seen: Some(RequestFields {
        synack_us: Some(999_700),
        synack_retransmits: 1,
        fast_open: false,
    }),
    deferred: Some(false),
    listener: Some(0xffff_8880_0000_2000),
};

pub(super) fn established() -> EstablishedEvent {
    EstablishedEvent {
        header: header(KIND_ESTABLISHED, TcpState::SynSent, TcpState::Established),
        endpoints: wire_ends(),
        srtt_us: 250_362,
        retransmits: 2,
        syn_ns: 999_600_001,
        handshake_flags: HANDSHAKE_SYN_DATA | HANDSHAKE_ACK_SEEN,
        reserved: 0,
    }
}

pub(super) fn step() -> StepEvent {
    StepEvent {
        header: header(KIND_STEP, TcpState::FinWait1, TcpState::FinWait2),
    }
}

pub(super) fn release() -> ReleaseEvent {
    ReleaseEvent {
        header: header(KIND_RELEASE, TcpState::Established, TcpState::FinWait1),
        task: WIRE_TASK,
    }
}

pub(super) fn close() -> CloseEvent {
    CloseEvent {
        header: header(KIND_CLOSE, TcpState::LastAck, TcpState::Close),
        endpoints: wire_ends(),
        bytes_sent: 4000,
        bytes_acked: 3998,
        bytes_received: 301,
        segments_sent: 11,
        segments_received: 12,
        retransmits: 3,
        srtt_us: 99,
        error: 104,
        unread: 21,
        unacknowledged: 5,
        send_window: 65_535,
        shutdown: 2,
        sock_flags: SOCK_DONE | SOCK_HAS_SOCKET,
        probes_out: 4,
        reserved: 0,
        in_flight: 4,
    }
}

pub(super) fn reset(kind: u8) -> ResetEvent {
    ResetEvent {
        header: header(kind, TcpState::SynSent, TcpState::SynSent),
        endpoints: wire_ends(),
        reason: if kind == KIND_RESET_SENT {
            REASON
        } else {
            REASON_NONE
        },
        reserved: 0,
    }
}

pub(super) const REASON: u32 = 11;

pub(super) fn accept() -> AcceptEvent {
    AcceptEvent {
        header: header(KIND_ACCEPT, TcpState::CloseWait, TcpState::CloseWait),
        endpoints: wire_ends(),
        task: WIRE_TASK,
        listener: 0xffff_8880_0000_2000,
    }
}

pub(super) const TIMEWAIT: u64 = 0xffff_8880_7654_3200;

pub(super) fn timewait() -> TimewaitEvent {
    TimewaitEvent {
        header: header(KIND_TIMEWAIT, TcpState::FinWait2, TcpState::FinWait2),
        timewait: TIMEWAIT,
        substate: TcpState::FinWait2.raw(),
        reserved: [0; 7],
    }
}

pub(super) fn timewait_step() -> TimewaitStepEvent {
    TimewaitStepEvent {
        header: header(KIND_TIMEWAIT_STEP, TcpState::FinWait2, TcpState::TimeWait),
        endpoints: wire_ends(),
        status: 2,
        reset: 0,
    }
}

pub(super) fn synack_retransmit() -> PlaceEvent {
    PlaceEvent {
        header: header(KIND_SYNACK_RETRANSMIT, TcpState::Listen, TcpState::Listen),
        endpoints: wire_ends(),
    }
}

pub(super) fn seed() -> SeedEvent {
    SeedEvent {
        header: header(KIND_SEED, TcpState::FinWait2, TcpState::FinWait2),
        endpoints: wire_ends(),
        cgroup: 7777,
        uid: 1000,
        bind_flags: 0,
        inode: 4242,
    }
}

pub(super) fn process(kind: u8) -> ProcessEvent {
    ProcessEvent {
        header: EventHeader {
            time_ns: 1_000_000_123,
            kind,
            fields: FIELDS_TASK,
            ..EventHeader::default()
        },
        task: WIRE_TASK,
    }
}

pub(super) fn connect_failed() -> ConnectFailedEvent {
    ConnectFailedEvent {
        header: header(KIND_CONNECT_FAILED, TcpState::Close, TcpState::Close),
        endpoints: wire_ends(),
        cgroup: 7777,
        uid: 1000,
        error: 101,
        task: WIRE_TASK,
        policy: 1,
        reserved: 0,
    }
}

pub(super) fn held() -> PlaceEvent {
    PlaceEvent {
        header: header(KIND_HELD, TcpState::CloseWait, TcpState::CloseWait),
        endpoints: wire_ends(),
    }
}

/// One valid event of each kind, with the name that its length error has.
pub(super) fn samples() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("open", bytes_of(&open())),
        ("passive open", bytes_of(&passive_open())),
        ("established", bytes_of(&established())),
        ("step", bytes_of(&step())),
        ("release", bytes_of(&release())),
        ("close", bytes_of(&close())),
        ("reset", bytes_of(&reset(KIND_RESET_RECEIVED))),
        ("reset", bytes_of(&reset(KIND_RESET_SENT))),
        ("accept", bytes_of(&accept())),
        ("timewait", bytes_of(&timewait())),
        ("timewait step", bytes_of(&timewait_step())),
        ("SYN-ACK retransmit", bytes_of(&synack_retransmit())),
        ("seed", bytes_of(&seed())),
        ("failed connect", bytes_of(&connect_failed())),
        ("held", bytes_of(&held())),
        ("process", bytes_of(&process(KIND_RENAME))),
        ("process", bytes_of(&process(KIND_EXIT))),
    ]
}

pub(super) fn with(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

pub(super) fn transition(bytes: &[u8]) -> Transition {
    let event = decode(bytes).expect("it does not decode");
    let Body::Transition(transition) = event.body else {
        panic!("no transition but {event:?}");
    };
    transition
}

pub(super) fn close_fields(event: &CloseEvent) -> Option<CloseFields> {
    let Details::Close { fields, .. } = transition(&bytes_of(event)).details else {
        panic!("no close");
    };
    fields
}
