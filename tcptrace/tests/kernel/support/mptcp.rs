//! Multipath TCP, as far as a test needs it: sockets, and a second address to send from.

use std::{
    io,
    mem::size_of,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd, OwnedFd},
};

use anyhow::{Context, ensure};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send};
use socket2::{Domain, Protocol, Socket, Type};

use super::ignored;

/// A listener, and where.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let socket = socket()?;
    socket.bind(&address.into())?;
    socket.listen(16)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// A connection.
pub(crate) fn connect(to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = socket()?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// A socket in the thread's network namespace.
pub(crate) fn socket() -> anyhow::Result<Socket> {
    Socket::new(
        Domain::IPV4,
        Type::STREAM,
        Some(Protocol::from(libc::IPPROTO_MPTCP)),
    )
    .map_err(|error| ignored(format!("no Multipath TCP here: {error}")))
}

/// From now on the kernel opens a second path from this address for each connection of the thread's
/// network namespace.
pub(crate) fn add_path_from(address: Ipv4Addr) -> anyhow::Result<()> {
    const CTRL: u16 = 16;
    const GET_FAMILY: u8 = 3;
    const FAMILY_ID: u16 = 1;
    const FAMILY_NAME: u16 = 2;
    const ADD_ADDRESS: u8 = 1;
    const SET_LIMITS: u8 = 5;
    const NESTED: u16 = 0x8000;
    let mut netlink = Netlink::open()?;
    let answer = netlink.ask(CTRL, GET_FAMILY, &attribute(FAMILY_NAME, b"mptcp_pm\0"))?;
    let family = find(&answer, FAMILY_ID).context("the number of mptcp_pm")?;
    let family = u16::from_ne_bytes(family.try_into()?);
    let limits = [
        attribute(2, &2_u32.to_ne_bytes()),
        attribute(3, &2_u32.to_ne_bytes()),
    ];
    netlink.ask(family, SET_LIMITS, &limits.concat())?;
    let subflow: u32 = 2;
    let endpoint = [
        attribute(1, &u16::try_from(libc::AF_INET)?.to_ne_bytes()),
        attribute(3, &address.octets()),
        attribute(6, &subflow.to_ne_bytes()),
    ];
    netlink.ask(
        family,
        ADD_ADDRESS,
        &attribute(NESTED | 1, &endpoint.concat()),
    )?;
    Ok(())
}

/// `struct nlattr`, and its value.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = Vec::from((length as u16).to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let [l0, l1, k0, k1, ..] = *attributes {
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        if u16::from_ne_bytes([k0, k1]) == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// Generic netlink: one question after the other.
struct Netlink(OwnedFd);

/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = size_of::<libc::nlmsghdr>() + 4;

impl Netlink {
    fn open() -> anyhow::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let protocol = SockProtocol::NetlinkGeneric;
        let socket =
            nix::sys::socket::socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
        Ok(Self(socket))
    }

    /// Asks, and answers the attributes of what comes back, if anything but "done" does.
    fn ask(&mut self, family: u16, command: u8, attributes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let length = HEADERS + attributes.len();
        let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK)?;
        let mut message = Vec::from(u32::try_from(length)?.to_ne_bytes());
        message.extend(family.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]);
        message.extend([command, 1, 0, 0]);
        message.extend(attributes);
        let fd = self.0.as_raw_fd();
        send(fd, &message, MsgFlags::empty())?;
        let mut answer = Vec::new();
        loop {
            let mut buffer = [0; 8192];
            let length = recv(fd, &mut buffer, MsgFlags::empty())?;
            ensure!(length >= HEADERS, "a short answer");
            let kind = u16::from_ne_bytes([buffer[4], buffer[5]]);
            if i32::from(kind) != libc::NLMSG_ERROR {
                answer = buffer[HEADERS..length].to_vec();
                continue;
            }
            let error = i32::from_ne_bytes([buffer[16], buffer[17], buffer[18], buffer[19]]);
            if error != 0 {
                return Err(io::Error::from_raw_os_error(-error)).context("asking mptcp_pm");
            }
            return Ok(answer);
        }
    }
}
