//! Who is told by number in an event, and not by name yet: the names of this host's cgroups and
//! interfaces.

use nix::net::if_::if_nameindex;

use super::cgroup::Hierarchy;
use crate::{
    feed::{
        decode::numbers_in,
        event::NetnsId,
        names::{Bounded, NAMES, Name},
    },
    survey::diag::namespaces::Namespace,
};

/// Finds names when they are needed first: later a short-lived container is gone.
pub struct Names {
    hierarchy: Option<Hierarchy>,
    /// The cgroups that were asked for.
    cgroups: Bounded<u64, ()>,
    /// This process's network namespace.
    netns: Option<NetnsId>,
    interfaces: Bounded<(NetnsId, u32), String>,
    /// Said already.
    complained: bool,
}

impl Default for Names {
    fn default() -> Self {
        Self {
            hierarchy: None,
            cgroups: Bounded::new(NAMES),
            netns: Namespace::own().ok().map(|own| own.id),
            interfaces: Bounded::new(NAMES),
            complained: false,
        }
    }
}

impl Names {
    /// Calls `take` with what names an event needs that were not told yet.
    pub fn find(&mut self, event: &[u8], mut take: impl FnMut(Name)) {
        let numbers = numbers_in(event);
        if let Some(id) = numbers.cgroup
            && self.cgroups.get(id).is_none()
        {
            self.cgroups.insert(id, ());
            if let Some(path) = self.cgroup(id) {
                take(Name::Cgroup { id, path });
            }
        }
        if let Some((netns, index)) = numbers.interface
            && self.netns == Some(netns)
            && self.interfaces.get((netns, index)).is_none()
        {
            for name in interfaces_here(netns) {
                self.learn(name, &mut take);
            }
        }
    }

    /// Calls `take` with a name that was found elsewhere, if it is new.
    pub fn learn(&mut self, name: Name, mut take: impl FnMut(Name)) {
        if let Name::Interface {
            netns,
            netns_cookie,
            index,
            name: text,
        } = &name
        {
            let netns = NetnsId {
                inode: *netns,
                cookie: *netns_cookie,
            };
            if self.interfaces.get((netns, *index)) == Some(text) {
                return;
            }
            self.interfaces.insert((netns, *index), text.clone());
        }
        take(name);
    }

    fn cgroup(&mut self, id: u64) -> Option<String> {
        if self.hierarchy.is_none() {
            self.hierarchy = Hierarchy::open();
        }
        match self.hierarchy.as_ref()?.path(id) {
            Ok(path) => path,
            Err(error) => {
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(
                        "cgroups are told by their numbers (cgroup_id) only: finding their paths takes CAP_DAC_READ_SEARCH: {error}"
                    );
                }
                None
            }
        }
    }
}

/// The interfaces of the thread's network namespace, which is this one.
#[must_use]
pub fn interfaces_here(netns: NetnsId) -> Vec<Name> {
    let Ok(interfaces) = if_nameindex() else {
        return Vec::new();
    };
    let names = interfaces.iter().map(|interface| {
        let name = interface.name().to_string_lossy().into_owned();
        Name::interface(netns, interface.index(), name)
    });
    names.collect()
}
