//! A socket as the kernel's `sock_diag` lists it.
//!
//! Every length is checked: malformed bytes are refused, and unknown attributes skipped
//! (`linux/inet_diag.h`, `linux/tcp.h`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tcptrace_common::TcpState;

use crate::feed::event::Endpoints;

/// `struct inet_diag_msg`.
const ANSWER: usize = 72;

const INET_DIAG_CGROUP_ID: u16 = 21;

/// The timer of a TIME_WAIT minisocket, which a full socket never has.
const TIMER_TIME_WAIT: u8 = 3;

/// Why bytes are no socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than they claim, or than required.
    #[error("a reply of the kernel's sock_diag is too short")]
    Short,
    /// Neither IPv4 nor IPv6.
    #[error("a reply of the kernel's sock_diag has the address family {0}")]
    Family(u8),
    /// A state TCP does not have.
    #[error("a reply of the kernel's sock_diag has the TCP state {0}")]
    State(u8),
}

/// Which sockets to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiagFamily {
    V4,
    /// IPv6, and IPv4 over IPv6 sockets.
    V6,
}

impl DiagFamily {
    pub(super) const fn raw(self) -> u8 {
        match self {
            // Both are below 256.
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }
}

/// What names a connection within its network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// IPv4-mapped addresses are IPv4 here.
    pub local_address: IpAddr,
    pub remote_address: IpAddr,
    pub local_port: u16,
    pub remote_port: u16,
    /// The interface that the socket is bound to (SO_BINDTODEVICE, a VRF, an IPv6 link-local
    /// address); 0 for none. The kernel finds a bound socket only by its interface.
    pub interface: u32,
}

impl Tuple {
    /// Whether both have the same addresses and ports.
    pub fn same_ends(&self, other: &Self) -> bool {
        let same_interface = Self {
            interface: self.interface,
            ..*other
        };
        *self == same_interface
    }

    /// Returns `None` when the two addresses are of different families.
    pub(super) fn family(&self) -> Option<DiagFamily> {
        match (self.local_address, self.remote_address) {
            // A connection over IPv4-mapped addresses is found by its IPv4 ones: the kernel's table
            // has both.
            (IpAddr::V4(_), IpAddr::V4(_)) => Some(DiagFamily::V4),
            (IpAddr::V6(_), IpAddr::V6(_)) => Some(DiagFamily::V6),
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
        }
    }
}

impl From<&Endpoints> for Tuple {
    fn from(ends: &Endpoints) -> Self {
        Self {
            local_address: ends.local_address.to_canonical(),
            remote_address: ends.remote_address.to_canonical(),
            local_port: ends.local_port,
            remote_port: ends.remote_port,
            interface: ends.interface.unwrap_or(0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiagSocket {
    /// `skc_cookie`: the same from the request socket to the TIME_WAIT one. A socket gets one when
    /// it is listed, so it is never 0.
    pub cookie: u64,
    /// A request socket (NEW_SYN_RECV) is listed as SYN_RECV.
    pub state: TcpState,
    /// The socket's; V6 with IPv4 addresses is IPv4 over an IPv6 socket.
    pub family: DiagFamily,
    pub tuple: Tuple,
    /// The owner's. `None` without an inode, because many kernels then say 0.
    pub uid: Option<u32>,
    /// What `/proc/PID/fd` shows as `socket:[…]`; 0 before accept() and after close().
    pub inode: u32,
    /// 0 none, 1 retransmit, 2 keepalive or linger, 3 TIME_WAIT, 4 zero-window probe.
    pub timer: u8,
    /// Time left on the timer, milliseconds.
    pub expires_ms: u32,
    /// Unread bytes; for a listener, the connections that wait for accept().
    pub receive_queue: u32,
    /// Unacknowledged bytes; for a listener, how many connections may wait.
    pub send_queue: u32,
    /// The cgroup's id, from Linux 5.7; a minisocket has none.
    pub cgroup: Option<u64>,
}

impl DiagSocket {
    /// Whether this is what remains after close(): a TIME_WAIT minisocket, in TIME_WAIT or, while
    /// the peer's FIN has not come, in FIN_WAIT2. The full socket is gone.
    pub const fn is_minisocket(&self) -> bool {
        self.timer == TIMER_TIME_WAIT
            && self.inode == 0
            && matches!(self.state, TcpState::TimeWait | TcpState::FinWait2)
    }
}

impl DiagSocket {
    /// Parses a `struct inet_diag_msg` and the attributes behind it.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let (fixed, attributes) = body.split_first_chunk::<ANSWER>().ok_or(Malformed::Short)?;
        let family = match i32::from(fixed[0]) {
            libc::AF_INET => DiagFamily::V4,
            libc::AF_INET6 => DiagFamily::V6,
            _ => return Err(Malformed::Family(fixed[0])),
        };
        let state = TcpState::from_raw(fixed[1]).ok_or(Malformed::State(fixed[1]))?;
        let word = |at| u32_at(fixed, at).ok_or(Malformed::Short);
        let inode = word(68)?;
        let mut socket = Self {
            cookie: u64::from(word(44)?) | (u64::from(word(48)?) << 32),
            state,
            family,
            tuple: Tuple {
                local_port: u16::from_be_bytes([fixed[4], fixed[5]]),
                remote_port: u16::from_be_bytes([fixed[6], fixed[7]]),
                local_address: address_at(fixed, 8, family).ok_or(Malformed::Short)?,
                remote_address: address_at(fixed, 24, family).ok_or(Malformed::Short)?,
                interface: word(40)?,
            },
            uid: (inode != 0).then_some(word(64)?),
            inode,
            timer: fixed[2],
            expires_ms: word(52)?,
            receive_queue: word(56)?,
            send_queue: word(60)?,
            cgroup: None,
        };
        for attribute in Attributes(attributes) {
            let (kind, value) = attribute?;
            if kind == INET_DIAG_CGROUP_ID {
                socket.cgroup = u64_at(value, 0);
            }
        }
        Ok(socket)
    }
}

/// The kinds and values of a sequence of `struct nlattr`.
struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    fn next_attribute(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        // The two upper bits are flags.
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let taken = self.next_attribute();
        if taken.is_none() {
            self.0 = &[];
        }
        Some(taken.ok_or(Malformed::Short))
    }
}

fn address_at(bytes: &[u8], at: usize, family: DiagFamily) -> Option<IpAddr> {
    Some(match family {
        DiagFamily::V4 => Ipv4Addr::from(*chunk_at(bytes, at)?).into(),
        DiagFamily::V6 => Ipv6Addr::from(*chunk_at::<16>(bytes, at)?).to_canonical(),
    })
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    chunk_at(bytes, at).map(|chunk| u16::from_ne_bytes(*chunk))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    chunk_at(bytes, at).map(|chunk| u32::from_ne_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    chunk_at(bytes, at).map(|chunk| u64::from_ne_bytes(*chunk))
}

fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

#[cfg(test)]
#[path = "entry_tests.rs"]
pub(super) mod tests;
