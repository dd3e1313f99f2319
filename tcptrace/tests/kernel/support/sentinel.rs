//! Short connections that tell when a tail sees a namespace. Nothing prints "attached", but a
//! sentinel's record proves it; they are told from the test's own traffic by their port.

use std::{
    io::{self, Read},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
};

use socket2::{Domain, Socket, Type};

use super::{namespace::lacks_family, record::Record};

/// Where sentinels connect to, and from: apart from what tests use, for filters by address.
pub(crate) const NET: &str = "127.99.0.0/16";
const SERVER: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(127, 99, 0, 2);
/// The kernel never chooses such a low one: what has it is a sentinel.
pub(crate) const PORT: u16 = 1;

/// Listeners for sentinels, one of each family, open from before the tail to after it.
pub(crate) struct Sentinel {
    listeners: Vec<TcpListener>,
}

impl Sentinel {
    /// Listens in the current thread's namespace.
    pub(super) fn new() -> io::Result<Self> {
        let mut listeners = vec![TcpListener::bind((SERVER, PORT))?];
        match TcpListener::bind((Ipv6Addr::LOCALHOST, PORT)) {
            Ok(listener) => listeners.push(listener),
            Err(error) if lacks_family(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(Self { listeners })
    }

    /// There is IPv6.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.listeners.len() > 1
    }

    /// Opens and closes one of each family, from the current thread's namespace.
    pub(crate) fn ring(&self) -> io::Result<()> {
        for listener in &self.listeners {
            let to = listener.local_addr()?;
            let client = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            if to.is_ipv4() {
                client.bind(&SocketAddr::from((CLIENT, 0)).into())?;
            }
            client.connect(&to.into())?;
            let (mut server, _) = listener.accept()?;
            drop(client);
            server.read_to_end(&mut Vec::new())?;
        }
        Ok(())
    }
}

/// The record tells of a sentinel.
pub(crate) fn is_in(record: &Record) -> bool {
    ["local_port", "remote_port"]
        .iter()
        .any(|end| record.number(end) == Some(PORT.into()))
}
