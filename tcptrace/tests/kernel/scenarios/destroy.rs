//! What `ss -K` does: SOCK_DESTROY, asked of sock_diag.

use std::{
    io::{self, Read},
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, ensure};
use socket2::{Domain, Protocol, Socket, Type};

use crate::support::{Check, ignored, namespace::Namespace};

const SOCK_DESTROY: u16 = 21;
/// `struct nlmsghdr`, and `struct inet_diag_req_v2` after it.
const HEADER: usize = 16;
const REQUEST: usize = 56;
/// Any state.
const ALL_STATES: u32 = u32::MAX;
/// `INET_DIAG_NOCOOKIE`: whatever its cookie is.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Destroys the socket between these ends.
pub(super) fn destroy(namespace: &Namespace, local: SocketAddr, remote: SocketAddr) -> Check {
    namespace.run(|| {
        let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
        let mut diag = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))
            .map_err(|error| ignored(format!("no sock_diag: {error}")))?;
        diag.send(&request(local, remote)?)?;
        let mut answer = [0; 256];
        let length = diag.read(&mut answer)?;
        let error = answer[..length]
            .get(HEADER..HEADER + 4)
            .context("an answer without an error code")?;
        match i32::from_ne_bytes(error.try_into()?) {
            0 => Ok(()),
            error => {
                let error = io::Error::from_raw_os_error(-error);
                match error.raw_os_error() {
                    // Its modules are missing; CONFIG_INET_DIAG_DESTROY is.
                    Some(libc::ENOENT | libc::EOPNOTSUPP) => Err(ignored(format!(
                        "sock_diag destroys no TCP sockets here: {error}"
                    ))),
                    _ => Err(error).context("SOCK_DESTROY"),
                }
            }
        }
    })
}

fn request(local: SocketAddr, remote: SocketAddr) -> anyhow::Result<Vec<u8>> {
    let mut request = Vec::with_capacity(HEADER + REQUEST);
    request.extend(u32::try_from(HEADER + REQUEST)?.to_ne_bytes());
    request.extend(SOCK_DESTROY.to_ne_bytes());
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    request.extend(u16::try_from(flags)?.to_ne_bytes());
    // Sequence number and sender.
    request.extend([0; 8]);
    let family = if local.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    };
    request.extend([
        u8::try_from(family)?,
        u8::try_from(libc::IPPROTO_TCP)?,
        0,
        0,
    ]);
    request.extend(ALL_STATES.to_ne_bytes());
    for end in [local, remote] {
        request.extend(end.port().to_be_bytes());
    }
    for end in [local, remote] {
        request.extend(address(end.ip()));
    }
    // Any interface.
    request.extend([0; 4]);
    request.extend(NO_COOKIE);
    ensure!(
        request.len() == HEADER + REQUEST,
        "a request of {}",
        request.len()
    );
    Ok(request)
}

/// 16 bytes, of which an IPv4 address takes the first four.
fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&address.octets());
            bytes
        }
        IpAddr::V6(address) => address.octets(),
    }
}
