//! A peer made of bare packets: it says what no kernel would, or nothing at all.
//!
//! It needs no device but `lo`. A route sends a foreign network through it; what goes there comes
//! back, is seen by a packet socket, and is dropped, for its route has no input. What the peer
//! says goes out of a raw socket to a local address and is received like any packet.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsRawFd,
};

use anyhow::{Context, ensure};
use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    PATIENCE, ignored,
    namespace::Namespace,
    packet::{ACK, CWR, ECE, RST, SYN, Segment},
    sockets::{ESTABLISHED, begin_connect, bound, wait_state},
};

/// The foreign network (RFC 5737).
const NETWORK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 0);
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
/// The peer that answers as told.
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// And where.
pub(crate) const PORT: u16 = 4_000;
/// This side: any address of `lo`.
const HERE: &str = "127.0.0.2:0";
/// The peer's first sequence number.
const ISN: u32 = 1_000;
const WINDOW: u16 = 60_000;

/// The network that the peer lives in.
pub(crate) struct Wire {
    namespace: Namespace,
    seen: Socket,
    out: Socket,
}

impl Wire {
    /// Lays it.
    pub(crate) fn lay(namespace: &Namespace) -> anyhow::Result<Self> {
        let (seen, out) = namespace.run(|| {
            add_route().context("a route to nowhere")?;
            // Only what is received is wanted: a protocol of its own hears no outgoing packet.
            let ip = libc::c_int::from(u16::try_from(libc::ETH_P_IP)?.to_be());
            let seen = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ip)));
            let seen = match seen {
                Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => {
                    return Err(ignored(format!("no packet sockets: {error}")));
                }
                seen => seen.context("a packet socket")?,
            };
            seen.set_read_timeout(Some(PATIENCE))?;
            let raw = Some(Protocol::from(libc::IPPROTO_RAW));
            let out = Socket::new(Domain::IPV4, Type::RAW, raw).context("a raw socket")?;
            Ok((seen, out))
        })?;
        Ok(Self {
            namespace: namespace.clone(),
            seen,
            out,
        })
    }

    /// A socket here, ready to connect to the peer.
    pub(crate) fn socket(&self) -> anyhow::Result<Socket> {
        self.namespace.run(|| bound(HERE))
    }

    /// A socket here that is connected, and the peer's end of it.
    pub(crate) fn establish(&self) -> anyhow::Result<(Socket, Peer<'_>)> {
        let socket = self.socket()?;
        let (mut peer, _) = self.begin(&socket)?;
        peer.say(SYN | ACK, &[])?;
        peer.hear(|segment| segment.flags == ACK)?;
        wait_state(&socket, ESTABLISHED)?;
        Ok((socket, peer))
    }

    /// Begins to connect, and answers with the peer that has the SYN and says nothing yet.
    pub(crate) fn begin(&self, socket: &Socket) -> anyhow::Result<(Peer<'_>, Segment)> {
        begin_connect(socket, SocketAddr::from((PEER, PORT)))?;
        let syn = self.next()?;
        ensure!(syn.flags & !(ECE | CWR) == SYN, "not a SYN: {syn:?}");
        Ok((Peer::of_syn(self, &syn), syn))
    }

    /// The next segment that goes to the peer.
    fn next(&self) -> anyhow::Result<Segment> {
        let mut buffer = [0; 4096];
        loop {
            let length = (&self.seen)
                .read(&mut buffer)
                .context("waiting for a segment to the peer")?;
            if let Some(segment) = Segment::read(&buffer[..length])
                && segment.to.0 == PEER
            {
                return Ok(segment);
            }
        }
    }

    /// The segments that went to the peer and nobody has heard yet.
    pub(crate) fn unheard(&self) -> anyhow::Result<Vec<Segment>> {
        let mut segments = Vec::new();
        let mut buffer = [0; 4096];
        self.seen.set_nonblocking(true)?;
        while let Ok(length) = (&self.seen).read(&mut buffer) {
            segments.extend(Segment::read(&buffer[..length]).filter(|it| it.to.0 == PEER));
        }
        self.seen.set_nonblocking(false)?;
        Ok(segments)
    }

    /// Sends a packet as it is.
    fn send(&self, packet: &[u8], to: Ipv4Addr) -> anyhow::Result<()> {
        let to = SocketAddr::from((to, 0));
        let sent = self.out.send_to(packet, &to.into())?;
        ensure!(sent == packet.len(), "half a packet was sent");
        Ok(())
    }
}

/// The peer's end of one connection.
pub(crate) struct Peer<'a> {
    wire: &'a Wire,
    here: (Ipv4Addr, u16),
    port: u16,
    /// The next number it sends with.
    pub(crate) sequence: u32,
    /// What it has of the other side.
    pub(crate) acknowledged: u32,
    /// What it has room for.
    pub(crate) window: u16,
}

impl<'a> Peer<'a> {
    /// Takes the other side's SYN as the beginning, and says nothing yet.
    const fn of_syn(wire: &'a Wire, syn: &Segment) -> Self {
        Self {
            wire,
            here: syn.from,
            port: syn.to.1,
            sequence: ISN,
            acknowledged: syn.sequence.wrapping_add(1),
            window: WINDOW,
        }
    }

    /// Is about to connect to a listener here.
    pub(crate) const fn connecting(wire: &'a Wire, to: (Ipv4Addr, u16)) -> Self {
        Self {
            wire,
            here: to,
            port: 40_000,
            sequence: ISN,
            acknowledged: 0,
            window: WINDOW,
        }
    }

    /// Sends what carries this; a SYN without an ACK acknowledges nothing.
    pub(crate) fn say(&mut self, flags: u8, payload: &[u8]) -> anyhow::Result<()> {
        let segment = Segment {
            from: (PEER, self.port),
            to: self.here,
            sequence: self.sequence,
            acknowledged: if flags & ACK == 0 {
                0
            } else {
                self.acknowledged
            },
            flags,
            window: self.window,
            payload: payload.to_vec(),
        };
        self.sequence = self.sequence.wrapping_add(segment.sequence_length());
        self.wire.send(&segment.packet(), self.here.0)
    }

    /// A router, or the peer itself, says that a segment could not be delivered: an ICMP code of
    /// "destination unreachable".
    pub(crate) fn say_unreachable(&self, segment: &Segment, code: u8) -> anyhow::Result<()> {
        self.wire.send(&segment.unreachable(code), self.here.0)
    }

    /// Aborts.
    pub(crate) fn say_reset(&mut self) -> anyhow::Result<()> {
        self.say(RST | ACK, &[])
    }

    /// The next segment for it that is wanted; others are passed over.
    pub(crate) fn hear(&self, wanted: impl Fn(&Segment) -> bool) -> anyhow::Result<Segment> {
        let to_us = |segment: &Segment| segment.from == self.here && segment.to.1 == self.port;
        loop {
            let segment = self.wire.next()?;
            if to_us(&segment) && wanted(&segment) {
                return Ok(segment);
            }
        }
    }

    /// As [`Peer::hear`], and from now on it acknowledges that too.
    pub(crate) fn take(&mut self, wanted: impl Fn(&Segment) -> bool) -> anyhow::Result<Segment> {
        let segment = self.hear(wanted)?;
        self.acknowledged = segment.sequence.wrapping_add(segment.sequence_length());
        Ok(segment)
    }
}

/// 192.0.2.0/24 dev lo.
fn add_route() -> anyhow::Result<()> {
    let address = |address: Ipv4Addr| {
        let internet = libc::sockaddr_in {
            sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(2),
            sin_port: 0,
            sin_addr: libc::in_addr {
                s_addr: u32::from(address).to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: both are 16 bytes and made for this conversion.
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(internet) }
    };
    let mut device = *b"lo\0";
    // SAFETY: zeros are a valid rtentry.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = address(NETWORK);
    route.rt_genmask = address(MASK);
    route.rt_flags = libc::RTF_UP;
    route.rt_dev = device.as_mut_ptr().cast();
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // SAFETY: SIOCADDRT reads an rtentry and its device's name, and both outlive the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT, &raw const route) };
    if result < 0 && Errno::last() != Errno::EEXIST {
        return Err(io::Error::last_os_error().into());
    }
    Ok(())
}
