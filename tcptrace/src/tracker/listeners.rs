//! The listening sockets, which tell the process of a passive connection.
//!
//! The request that a child is made from names its listener if fentry is available
//! (`tcp_create_openreq_child`), and so does accept(); up to Linux 6.14 a child first has its
//! listener's cookie. Otherwise the listener is looked up by namespace, port and address as the
//! kernel does (`__inet_lookup_listener`: the bound address before the wildcard), and only if no
//! other can have taken the connection: all that match belong to one process, no listener from
//! before the trace can share the place, and no proxy or program steers connections past it.
//! Otherwise no process is named.
//!
//! Any user can listen on thousands of addresses of one port, or thousands of times on one address
//! (SO_REUSEPORT). So nothing here walks over the sockets of a place or of a process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hashbrown::{HashMap, HashSet};

use super::{
    listener::{ListenKey, Listener},
    vocabulary::{Process, ProcessSource},
};
use crate::feed::event::{Bind, Endpoints, NetnsId, Task};

/// A process that listens. A process id that is reused gets another entry.
struct ListeningProcess {
    process: Process,
    sockets: usize,
}

/// The sockets that listen at one place.
#[derive(Default)]
struct ListenGroup {
    /// How many sockets each process has.
    owners: HashMap<Option<u64>, usize>,
    /// How many sockets have a process found in /proc.
    found: usize,
    /// How many sockets let others listen there (SO_REUSEPORT).
    sharing: usize,
    /// How many sockets belong to a proxy (IP_TRANSPARENT).
    transparent: usize,
    sockets: usize,
}

pub(super) struct Listeners {
    /// Each with the number of its process.
    sockets: HashMap<u64, (Listener, Option<u64>)>,
    by_cookie: HashMap<u64, u64>,
    groups: HashMap<ListenKey, ListenGroup>,
    owners: HashMap<u64, ListeningProcess>,
    /// The processes that have not exited, by process id.
    by_pid: HashMap<u32, u64>,
    next_owner: u64,
    /// The namespaces whose listeners are all known.
    known_in: HashSet<NetnsId>,
    /// The processes found for listeners from before the trace.
    named: Vec<u32>,
    /// The last socket that stopped listening.
    ceased: Option<u64>,
    limit: usize,
}

impl Listeners {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            sockets: HashMap::new(),
            by_cookie: HashMap::new(),
            groups: HashMap::new(),
            owners: HashMap::new(),
            by_pid: HashMap::new(),
            next_owner: 0,
            known_in: HashSet::new(),
            named: Vec::new(),
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

    /// Whether this is the last socket that stopped listening.
    pub(super) fn has_just_ceased(&self, socket: u64) -> bool {
        self.ceased == Some(socket) && !self.contains(socket)
    }

    /// Adds a listener; returns `false` if there is no room.
    pub(super) fn insert(&mut self, listener: Listener) -> bool {
        let owner = listener.process.map(|process| self.owner(process));
        self.remove(listener.socket);
        if self.sockets.len() >= self.limit {
            self.release_process(owner);
            self.forget_known();
            return false;
        }
        self.add(listener, owner);
        true
    }

    /// Returns the number of a process, which has one more socket now.
    fn owner(&mut self, process: Process) -> u64 {
        if let Some(&number) = self.by_pid.get(&process.pid)
            && let Some(owner) = self.owners.get_mut(&number)
        {
            owner.process.comm = process.comm;
            owner.sockets += 1;
            return number;
        }
        let number = self.next_owner;
        self.next_owner += 1;
        self.by_pid.insert(process.pid, number);
        self.owners.insert(
            number,
            ListeningProcess {
                process,
                sockets: 1,
            },
        );
        number
    }

    /// A process has one socket less.
    fn release_process(&mut self, owner: Option<u64>) {
        let Some((number, owner)) =
            owner.and_then(|number| Some((number, self.owners.get_mut(&number)?)))
        else {
            return;
        };
        owner.sockets -= 1;
        if owner.sockets == 0 {
            let pid = owner.process.pid;
            self.owners.remove(&number);
            if self.by_pid.get(&pid) == Some(&number) {
                self.by_pid.remove(&pid);
            }
        }
    }

    fn add(&mut self, listener: Listener, owner: Option<u64>) {
        if let Some(cookie) = listener.cookie {
            self.by_cookie.insert(cookie, listener.socket);
        }
        let group = self.groups.entry(listener.key()).or_default();
        *group.owners.entry(owner).or_default() += 1;
        group.found += usize::from(listener.is_found());
        group.sharing += usize::from(listener.shares());
        group.transparent += usize::from(is_transparent(listener.bind));
        group.sockets += 1;
        self.sockets.insert(listener.socket, (listener, owner));
    }

    /// Removes a listener without changing its process.
    fn take_out(&mut self, socket: u64) -> Option<(Listener, Option<u64>)> {
        let (listener, owner) = self.sockets.remove(&socket)?;
        if let Some(cookie) = listener.cookie {
            self.by_cookie.remove(&cookie);
        }
        let key = listener.key();
        if let Some(group) = self.groups.get_mut(&key) {
            if let Some(count) = group.owners.get_mut(&owner) {
                *count -= 1;
                if *count == 0 {
                    group.owners.remove(&owner);
                }
            }
            group.found -= usize::from(listener.is_found());
            group.sharing -= usize::from(listener.shares());
            group.transparent -= usize::from(is_transparent(listener.bind));
            group.sockets -= 1;
            if group.sockets == 0 {
                self.groups.remove(&key);
            }
        }
        Some((listener, owner))
    }

    /// Removes a listener.
    pub(super) fn remove(&mut self, socket: u64) -> Option<Listener> {
        let (listener, owner) = self.take_out(socket)?;
        let process = self.process(&listener, owner);
        self.release_process(owner);
        Some(Listener {
            process,
            ..listener
        })
    }

    /// Removes a listener that stopped listening.
    pub(super) fn stop(&mut self, socket: u64) -> Option<Listener> {
        self.ceased = Some(socket);
        self.remove(socket)
    }

    /// Returns a listener's process as it is now.
    fn process(&self, listener: &Listener, owner: Option<u64>) -> Option<Process> {
        let source = listener.process?.source;
        let owner = self.owners.get(&owner?)?;
        Some(owner.process.by(source))
    }

    /// A process changed its name.
    pub(super) fn name_process(&mut self, task: &Task) {
        if let Some(number) = self.by_pid.get(&task.pid)
            && let Some(owner) = self.owners.get_mut(number)
        {
            owner.process.comm = task.comm;
        }
    }

    /// A process exited: its id may be another's from now on.
    pub(super) fn exit(&mut self, pid: u32) {
        if let Some(number) = self.by_pid.remove(&pid)
            && let Some(owner) = self.owners.get_mut(&number)
        {
            owner.process.gone = true;
        }
    }

    /// A walk found this listener; returns `false` if it is not held.
    pub(super) fn mark_found(&mut self, socket: u64, walk: u64) -> bool {
        let held = self.sockets.get_mut(&socket);
        held.map(|(held, _)| held.walk = walk).is_some()
    }

    /// A walk found listeners at these endpoints.
    pub(super) fn mark_found_at(&mut self, endpoints: &HashSet<Endpoints>, walk: u64) {
        for (held, _) in self.sockets.values_mut() {
            if endpoints.contains(&held.endpoints) {
                held.walk = walk;
            }
        }
    }

    /// A listener is known by another number from now on.
    pub(super) fn rename(&mut self, from: u64, to: u64) {
        if let Some((listener, owner)) = self.take_out(from) {
            self.add(
                Listener {
                    socket: to,
                    ..listener
                },
                owner,
            );
        }
    }

    /// Whether the listener at a socket still has this id.
    pub(super) fn has(&self, socket: u64, id: u64) -> bool {
        self.sockets
            .get(&socket)
            .is_some_and(|(held, _)| held.id == id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Listener> {
        self.sockets.values().map(|(listener, _)| listener)
    }

    /// Names the process of a listener that has none.
    pub(super) fn set_process(&mut self, socket: u64, process: Process) {
        if let Some((listener, None)) = self.take_out(socket) {
            let owner = self.owner(process);
            self.named.push(process.pid);
            self.add(
                Listener {
                    process: Some(process),
                    ..listener
                },
                Some(owner),
            );
        }
    }

    /// Returns the processes named since the last call.
    pub(super) fn take_named(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.named)
    }

    /// Every listener of these namespaces is known, until something is lost.
    pub(super) fn mark_known(&mut self, namespaces: &HashSet<NetnsId>) {
        if self.sockets.len() < self.limit {
            self.known_in.clone_from(namespaces);
        }
    }

    /// Some listeners may be unknown from now on.
    pub(super) fn forget_known(&mut self) {
        self.known_in.clear();
    }

    /// Returns the listener with this cookie.
    pub(super) fn with_cookie(&self, cookie: u64) -> Option<u64> {
        self.by_cookie.get(&cookie).copied()
    }

    /// Returns the process of a listener.
    pub(super) fn process_of(&self, socket: u64) -> Option<Process> {
        let (listener, owner) = self.sockets.get(&socket)?;
        self.process(listener, *owner)
    }

    /// Returns the process that listens where a child came in, if no other can have taken it.
    /// `bind` is what the child has from its listener.
    pub(super) fn process_at(&self, ends: &Endpoints, bind: Option<&Bind>) -> Option<Process> {
        // Up to Linux 6.14 a child is still at its listener's place.
        let is_at_place = ends.remote_port == 0;
        let steered = bind.is_none_or(|bind| bind.steered);
        let groups = self.groups_at(ends, is_at_place);
        let mut owners = groups
            .iter()
            .flatten()
            .flat_map(|group| group.owners.keys());
        let owner = *owners.next()?;
        let is_shared = groups.iter().flatten().any(|group| group.sharing > 0);
        let all_known = ends
            .netns
            .is_some_and(|netns| self.known_in.contains(&netns));
        let has_others = owners.any(|other| *other != owner) || (is_shared && !all_known);
        let transparent = is_transparent(bind.copied());
        let is_of_its_kind = groups.iter().flatten().all(|group| {
            let of_kind = if transparent {
                group.transparent
            } else {
                group.sockets - group.transparent
            };
            of_kind == group.sockets
        });
        if has_others || (!is_at_place && (steered || !is_of_its_kind)) {
            return None;
        }
        let process = self.owners.get(&owner?)?.process;
        let is_found = groups.iter().flatten().any(|group| group.found > 0);
        Some(process.by(if is_found {
            ProcessSource::Proc
        } else {
            ProcessSource::Address
        }))
    }

    /// Whether any socket listens where a connection is.
    pub(super) fn is_at(&self, ends: &Endpoints) -> bool {
        let exactly = false;
        self.groups_at(ends, exactly).iter().any(Option::is_some)
    }

    /// Returns the groups that the kernel chooses from for a connection: the first place with a
    /// listener.
    fn groups_at(&self, ends: &Endpoints, exactly: bool) -> [Option<&ListenGroup>; 2] {
        let local = ends.local_address;
        let any: IpAddr = match local {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // A dual-stack listener accepts IPv4 too.
        let addresses = [local, any, Ipv6Addr::UNSPECIFIED.into()];
        let addresses = if exactly { &addresses[..1] } else { &addresses };
        // A socket bound to an interface is looked up there, then without an interface.
        let interfaces = [ends.interface, None];
        let interfaces = if exactly {
            &interfaces[..1]
        } else {
            &interfaces
        };
        let places = addresses.iter().flat_map(|address| {
            interfaces
                .iter()
                .map(move |interface| (*address, *interface))
        });
        places
            .map(|(address, interface)| {
                [false, true].map(|v6_only| {
                    if v6_only && local.is_ipv4() {
                        return None;
                    }
                    self.groups.get(&ListenKey {
                        netns: ends.netns,
                        port: ends.local_port,
                        address,
                        interface,
                        v6_only,
                    })
                })
            })
            .find(|groups| groups.iter().any(Option::is_some))
            .unwrap_or_default()
    }
}

fn is_transparent(bind: Option<Bind>) -> bool {
    bind.is_some_and(|bind| bind.transparent)
}
