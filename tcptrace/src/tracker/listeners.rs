//! The listening sockets, so that a passive connection can be given its listener's process.
//!
//! A child socket does not name its listener. It is found by namespace, port and address as the
//! kernel finds it (`__inet_lookup_listener`: the bound address before the wildcard), and only
//! when all that match belong to one process; otherwise nobody is named.

use std::net::IpAddr;

use hashbrown::HashMap;

use super::connection::{Moment, Process};
use crate::event::Endpoints;

/// Namespace and port.
type Place = (Option<u32>, u16);

/// A listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique within a run of the tracker, among connections too.
    pub id: u64,
    /// The kernel's address of the socket.
    pub socket: u64,
    /// Where it listens; the port is 0 when listen() was called on an unbound socket.
    pub endpoints: Endpoints,
    /// Who called listen().
    pub process: Option<Process>,
    /// CLOSE→LISTEN; `None` for one that was there before.
    pub since: Option<Moment>,
}

impl Listener {
    const fn place(&self) -> Place {
        (self.endpoints.netns, self.endpoints.local_port)
    }
}

/// The listening sockets.
pub(super) struct Listeners {
    places: HashMap<u64, Place>,
    by_place: HashMap<Place, Vec<Listener>>,
    limit: usize,
}

impl Listeners {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            places: HashMap::new(),
            by_place: HashMap::new(),
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn contains(&self, socket: u64) -> bool {
        self.places.contains_key(&socket)
    }

    /// Takes a listener in; `false` when there is no room.
    pub(super) fn insert(&mut self, listener: Listener) -> bool {
        self.remove(listener.socket);
        if self.places.len() >= self.limit {
            return false;
        }
        self.places.insert(listener.socket, listener.place());
        self.by_place
            .entry(listener.place())
            .or_default()
            .push(listener);
        true
    }

    /// Takes a listener out.
    pub(super) fn remove(&mut self, socket: u64) -> Option<Listener> {
        let place = self.places.remove(&socket)?;
        let listeners = self.by_place.get_mut(&place)?;
        let index = listeners
            .iter()
            .position(|listener| listener.socket == socket)?;
        let listener = listeners.swap_remove(index);
        if listeners.is_empty() {
            self.by_place.remove(&place);
        }
        Some(listener)
    }

    /// The process that listens where a connection came in, if there is just one.
    pub(super) fn process_at(&self, ends: &Endpoints) -> Option<Process> {
        let listeners = self.by_place.get(&(ends.netns, ends.local_port))?;
        let local = ends.local_address;
        let ranks: [&dyn Fn(IpAddr) -> bool; 3] = [
            &|address| address == local && !address.is_unspecified(),
            &|address| address.is_unspecified() && address.is_ipv4() == local.is_ipv4(),
            // A dual-stack listener takes IPv4 in too.
            &|address| address.is_unspecified() && address.is_ipv6(),
        ];
        let rank = ranks.iter().find(|rank| {
            listeners
                .iter()
                .any(|listener| rank(listener.endpoints.local_address))
        })?;
        let mut processes = listeners
            .iter()
            .filter(|listener| rank(listener.endpoints.local_address))
            .map(|listener| listener.process);
        let first = processes.next().flatten()?;
        processes
            .all(|other| other.is_some_and(|other| other.pid == first.pid))
            .then_some(first)
    }
}
