//! The TUN device: packets of IP between this host's stack and the test.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, UdpSocket},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Socket, Type};

use crate::support::{
    ignored,
    namespace::{Namespace, configure, request, set_address, set_link},
    wait_for,
};

const NODE: &str = "/dev/net/tun";
pub(super) const NAME: &str = "peer";
/// 255.255.255.0 and its equal.
const MASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);
const PREFIX_V6: u32 = 64;

/// A TUN device that is up. It goes with this.
pub(super) struct Device {
    file: File,
    /// It has an IPv6 address as well.
    pub(super) ipv6: bool,
}

impl Device {
    /// Makes one in a namespace, with these addresses on this host's side.
    pub(super) fn open(
        namespace: &Namespace,
        here: Ipv4Addr,
        here_v6: [Ipv6Addr; 2],
    ) -> anyhow::Result<Self> {
        namespace.run(|| {
            let file = open_node()?;
            let mut request = request(NAME);
            let flags = libc::IFF_TUN | libc::IFF_NO_PI;
            request.ifr_ifru.ifru_flags = flags.try_into()?;
            configure(&file, libc::TUNSETIFF, &request).context("making a TUN device")?;
            set_address(NAME, libc::SIOCSIFADDR, here).context("giving it an address")?;
            set_address(NAME, libc::SIOCSIFNETMASK, MASK).context("giving it a netmask")?;
            set_link(NAME, true).context("bringing it up")?;
            let set_all = || here_v6.into_iter().try_for_each(set_address_v6);
            let ipv6 = match set_all() {
                Ok(()) => {
                    wait_until_usable(here_v6[0])?;
                    true
                }
                Err(error) if lacks_ipv6(&error) => false,
                Err(error) => return Err(error).context("giving it an IPv6 address"),
            };
            Ok(Self { file, ipv6 })
        })
    }

    /// Hands a packet to this host.
    pub(super) fn send(&self, packet: &[u8]) -> anyhow::Result<()> {
        let sent = (&self.file).write(packet).context("sending a packet")?;
        ensure!(sent == packet.len(), "half a packet was sent");
        Ok(())
    }

    /// The next packet from this host; `None` when there is none within some time.
    pub(super) fn receive(&self, patience: Duration) -> anyhow::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; 1 << 16];
        match (&self.file).read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(Some(buffer));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("receiving a packet"),
        }
        if !patience.is_zero() {
            // Rounded up: a wait of less than a millisecond must not become none at all.
            let wait = PollTimeout::try_from(patience + Duration::from_millis(1))?;
            poll(
                &mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)],
                wait,
            )?;
            return self.receive(Duration::ZERO);
        }
        Ok(None)
    }
}

fn open_node() -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(NODE)
        .map_err(|error| match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::EPERM | libc::EACCES) => {
                ignored(format!("no TUN devices: {NODE}: {error}"))
            }
            _ => anyhow::Error::new(error).context(NODE),
        })
}

fn set_address_v6(address: Ipv6Addr) -> io::Result<()> {
    // SAFETY: the name ends in a NUL.
    let index = unsafe { libc::if_nametoindex(request(NAME).ifr_name.as_ptr()) };
    let request = libc::in6_ifreq {
        ifr6_addr: libc::in6_addr {
            s6_addr: address.octets(),
        },
        ifr6_prefixlen: PREFIX_V6,
        ifr6_ifindex: index.try_into().map_err(io::Error::other)?,
    };
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, None)?;
    configure(&socket, libc::SIOCSIFADDR, &request)
}

/// An address is tentative until a worker of the kernel's has looked at it (`addrconf_dad_work`),
/// and none that a socket would have.
fn wait_until_usable(address: Ipv6Addr) -> anyhow::Result<()> {
    wait_for("an IPv6 address to be usable", || {
        match UdpSocket::bind((address, 0)) {
            Ok(_) => Ok(Some(())),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
}

/// The kernel has no IPv6, or has it switched off.
fn lacks_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EACCES | libc::EOPNOTSUPP)
    )
}
