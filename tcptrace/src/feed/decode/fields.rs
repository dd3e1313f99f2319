//! Decodes the parts that events consist of.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU32,
};

use tcptrace_common::{
    BIND_ALL, BIND_KNOWN, BIND_REUSEPORT, BIND_STEERED, BIND_TRANSPARENT, BIND_V6ONLY, CloseEvent,
    ConnectFailedEvent, EstablishedEvent, FAMILY_INET, FIELDS_KTHREAD, FIELDS_TCP, FIELDS_USER,
    HANDSHAKE_ACK_DATA, HANDSHAKE_ACK_SEEN, HANDSHAKE_ALL, HANDSHAKE_FASTOPEN_CONNECT,
    HANDSHAKE_REPAIR, HANDSHAKE_SYN_DATA, OPEN_ALL, OPEN_DEFER_KNOWN, OPEN_DEFERRED, OPEN_FAST,
    OPEN_REQUEST_SEEN, PassiveOpenEvent, SOCK_DEAD, SOCK_DONE, SOCK_FLAGS_ALL, SOCK_HAS_SOCKET,
    SOCK_LINGER2_NEGATIVE, SOCK_REPAIR, SOCK_TIMEWAIT_FULL,
};

use super::header::{DecodeError, DecodedHeader, out_of_range, zero};
use crate::feed::event::{
    Bind, CloseFields, ConnectFailure, Endpoints, HandshakeFields, HandshakeRequest, NetnsId,
    RequestFields, SocketOwner, Task,
};

pub(super) fn read_endpoints(
    ends: &tcptrace_common::RawEndpoints,
    family: u16,
) -> Result<Endpoints, DecodeError> {
    if ends.netns == 0 {
        zero("endpoints.netns_cookie", ends.netns_cookie.into())?;
    }
    let address = |bytes: [u8; 16]| {
        if family == FAMILY_INET {
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
    };
    Ok(Endpoints {
        local_address: address(ends.local_address),
        remote_address: address(ends.remote_address),
        local_port: ends.local_port,
        remote_port: ends.remote_port,
        netns: netns_of(ends),
        interface: Some(ends.interface).filter(|&interface| interface != 0),
    })
}

/// Returns `None` if it could not be read.
pub(super) fn netns_of(ends: &tcptrace_common::RawEndpoints) -> Option<NetnsId> {
    (ends.netns != 0).then(|| NetnsId {
        inode: ends.netns,
        cookie: NonZeroU32::new(ends.netns_cookie),
    })
}

/// Returns `None` if the flags could not be read.
pub(super) fn read_bind(flags: u32) -> Result<Option<Bind>, DecodeError> {
    let has = |flag| flags & flag != 0;
    if flags & !BIND_ALL != 0 || (flags != 0 && !has(BIND_KNOWN)) {
        return Err(DecodeError::Field {
            field: "bind_flags",
            value: flags.into(),
        });
    }
    Ok(has(BIND_KNOWN).then(|| Bind {
        reuse_port: has(BIND_REUSEPORT),
        v6_only: has(BIND_V6ONLY),
        transparent: has(BIND_TRANSPARENT),
        steered: has(BIND_STEERED),
    }))
}

pub(super) fn read_owner(uid: u32, cgroup: u64, header: &DecodedHeader) -> SocketOwner {
    SocketOwner {
        uid: header.has(FIELDS_USER).then_some(uid),
        cgroup: Some(cgroup).filter(|&cgroup| cgroup != 0),
    }
}

pub(super) fn read_request(event: &PassiveOpenEvent) -> Result<HandshakeRequest, DecodeError> {
    let flags = event.open_flags;
    let has = |flag| flags & flag != 0;
    if flags & !OPEN_ALL != 0
        || (has(OPEN_FAST) && !has(OPEN_REQUEST_SEEN))
        || (has(OPEN_DEFERRED) && !has(OPEN_DEFER_KNOWN))
    {
        return Err(DecodeError::Field {
            field: "open_flags",
            value: flags.into(),
        });
    }
    Ok(HandshakeRequest {
        seen: has(OPEN_REQUEST_SEEN).then(|| RequestFields {
            synack_us: Some(event.synack_us).filter(|&time| time != 0),
            synack_retransmits: event.synack_retransmits,
            fast_open: has(OPEN_FAST),
        }),
        deferred: has(OPEN_DEFER_KNOWN).then(|| has(OPEN_DEFERRED)),
        listener: Some(event.listener).filter(|&listener| listener != 0),
    })
}

pub(super) fn read_handshake(
    event: &EstablishedEvent,
    header: &DecodedHeader,
) -> Result<Option<HandshakeFields>, DecodeError> {
    zero("established.reserved", event.reserved.into())?;
    let flags = event.handshake_flags;
    let data_unseen = flags & (HANDSHAKE_ACK_SEEN | HANDSHAKE_ACK_DATA) == HANDSHAKE_ACK_DATA;
    if flags & !HANDSHAKE_ALL != 0 || data_unseen {
        return Err(DecodeError::Field {
            field: "handshake_flags",
            value: flags.into(),
        });
    }
    Ok(header.has(FIELDS_TCP).then(|| HandshakeFields {
        srtt_us: event.srtt_us,
        retransmits: event.retransmits,
        syn_ns: Some(event.syn_ns).filter(|&time| time != 0),
        fastopen_connect: flags & HANDSHAKE_FASTOPEN_CONNECT != 0,
        syn_data: flags & HANDSHAKE_SYN_DATA != 0,
        repair: flags & HANDSHAKE_REPAIR != 0,
        last_ack_data: (flags & HANDSHAKE_ACK_SEEN != 0).then_some(flags & HANDSHAKE_ACK_DATA != 0),
    }))
}

pub(super) fn read_task(task: &tcptrace_common::RawTask, fields: u8) -> Result<Task, DecodeError> {
    zero("task.reserved", task.reserved.into())?;
    Ok(Task {
        pid: task.pid,
        comm: task.comm,
        kernel: fields & FIELDS_KTHREAD != 0,
    })
}

/// Reads an errno, 0 for none.
fn read_errno(error: u32) -> Result<u16, DecodeError> {
    // MAX_ERRNO (include/linux/err.h).
    u16::try_from(error)
        .ok()
        .filter(|&errno| errno <= 4095)
        .ok_or(DecodeError::Field {
            field: "error",
            value: error.into(),
        })
}

pub(super) fn read_connect_failed(
    event: &ConnectFailedEvent,
    header: &DecodedHeader,
) -> Result<ConnectFailure, DecodeError> {
    zero("connect_failed.reserved", event.reserved.into())?;
    let error = read_errno(event.error)?;
    if error == 0 {
        return Err(DecodeError::Field {
            field: "error",
            value: 0,
        });
    }
    let mut endpoints = read_endpoints(&event.endpoints, header.family)?;
    if endpoints.remote_address.is_ipv4() && endpoints.local_address.is_unspecified() {
        // An unbound IPv6 socket has no IPv4-mapped address yet.
        endpoints.local_address = Ipv4Addr::UNSPECIFIED.into();
    }
    Ok(ConnectFailure {
        endpoints,
        owner: read_owner(event.uid, event.cgroup, header),
        task: read_task(&event.task, header.fields)?,
        error,
        policy: match event.policy {
            0 => false,
            1 => true,
            other => {
                return Err(DecodeError::Field {
                    field: "policy",
                    value: other.into(),
                });
            }
        },
    })
}

pub(super) fn read_close(
    event: &CloseEvent,
    header: &DecodedHeader,
) -> Result<Option<CloseFields>, DecodeError> {
    let shutdown = event.shutdown;
    if shutdown > 3 {
        return Err(out_of_range("shutdown", shutdown));
    }
    let flags = event.sock_flags;
    if flags & !SOCK_FLAGS_ALL != 0 {
        return Err(out_of_range("sock_flags", flags));
    }
    let error = read_errno(event.error)?;
    zero("close.reserved", event.reserved.into())?;
    if !header.has(FIELDS_TCP) {
        return Ok(None);
    }
    let fin = flags & SOCK_DONE != 0;
    // The peer's FIN takes a sequence number: it counts in bytes_received, and in unread until the
    // end of file was read (then the difference is -1).
    let unread = event.unread.wrapping_sub(fin.into());
    Ok(Some(CloseFields {
        bytes_sent: event.bytes_sent,
        bytes_acked: event.bytes_acked,
        bytes_received: event.bytes_received.saturating_sub(fin.into()),
        segments_sent: event.segments_sent,
        segments_received: event.segments_received,
        retransmits: event.retransmits,
        srtt_us: event.srtt_us,
        error,
        unread: if unread > i32::MAX as u32 { 0 } else { unread },
        unacknowledged: event.unacknowledged,
        send_window: event.send_window,
        receive_shut: shutdown & 1 != 0,
        send_shut: shutdown & 2 != 0,
        dead: flags & SOCK_DEAD != 0,
        peer_fin: fin,
        has_socket: flags & SOCK_HAS_SOCKET != 0,
        time_wait_full: flags & SOCK_TIMEWAIT_FULL != 0,
        linger2_negative: flags & SOCK_LINGER2_NEGATIVE != 0,
        repair: flags & SOCK_REPAIR != 0,
        probes_out: event.probes_out,
        in_flight: event.in_flight,
    }))
}
