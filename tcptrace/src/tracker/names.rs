//! The names that were told, for connections to keep.

use std::sync::Arc;

use crate::{
    bounded::Bounded,
    feed::{
        event::{Endpoints, NetnsId, SocketOwner},
        names::{NAMES, Name},
    },
    host::cgroup::Cgroup,
};

/// What of a socket is known by name, from when it was met on: the cgroup may be gone by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// The cgroup that it was made in, or its listener.
    pub cgroup: Option<Arc<Cgroup>>,
    /// The interface that it is bound to.
    pub interface: Option<Arc<str>>,
}

/// The names that were told.
pub(super) struct Names {
    cgroups: Bounded<u64, Arc<Cgroup>>,
    interfaces: Bounded<(NetnsId, u32), Arc<str>>,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            cgroups: Bounded::new(NAMES),
            interfaces: Bounded::new(NAMES),
        }
    }
}

impl Names {
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

    pub(super) fn of(&self, owner: &SocketOwner, ends: &Endpoints) -> Named {
        Named {
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
