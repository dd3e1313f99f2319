//! The parts that events are made of.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tcptrace_common::{
    BIND_ALL, BIND_KNOWN, BIND_REUSEPORT, BIND_STEERED, BIND_TRANSPARENT, BIND_V6ONLY, FAMILY_INET,
    FIELDS_KTHREAD, FIELDS_TCP, FIELDS_USER, HANDSHAKE_ACK_DATA, HANDSHAKE_ACK_SEEN, HANDSHAKE_ALL,
    HANDSHAKE_FASTOPEN_CONNECT, HANDSHAKE_REPAIR, HANDSHAKE_SYN_DATA, OPEN_ALL, OPEN_DEFER_KNOWN,
    OPEN_DEFERRED, OPEN_FAST, OPEN_REQUEST_SEEN, SOCK_DEAD, SOCK_DONE, SOCK_FLAGS_ALL,
    SOCK_HAS_SOCKET, SOCK_LINGER2_NEGATIVE, SOCK_TIMEWAIT_FULL,
};

use super::{DecodeError, Header, out_of_range, zero};
use crate::feed::event::{
    Bind, CloseFields, Endpoints, HandshakeFields, Request, RequestFields, SocketOwner, Task,
};

pub(super) fn read_endpoints(raw: Raw<'_>, family: u16) -> Result<Endpoints, DecodeError> {
    zero("endpoints.reserved", raw.u32(76).into())?;
    let address = |at| {
        let bytes: [u8; 16] = raw.array(at);
        if family == FAMILY_INET {
            IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]))
        } else {
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
    };
    Ok(Endpoints {
        local_address: address(32),
        remote_address: address(48),
        local_port: raw.u16(64),
        remote_port: raw.u16(66),
        netns: Some(raw.u32(68)).filter(|&netns| netns != 0),
        interface: Some(raw.u32(72)).filter(|&interface| interface != 0),
    })
}

/// `None` where they could not be read.
pub(super) fn read_bind(raw: Raw<'_>, at: usize) -> Result<Option<Bind>, DecodeError> {
    let flags = raw.u32(at);
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

pub(super) fn read_owner(raw: Raw<'_>, header: &Header) -> SocketOwner {
    SocketOwner {
        uid: header.has(FIELDS_USER).then(|| raw.u32(88)),
        cgroup: Some(raw.u64(80)).filter(|&cgroup| cgroup != 0),
    }
}

pub(super) fn read_request(raw: Raw<'_>) -> Result<Request, DecodeError> {
    let flags = raw.u32(92);
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
    Ok(Request {
        seen: has(OPEN_REQUEST_SEEN).then(|| RequestFields {
            synack_us: Some(raw.u64(96)).filter(|&time| time != 0),
            synack_retransmits: raw.u32(104),
            fast_open: has(OPEN_FAST),
        }),
        deferred: has(OPEN_DEFER_KNOWN).then(|| has(OPEN_DEFERRED)),
        listener: Some(raw.u64(112)).filter(|&listener| listener != 0),
    })
}

pub(super) fn read_handshake(
    raw: Raw<'_>,
    header: &Header,
) -> Result<Option<HandshakeFields>, DecodeError> {
    zero("established.reserved", raw.u32(100).into())?;
    let flags = raw.u32(96);
    let data_unseen = flags & (HANDSHAKE_ACK_SEEN | HANDSHAKE_ACK_DATA) == HANDSHAKE_ACK_DATA;
    if flags & !HANDSHAKE_ALL != 0 || data_unseen {
        return Err(DecodeError::Field {
            field: "handshake_flags",
            value: flags.into(),
        });
    }
    Ok(header.has(FIELDS_TCP).then(|| HandshakeFields {
        srtt_us: raw.u32(80),
        retransmits: raw.u32(84),
        syn_ns: Some(raw.u64(88)).filter(|&time| time != 0),
        fastopen_connect: flags & HANDSHAKE_FASTOPEN_CONNECT != 0,
        syn_data: flags & HANDSHAKE_SYN_DATA != 0,
        repair: flags & HANDSHAKE_REPAIR != 0,
        last_ack_data: (flags & HANDSHAKE_ACK_SEEN != 0).then_some(flags & HANDSHAKE_ACK_DATA != 0),
    }))
}

pub(super) fn read_task(raw: Raw<'_>, at: usize, fields: u8) -> Result<Task, DecodeError> {
    zero("task.reserved", raw.u32(at + 4).into())?;
    Ok(Task {
        pid: raw.u32(at),
        comm: raw.array(at + 8),
        kernel: fields & FIELDS_KTHREAD != 0,
    })
}

pub(super) fn read_close(
    raw: Raw<'_>,
    header: &Header,
) -> Result<Option<CloseFields>, DecodeError> {
    let shutdown = raw.u8(136);
    if shutdown > 3 {
        return Err(out_of_range("shutdown", shutdown));
    }
    let flags = raw.u8(137);
    if flags & !SOCK_FLAGS_ALL != 0 {
        return Err(out_of_range("sock_flags", flags));
    }
    let error = raw.u32(120);
    // MAX_ERRNO (include/linux/err.h).
    let error = u16::try_from(error)
        .ok()
        .filter(|&errno| errno <= 4095)
        .ok_or(DecodeError::Field {
            field: "error",
            value: error.into(),
        })?;
    zero("close.reserved", raw.u8(139).into())?;
    if !header.has(FIELDS_TCP) {
        return Ok(None);
    }
    let fin = flags & SOCK_DONE != 0;
    // The peer's FIN takes a sequence number: it counts in bytes_received, and in unread until
    // the end of file was read (then the difference is -1).
    let unread = raw.u32(124).wrapping_sub(fin.into());
    Ok(Some(CloseFields {
        bytes_sent: raw.u64(80),
        bytes_acked: raw.u64(88),
        bytes_received: raw.u64(96).saturating_sub(fin.into()),
        segments_sent: raw.u32(104),
        segments_received: raw.u32(108),
        retransmits: raw.u32(112),
        srtt_us: raw.u32(116),
        error,
        unread: if unread > i32::MAX as u32 { 0 } else { unread },
        unacknowledged: raw.u32(128),
        send_window: raw.u32(132),
        receive_shut: shutdown & 1 != 0,
        send_shut: shutdown & 2 != 0,
        dead: flags & SOCK_DEAD != 0,
        peer_fin: fin,
        has_socket: flags & SOCK_HAS_SOCKET != 0,
        time_wait_full: flags & SOCK_TIMEWAIT_FULL != 0,
        linger2_negative: flags & SOCK_LINGER2_NEGATIVE != 0,
        probes_out: raw.u8(138),
        in_flight: raw.u32(140),
    }))
}

/// Bytes whose length was checked against every offset used.
#[derive(Clone, Copy)]
pub(super) struct Raw<'a>(pub(super) &'a [u8]);

impl Raw<'_> {
    pub(super) fn array<const N: usize>(self, at: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.0[at..at + N]);
        bytes
    }

    pub(super) fn u8(self, at: usize) -> u8 {
        self.0[at]
    }

    pub(super) fn u16(self, at: usize) -> u16 {
        u16::from_ne_bytes(self.array(at))
    }

    pub(super) fn u32(self, at: usize) -> u32 {
        u32::from_ne_bytes(self.array(at))
    }

    pub(super) fn u64(self, at: usize) -> u64 {
        u64::from_ne_bytes(self.array(at))
    }
}
