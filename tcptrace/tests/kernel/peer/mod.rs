//! A scripted peer: a host that says exactly what a test tells it to, and nothing by itself.
//!
//! It lives behind a TUN device in a test's own network namespace, so that what is said to it
//! comes from the real TCP of this host, over IPv4 or IPv6, and what it says is taken by it.
//!
//! ```ignore
//! let peer = Peer::new(&namespace)?;
//! let mut flow = peer.listen(443);
//! // …somebody here connects to peer.address(443)…
//! flow.expect_syn()?;
//! flow.send_syn_ack()?;
//! flow.expect_ack()?;
//! ```
//!
//! It refuses to be a TCP: it sends no segment that no test asked for, has no timers, and takes
//! nothing back into order.

mod device;
mod expect;
mod flow;
mod link;
mod segment;
mod tests;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
};

use self::{device::Device, link::Link};
pub(crate) use self::{flow::Flow, segment::Unreachable, tests::tests};
use crate::support::namespace::{Namespace, set_link};

/// This host's and the peer's addresses in a network of RFC 5737, and in one of RFC 3849.
const HERE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const HERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
/// The same on the link itself (RFC 4291 §2.5.6).
pub(crate) const HERE_ON_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
pub(crate) const PEER_ON_LINK: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// What the peer connects from.
const FIRST_PORT: u16 = 40_000;

/// The peer. It lasts as long as this or one of its flows.
pub(crate) struct Peer {
    link: Rc<Link>,
    next_port: std::cell::Cell<u16>,
}

impl Peer {
    /// Puts a peer into a namespace; there can be one.
    pub(crate) fn new(namespace: &Namespace) -> anyhow::Result<Self> {
        let device = Device::open(namespace, HERE, [HERE_V6, HERE_ON_LINK])?;
        Ok(Self {
            link: Rc::new(Link::new(device)),
            next_port: FIRST_PORT.into(),
        })
    }

    /// Takes the peer's link away, or brings it back.
    pub(crate) fn set_link(namespace: &Namespace, up: bool) -> anyhow::Result<()> {
        namespace.run(|| Ok(set_link(device::NAME, up)?))
    }

    /// Where the peer is reached.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        (PEER, port).into()
    }

    /// The same over IPv6.
    pub(crate) fn address_v6(&self, port: u16) -> SocketAddr {
        (PEER_V6, port).into()
    }

    /// This host, as the peer sees it.
    pub(crate) fn here(&self, port: u16) -> SocketAddr {
        (HERE, port).into()
    }

    /// The same over IPv6.
    pub(crate) fn here_v6(&self, port: u16) -> SocketAddr {
        (HERE_V6, port).into()
    }

    /// Is ready for one connection from here.
    pub(crate) fn listen(&self, port: u16) -> Flow {
        self.listen_at(self.address(port))
    }

    /// The same at another of its addresses.
    pub(crate) fn listen_at(&self, address: SocketAddr) -> Flow {
        Flow::new(Rc::clone(&self.link), None, address)
    }

    /// Is about to connect to a port here. Each connection is from a port of its own.
    pub(crate) fn connect(&self, port: u16) -> Flow {
        self.connect_to(self.here(port))
    }

    /// The same to another address of this host.
    pub(crate) fn connect_to(&self, here: SocketAddr) -> Flow {
        let from = match here.ip() {
            IpAddr::V4(_) => PEER.into(),
            IpAddr::V6(here) if here == HERE_V6 => PEER_V6.into(),
            IpAddr::V6(_) => PEER_ON_LINK.into(),
        };
        let from = SocketAddr::new(from, self.next_port.get());
        self.next_port.set(self.next_port.get() + 1);
        Flow::new(Rc::clone(&self.link), Some(here), from)
    }

    /// Sends so many SYNs to a port here, each from a place of its own and taken back at once.
    pub(crate) fn flood(&self, port: u16, count: u32) -> anyhow::Result<()> {
        /// Of each address.
        const PORTS: u32 = 50_000;
        for number in 0..count {
            let from = u32::from(PEER) + 1 + number / PORTS;
            let place = (Ipv4Addr::from(from), u16::try_from(1_024 + number % PORTS)?);
            let here = Some(self.here(port));
            let mut flow = Flow::new(Rc::clone(&self.link), here, place.into());
            flow.send_syn()?;
            flow.send_rst()?;
            // The answers would fill the device's queue.
            self.link.discard()?;
        }
        Ok(())
    }
}
