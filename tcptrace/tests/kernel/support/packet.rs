//! IPv4 packets with TCP segments or ICMP errors in them, as bytes.

use std::net::Ipv4Addr;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_TCP: u8 = 6;

/// A TCP segment and who sends it to whom. Options are neither read nor written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) from: (Ipv4Addr, u16),
    pub(crate) to: (Ipv4Addr, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    pub(crate) payload: Vec<u8>,
}

impl Segment {
    /// Reads a packet; `None` when it is no TCP segment over IPv4.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let length = usize::from(u16_at(packet, 2)?);
        let packet = packet.get(..length)?;
        let header = usize::from(packet[0] & 15) * 4;
        if packet[0] >> 4 != 4 || packet[9] != PROTOCOL_TCP {
            return None;
        }
        let tcp = packet.get(header..)?;
        let data = usize::from(tcp.get(12)? >> 4) * 4;
        Some(Self {
            from: (address_at(packet, 12)?, u16_at(tcp, 0)?),
            to: (address_at(packet, 16)?, u16_at(tcp, 2)?),
            sequence: u32_at(tcp, 4)?,
            acknowledged: u32_at(tcp, 8)?,
            flags: *tcp.get(13)?,
            window: u16_at(tcp, 14)?,
            payload: tcp.get(data..)?.to_vec(),
        })
    }

    /// As a packet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        let mut tcp = Vec::with_capacity(TCP_HEADER + self.payload.len());
        tcp.extend(self.from.1.to_be_bytes());
        tcp.extend(self.to.1.to_be_bytes());
        tcp.extend(self.sequence.to_be_bytes());
        tcp.extend(self.acknowledged.to_be_bytes());
        tcp.extend([5 << 4, self.flags]);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.payload);
        let mut summed = Vec::with_capacity(12 + tcp.len());
        summed.extend(self.from.0.octets());
        summed.extend(self.to.0.octets());
        summed.extend([0, PROTOCOL_TCP]);
        summed.extend(length(tcp.len()).to_be_bytes());
        summed.extend(&tcp);
        tcp[16..18].copy_from_slice(&checksum(&summed).to_be_bytes());
        ip(self.from.0, self.to.0, PROTOCOL_TCP, &tcp)
    }

    /// How much of the sequence space it takes.
    pub(crate) fn sequence_length(&self) -> u32 {
        let flags = u32::from(self.flags & SYN != 0) + u32::from(self.flags & FIN != 0);
        u32::try_from(self.payload.len()).unwrap_or(u32::MAX) + flags
    }

    /// The ICMP error (destination unreachable, with a code) that a router, or the destination
    /// itself, sends back.
    pub(crate) fn unreachable(&self, code: u8) -> Vec<u8> {
        let mut icmp = vec![3, code, 0, 0, 0, 0, 0, 0];
        icmp.extend(&self.packet()[..IP_HEADER + 8]);
        let sum = checksum(&icmp);
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        ip(self.to.0, self.from.0, PROTOCOL_ICMP, &icmp)
    }
}

fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend(length(IP_HEADER + payload.len()).to_be_bytes());
    packet.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn length(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn address_at(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    u32_at(bytes, at).map(Ipv4Addr::from)
}
