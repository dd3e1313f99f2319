//! The listening sockets, so that a passive connection can be given its listener's process.
//!
//! The request that a child is made of names its listener, where fentry can be had
//! (`tcp_create_openreq_child`). Elsewhere it is found by namespace, port and address as the kernel
//! finds it (`__inet_lookup_listener`: the bound address before the wildcard), and only when all
//! that match belong to one process; otherwise nobody is named.
//!
//! Any user can listen on thousands of addresses of one port, or thousands of times on one address
//! (SO_REUSEPORT). So nothing here walks over the sockets of a place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::{HashMap, HashSet};

use super::{
    Tracker, Update,
    terms::{At, Moment, Process, ProcessSource},
};
use crate::feed::event::{Details, Endpoints};

/// Namespace, port and address.
type Place = (Option<u32>, u16, IpAddr);

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
    /// The last walk that found it.
    pub(super) walk: u64,
}

impl Listener {
    const fn place(&self) -> Place {
        let ends = &self.endpoints;
        (ends.netns, ends.local_port, ends.local_address)
    }
}

impl Tracker {
    /// CLOSE→LISTEN.
    pub(super) fn listen(&mut self, at: At, details: &Details) {
        self.give_up_previous(at);
        let Details::Open {
            endpoints, task, ..
        } = details
        else {
            return;
        };
        let listener = Listener {
            id: self.take_id(),
            socket: at.socket,
            endpoints: *endpoints,
            process: Process::new(task, ProcessSource::Listen),
            since: Some(at.time),
            walk: 0,
        };
        self.updates.push(Update::Listener {
            listener,
            began: true,
            time: at.time,
        });
        if !self.listeners.insert(listener) {
            self.stats.listeners_refused += 1;
        }
    }

    /// LISTEN→CLOSE.
    pub(super) fn stop_listening(&mut self, at: At, details: &Details) {
        self.give_up_previous(at);
        self.listeners.ceased = Some(at.socket);
        let listener = match (self.listeners.remove(at.socket), details.endpoints()) {
            (Some(listener), _) => listener,
            // It listened before we looked.
            (None, Some(endpoints)) => Listener {
                id: self.take_id(),
                socket: at.socket,
                endpoints: *endpoints,
                process: None,
                since: None,
                walk: 0,
            },
            (None, None) => return,
        };
        self.updates.push(Update::Listener {
            listener,
            began: false,
            time: at.time,
        });
    }
}

/// The sockets of one process that listen at one place.
#[derive(Clone, Copy)]
struct Group {
    process: Option<Process>,
    sockets: usize,
}

/// The listening sockets.
pub(super) struct Listeners {
    sockets: HashMap<u64, Listener>,
    /// By place, and there by process id.
    groups: HashMap<Place, HashMap<Option<u32>, Group>>,
    /// The socket that ceased to listen last.
    ceased: Option<u64>,
    limit: usize,
}

impl Listeners {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            sockets: HashMap::new(),
            groups: HashMap::new(),
            ceased: None,
            limit,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.sockets.len()
    }

    pub(super) fn contains(&self, socket: u64) -> bool {
        self.sockets.contains_key(&socket)
    }

    /// It is the last that ceased to listen.
    pub(super) fn has_just_ceased(&self, socket: u64) -> bool {
        self.ceased == Some(socket) && !self.contains(socket)
    }

    /// Takes a listener in; `false` when there is no room.
    pub(super) fn insert(&mut self, listener: Listener) -> bool {
        self.remove(listener.socket);
        if self.sockets.len() >= self.limit {
            return false;
        }
        self.sockets.insert(listener.socket, listener);
        self.groups
            .entry(listener.place())
            .or_default()
            .entry(listener.process.map(|process| process.pid))
            .or_insert(Group {
                process: listener.process,
                sockets: 0,
            })
            .sockets += 1;
        true
    }

    /// Takes a listener out.
    pub(super) fn remove(&mut self, socket: u64) -> Option<Listener> {
        let listener = self.sockets.remove(&socket)?;
        let place = listener.place();
        if let Some(groups) = self.groups.get_mut(&place) {
            let pid = listener.process.map(|process| process.pid);
            if let Some(group) = groups.get_mut(&pid) {
                group.sockets -= 1;
                if group.sockets == 0 {
                    groups.remove(&pid);
                }
            }
            if groups.is_empty() {
                self.groups.remove(&place);
            }
        }
        Some(listener)
    }

    /// A listener is there still, says a walk; `false` when it is not known.
    pub(super) fn found(&mut self, socket: u64, walk: u64) -> bool {
        let held = self.sockets.get_mut(&socket);
        held.map(|held| held.walk = walk).is_some()
    }

    /// Those that listen at these places are there still, says a walk.
    pub(super) fn found_at(&mut self, places: &HashSet<Endpoints>, walk: u64) {
        for held in self.sockets.values_mut() {
            if places.contains(&held.endpoints) {
                held.walk = walk;
            }
        }
    }

    /// A listener is known by another number from now on.
    pub(super) fn rename(&mut self, from: u64, to: u64) {
        if let Some(listener) = self.remove(from) {
            self.insert(Listener {
                socket: to,
                ..listener
            });
        }
    }

    /// A listener is this one still.
    pub(super) fn is(&self, socket: u64, id: u64) -> bool {
        self.sockets.get(&socket).is_some_and(|held| held.id == id)
    }

    /// Every listener.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.sockets.values()
    }

    /// Names the process of a listener that has none.
    pub(super) fn name(&mut self, socket: u64, process: Process) {
        if let Some(listener) = self.remove(socket) {
            let process = listener.process.or(Some(process));
            self.insert(Listener {
                process,
                ..listener
            });
        }
    }

    /// The process of a listener.
    pub(super) fn process_of(&self, socket: u64) -> Option<Process> {
        self.sockets.get(&socket)?.process
    }

    /// The process that listens where a connection came in, if there is just one.
    pub(super) fn process_at(&self, ends: &Endpoints) -> Option<Process> {
        let mut groups = self.at(ends)?.values();
        let first = groups.next()?;
        match groups.next() {
            None => first.process,
            Some(_) => None,
        }
    }

    /// Somebody listens where a connection is.
    pub(super) fn is_at(&self, ends: &Endpoints) -> bool {
        self.at(ends).is_some()
    }

    fn at(&self, ends: &Endpoints) -> Option<&HashMap<Option<u32>, Group>> {
        let local = ends.local_address;
        let any: IpAddr = match local {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A dual-stack listener takes IPv4 in too.
        let addresses = [local, any, Ipv6Addr::UNSPECIFIED.into()];
        addresses
            .into_iter()
            .find_map(|address| self.groups.get(&(ends.netns, ends.local_port, address)))
    }
}
