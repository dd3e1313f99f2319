//! Packets: TCP segments and ICMP errors, from bytes and to bytes.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, bail};
use etherparse::{
    Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TcpHeader,
    TransportSlice, icmpv4::DestUnreachableHeader, icmpv6::DestUnreachableCode,
};

pub(super) const FIN: u8 = 1 << 0;
pub(super) const SYN: u8 = 1 << 1;
pub(super) const RST: u8 = 1 << 2;
pub(super) const PSH: u8 = 1 << 3;
pub(super) const ACK: u8 = 1 << 4;
/// By bit. The flags of ECN are not among them: whether they are set is the host's affair.
const NAMES: [&str; 5] = ["FIN", "SYN", "RST", "PSH", "ACK"];

const HOPS: u8 = 64;

/// A TCP segment, who says it and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) sequence: u32,
    /// 0 without an ACK.
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// As they are on the wire, padding included.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// What could not be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unreachable {
    /// Nobody takes packets for the port: a firewall that rejects says so too.
    Port,
    /// The last router does not find the host.
    Host,
}

impl Segment {
    /// Reads a packet; `None` when it is no TCP segment.
    pub(super) fn read(packet: &[u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ip(packet).ok()?;
        let (from, to): (IpAddr, IpAddr) = match packet.net? {
            NetSlice::Ipv4(ip) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            NetSlice::Ipv6(ip) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            NetSlice::Arp(_) => return None,
        };
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
            return None;
        };
        let set = [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh(), tcp.ack()];
        Some(Self {
            from: (from, tcp.source_port()).into(),
            to: (to, tcp.destination_port()).into(),
            sequence: tcp.sequence_number(),
            acknowledged: tcp.acknowledgment_number(),
            flags: set
                .iter()
                .enumerate()
                .fold(0, |flags, (bit, &is_set)| flags | u8::from(is_set) << bit),
            window: tcp.window_size(),
            options: tcp.options().to_vec(),
            payload: tcp.payload().to_vec(),
        })
    }

    /// As a packet.
    pub(super) fn packet(&self) -> anyhow::Result<Vec<u8>> {
        let mut header =
            TcpHeader::new(self.from.port(), self.to.port(), self.sequence, self.window);
        header.acknowledgment_number = self.acknowledged;
        header.fin = self.has(FIN);
        header.syn = self.has(SYN);
        header.rst = self.has(RST);
        header.psh = self.has(PSH);
        header.ack = self.has(ACK);
        header
            .set_options_raw(&self.options)
            .context("a segment's options")?;
        let mut packet = Vec::new();
        ip(self.from.ip(), self.to.ip())?
            .tcp_header(header)
            .write(&mut packet, &self.payload)
            .context("writing a packet")?;
        Ok(packet)
    }

    /// The ICMP error that comes back for it from where it was sent to.
    pub(super) fn unreachable(&self, what: Unreachable) -> anyhow::Result<Vec<u8>> {
        let original = self.packet()?;
        let builder = ip(self.to.ip(), self.from.ip())?;
        let mut packet = Vec::new();
        let written = if self.to.is_ipv4() {
            let error = Icmpv4Type::DestinationUnreachable(match what {
                Unreachable::Port => DestUnreachableHeader::Port,
                Unreachable::Host => DestUnreachableHeader::Host,
            });
            builder.icmpv4(error).write(&mut packet, &original)
        } else {
            let error = Icmpv6Type::DestinationUnreachable(match what {
                Unreachable::Port => DestUnreachableCode::Port,
                Unreachable::Host => DestUnreachableCode::Address,
            });
            builder.icmpv6(error).write(&mut packet, &original)
        };
        written.context("writing an ICMP error")?;
        Ok(packet)
    }

    pub(super) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// It acknowledges, and says nothing else.
    pub(super) fn is_bare_ack(&self) -> bool {
        self.flags & !PSH == ACK && self.payload.is_empty()
    }

    /// How much of the sequence space it takes.
    pub(super) fn sequence_length(&self) -> u32 {
        let flags = u32::from(self.has(SYN)) + u32::from(self.has(FIN));
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX) + flags
    }

    /// The sequence number after it.
    pub(super) fn end(&self) -> u32 {
        self.sequence.wrapping_add(self.sequence_length())
    }

    /// For people, with numbers counted from those where each side began.
    pub(super) fn describe(&self, sequence_base: u32, acknowledged_base: u32) -> String {
        let sequence = self.sequence.wrapping_sub(sequence_base).cast_signed();
        let mut text = format!("{} seq {sequence:+}", Flags(self.flags));
        if self.has(ACK) {
            let acknowledged = self.acknowledged.wrapping_sub(acknowledged_base);
            text.push_str(&format!(" ack {:+}", acknowledged.cast_signed()));
        }
        if !self.payload.is_empty() {
            text.push_str(&format!(
                " data {:?}",
                self.payload.escape_ascii().to_string()
            ));
        }
        text
    }
}

/// The IP header of a packet.
fn ip(from: IpAddr, to: IpAddr) -> anyhow::Result<PacketBuilderStep<etherparse::IpHeaders>> {
    Ok(match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), HOPS),
        (from, to) => bail!("a packet from {from} to {to}"),
    })
}

/// Flags by their names.
struct Flags(u8);

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().enumerate();
        let set: Vec<_> = names
            .filter(|(bit, _)| self.0 & 1 << bit != 0)
            .map(|(_, name)| *name)
            .collect();
        f.write_str(&set.join("+"))
    }
}
