//! The names of cgroups and interfaces.

use std::sync::Arc;

use crate::{
    bounded::Bounded,
    feed::{
        event::{Endpoints, NetnsId, SocketOwner},
        name::{NAMES, Name},
    },
    host::cgroup::Cgroup,
};

/// The names of a socket's cgroup and interface, kept from when it was first seen: the cgroup may
/// be gone by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketNames {
    /// The cgroup that the socket, or its listener, was made in.
    pub cgroup: Option<Arc<Cgroup>>,
    /// The interface that the socket is bound to.
    pub interface: Option<Arc<str>>,
}

pub(super) struct NameTable {
    cgroups: Bounded<u64, Arc<Cgroup>>,
    interfaces: Bounded<(NetnsId, u32), Arc<str>>,
}

impl Default for NameTable {
    fn default() -> Self {
        Self {
            cgroups: Bounded::new(NAMES),
            interfaces: Bounded::new(NAMES),
        }
    }
}

impl NameTable {
    pub(super) fn insert(&mut self, name: &Name) {
        match name {
            Name::Cgroup { id, path } => self.cgroups.insert(*id, Arc::new(Cgroup::new(path))),
            Name::Interface {
                netns,
                netns_cookie,
                index,
                name,
            } => {
                let netns = NetnsId {
                    inode: *netns,
                    cookie: *netns_cookie,
                };
                self.interfaces
                    .insert((netns, *index), Arc::from(name.as_str()));
            }
        }
    }

    pub(super) fn lookup(&self, owner: &SocketOwner, ends: &Endpoints) -> SocketNames {
        SocketNames {
            cgroup: self.cgroup(owner),
            interface: self.interface(ends),
        }
    }

    pub(super) fn cgroup(&self, owner: &SocketOwner) -> Option<Arc<Cgroup>> {
        self.cgroups.get(&owner.cgroup?).cloned()
    }

    pub(super) fn interface(&self, ends: &Endpoints) -> Option<Arc<str>> {
        let key = (ends.netns?, ends.interface?);
        self.interfaces.get(&key).cloned()
    }
}
