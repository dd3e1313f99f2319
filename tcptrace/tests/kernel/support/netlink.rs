//! Netlink: one question after the other, of what the kernel answers with one message.

use std::io::{self, Read, Write};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// A socket of one of netlink's protocols, in the thread's network namespace.
pub(crate) struct Netlink(Socket);

impl Netlink {
    pub(crate) fn open(protocol: libc::c_int) -> io::Result<Self> {
        let (domain, protocol) = (Domain::from(libc::AF_NETLINK), Protocol::from(protocol));
        Socket::new(domain, Type::RAW, Some(protocol)).map(Self)
    }

    /// Asks, and answers what comes back before the acknowledgement, if anything does.
    pub(crate) fn ask(&self, kind: u16, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.ask_with(kind, 0, request)
    }

    fn ask_with(&self, kind: u16, flags: libc::c_int, request: &[u8]) -> anyhow::Result<Vec<u8>> {
        let length = u32::try_from(HEADER + request.len())?;
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags)?;
        let mut message = Vec::from(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        // Sequence number and sender.
        message.extend([0; 8]);
        message.extend(request);
        (&self.0).write_all(&message)?;
        let mut answer = Vec::new();
        loop {
            let mut buffer = [0; 8192];
            let length = (&self.0).read(&mut buffer)?;
            let body = buffer[..length].get(HEADER..).context("a short answer")?;
            if i32::from(u16::from_ne_bytes([buffer[4], buffer[5]])) != libc::NLMSG_ERROR {
                answer = body.to_vec();
                continue;
            }
            let error = body.first_chunk().context("an answer without an error")?;
            return match i32::from_ne_bytes(*error) {
                0 => Ok(answer),
                error => Err(io::Error::from_raw_os_error(-error).into()),
            };
        }
    }
}

/// Adds a route of a type (`RTN_*`) that needs no interface, in the thread's network namespace.
pub(crate) fn add_route(kind: u8, destination: [u8; 4], length: u8) -> anyhow::Result<()> {
    let family = u8::try_from(libc::AF_INET)?;
    // struct rtmsg, and RTA_DST.
    let mut request = vec![
        family,
        length,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        kind,
        0,
        0,
        0,
        0,
    ];
    request.extend(8_u16.to_ne_bytes());
    request.extend(libc::RTA_DST.to_ne_bytes());
    request.extend(destination);
    Netlink::open(libc::NETLINK_ROUTE)?
        .ask_with(libc::RTM_NEWROUTE, libc::NLM_F_CREATE, &request)
        .context("adding a route")?;
    Ok(())
}
