use std::net::IpAddr;

use super::vocabulary::{Moment, Origin, Process, ProcessSource};
use crate::feed::event::{Bind, Endpoints, NetnsId, SocketOwner};
use crate::tracker::name_table::{NameTable, SocketNames};

/// Where a socket listens, as the kernel looks it up.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ListenKey {
    pub(super) netns: Option<NetnsId>,
    pub(super) port: u16,
    pub(super) address: IpAddr,
    pub(super) interface: Option<u32>,
    pub(super) v6_only: bool,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique within a run of the tracker, among connections too.
    pub id: u64,
    /// The kernel's address of the socket.
    pub socket: u64,
    /// Where it listens; the port is 0 if listen() was called on an unbound socket.
    pub endpoints: Endpoints,
    /// Which other sockets may listen there; `None` if not known.
    pub bind: Option<Bind>,
    /// `skc_cookie`, if it has one.
    pub cookie: Option<u64>,
    pub owner: SocketOwner,
    pub named: SocketNames,
    /// The process that called listen().
    pub process: Option<Process>,
    /// CLOSE→LISTEN; `None` if it listened before the trace.
    pub since: Option<Moment>,
    /// The last walk over the kernel's sockets that found it.
    pub(super) walk: u64,
}

impl Listener {
    /// A listener without a known process.
    pub(super) fn new(
        id: u64,
        at: Origin,
        endpoints: &Endpoints,
        owner: SocketOwner,
        names: &NameTable,
    ) -> Self {
        Self {
            id,
            socket: at.socket,
            endpoints: *endpoints,
            bind: None,
            cookie: at.cookie,
            owner,
            named: names.lookup(&owner, endpoints),
            process: None,
            since: None,
            walk: 0,
        }
    }

    pub(super) fn key(&self) -> ListenKey {
        let ends = &self.endpoints;
        ListenKey {
            netns: ends.netns,
            port: ends.local_port,
            address: ends.local_address,
            interface: ends.interface,
            v6_only: self.bind.is_some_and(|bind| bind.v6_only),
        }
    }

    /// Whether its process was found in /proc.
    pub(super) fn is_found(&self) -> bool {
        self.process
            .is_some_and(|process| process.source == ProcessSource::Proc)
    }

    /// Whether other sockets may listen at the same place.
    pub(super) fn shares(&self) -> bool {
        self.bind.is_none_or(|bind| bind.reuse_port)
    }
}
