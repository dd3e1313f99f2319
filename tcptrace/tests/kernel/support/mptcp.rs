//! Multipath TCP, as far as a test needs it: sockets, and a second address to send from.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};

use super::{ignored, netlink::Netlink};

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
    let netlink = Netlink::open(libc::NETLINK_GENERIC)?;
    // struct genlmsghdr, and attributes.
    let ask = |family, command, attributes: &[u8]| {
        let request = [&[command, 1, 0, 0], attributes].concat();
        netlink.ask(family, &request).context("asking mptcp_pm")
    };
    let answer = ask(CTRL, GET_FAMILY, &attribute(FAMILY_NAME, b"mptcp_pm\0"))?;
    let answer = answer.get(4..).context("a short answer")?;
    let family = find(answer, FAMILY_ID).context("the number of mptcp_pm")?;
    let family = u16::from_ne_bytes(family.try_into()?);
    let limits = [
        attribute(2, &2_u32.to_ne_bytes()),
        attribute(3, &2_u32.to_ne_bytes()),
    ];
    ask(family, SET_LIMITS, &limits.concat())?;
    let subflow: u32 = 2;
    let endpoint = [
        attribute(1, &u16::try_from(libc::AF_INET)?.to_ne_bytes()),
        attribute(3, &address.octets()),
        attribute(6, &subflow.to_ne_bytes()),
    ];
    ask(
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
