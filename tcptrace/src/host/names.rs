//! Who is told by number in an event, and not by name yet: the names of this host's cgroups and
//! interfaces.

use std::os::unix::fs::MetadataExt as _;

use nix::net::if_::if_nameindex;

use super::cgroup::Hierarchy;
use crate::feed::{
    decode::numbers_in,
    names::{Bounded, NAMES, Name},
};

/// Finds names when they are needed first: later a short-lived container is gone.
pub struct Names {
    hierarchy: Option<Hierarchy>,
    /// The cgroups that were asked for.
    cgroups: Bounded<u64, ()>,
    /// This process's network namespace.
    netns: Option<u32>,
    interfaces: Bounded<(u32, u32), String>,
    /// Said already.
    complained: bool,
}

impl Default for Names {
    fn default() -> Self {
        let own = std::fs::metadata("/proc/self/ns/net").ok();
        Self {
            hierarchy: None,
            cgroups: Bounded::new(NAMES),
            netns: own.and_then(|own| u32::try_from(own.ino()).ok()),
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
            index,
            name: text,
        } = &name
        {
            if self.interfaces.get((*netns, *index)) == Some(text) {
                return;
            }
            self.interfaces.insert((*netns, *index), text.clone());
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

/// The interfaces of the thread's network namespace, which has this number.
#[must_use]
pub fn interfaces_here(netns: u32) -> Vec<Name> {
    let Ok(interfaces) = if_nameindex() else {
        return Vec::new();
    };
    let names = interfaces.iter().map(|interface| Name::Interface {
        netns,
        index: interface.index(),
        name: interface.name().to_string_lossy().into_owned(),
    });
    names.collect()
}
