//! What `ss -K` does: SOCK_DESTROY, asked of sock_diag.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use anyhow::{Context, bail};

use crate::support::{Check, ignored, namespace::Namespace, netlink::Netlink};

const SOCK_DESTROY: u16 = 21;

/// Destroys the socket between these ends, its own first.
pub(super) fn destroy(namespace: &Namespace, ends: [SocketAddr; 2]) -> Check {
    // struct inet_diag_req_v2: family, protocol, any state.
    let mut request = vec![libc::AF_INET as u8, libc::IPPROTO_TCP as u8, 0, 0];
    request.extend(u32::MAX.to_ne_bytes());
    for end in ends {
        request.extend(end.port().to_be_bytes());
    }
    for end in ends {
        let IpAddr::V4(address) = end.ip() else {
            bail!("not over IPv4: {end}");
        };
        request.extend(address.octets());
        request.extend([0; 12]);
    }
    // Any interface; INET_DIAG_NOCOOKIE.
    request.extend([0; 4]);
    request.extend([0xff; 8]);
    let destroyed = namespace.run(|| {
        let diag = Netlink::open(libc::NETLINK_SOCK_DIAG)
            .map_err(|error| ignored(format!("no sock_diag: {error}")))?;
        diag.ask(SOCK_DESTROY, &request)
    });
    match destroyed {
        Ok(_) => Ok(()),
        Err(error) => {
            let errno = error.downcast_ref().and_then(io::Error::raw_os_error);
            match errno {
                // Its modules are missing; CONFIG_INET_DIAG_DESTROY is.
                Some(libc::ENOENT | libc::EOPNOTSUPP) => Err(ignored(format!(
                    "sock_diag destroys no TCP sockets here: {error}"
                ))),
                _ => Err(error).context("SOCK_DESTROY"),
            }
        }
    }
}
