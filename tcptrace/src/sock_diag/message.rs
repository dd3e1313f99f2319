//! Messages of the netlink socket: builds requests and parses replies.
//!
//! A message that claims to be longer than what came is refused, and everything behind it
//! (`linux/netlink.h`, `linux/inet_diag.h`).

use std::net::IpAddr;

use super::entry::{DiagFamily, DiagSocket, Malformed, Tuple, u16_at, u32_at};

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST: usize = 56;
/// `struct inet_diag_sockid`, in both.
const ID: usize = 48;

const SOCK_DIAG_BY_FAMILY: u16 = 20;

pub(super) struct DiagRequest([u8; HEADER + REQUEST]);

impl DiagRequest {
    /// A request for all sockets of a family in these states. INET_DIAG_CGROUP_ID comes without
    /// being asked for.
    pub(super) fn dump(sequence: u32, family: DiagFamily, states: u32) -> Self {
        Self::new(sequence, libc::NLM_F_DUMP, family, states, &[0; ID])
    }

    /// A request for one socket. `None` when no connection can have such a tuple.
    pub(super) fn exact(sequence: u32, tuple: &Tuple, cookie: Option<u64>) -> Option<Self> {
        let family = tuple.family()?;
        let mut id = [0; ID];
        id[0..2].copy_from_slice(&tuple.local_port.to_be_bytes());
        id[2..4].copy_from_slice(&tuple.remote_port.to_be_bytes());
        put_address(&mut id[4..20], tuple.local_address);
        put_address(&mut id[20..36], tuple.remote_address);
        id[36..40].copy_from_slice(&tuple.interface.to_ne_bytes());
        // All ones is INET_DIAG_NOCOOKIE.
        let cookie = cookie.unwrap_or(u64::MAX);
        id[40..44].copy_from_slice(&((cookie & 0xffff_ffff) as u32).to_ne_bytes());
        id[44..48].copy_from_slice(&((cookie >> 32) as u32).to_ne_bytes());
        Some(Self::new(sequence, 0, family, u32::MAX, &id))
    }

    fn new(sequence: u32, flags: i32, family: DiagFamily, states: u32, id: &[u8; ID]) -> Self {
        let mut bytes = [0; HEADER + REQUEST];
        bytes[0..4].copy_from_slice(&((HEADER + REQUEST) as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes[6..8].copy_from_slice(&((flags | libc::NLM_F_REQUEST) as u16).to_ne_bytes());
        bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        bytes[16] = family.raw();
        bytes[17] = libc::IPPROTO_TCP as u8;
        // No extensions (byte 18): nothing reads tcp_info, for which the kernel would take each
        // socket's lock.
        bytes[20..24].copy_from_slice(&states.to_ne_bytes());
        bytes[24..].copy_from_slice(id);
        Self(bytes)
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One message of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Socket(DiagSocket),
    /// The end: 0 or an errno. The same for an acknowledgement and the end of a dump.
    End(i32),
    /// Not relevant.
    Other,
}

/// A message, and which request it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) sequence: u32,
    /// NLM_F_DUMP_INTR: the table changed during the dump.
    pub(super) interrupted: bool,
    pub(super) answer: Result<Answer, Malformed>,
}

/// The messages of one recv(). After one that does not fit, the rest is unknown.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl Iterator for Messages<'_> {
    type Item = Result<Message, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let message = self.next_message();
        if message.is_none() {
            self.0 = &[];
        }
        Some(message.ok_or(Malformed::Short))
    }
}

impl Messages<'_> {
    fn next_message(&mut self) -> Option<Message> {
        let length = u32_at(self.0, 0)? as usize;
        let kind = i32::from(u16_at(self.0, 4)?);
        let flags = i32::from(u16_at(self.0, 6)?);
        let sequence = u32_at(self.0, 8)?;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        let answer = match kind {
            libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                // On old kernels the end of a dump may have no number.
                let negative = u32_at(body, 0).map_or(0, u32::cast_signed);
                Ok(Answer::End(negative.saturating_neg()))
            }
            kind if kind == i32::from(SOCK_DIAG_BY_FAMILY) => {
                DiagSocket::parse(body).map(Answer::Socket)
            }
            _ => Ok(Answer::Other),
        };
        Some(Message {
            sequence,
            interrupted: flags & libc::NLM_F_DUMP_INTR != 0,
            answer,
        })
    }
}

fn put_address(place: &mut [u8], address: IpAddr) {
    match address {
        IpAddr::V4(address) => place[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => place[..16].copy_from_slice(&address.octets()),
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
