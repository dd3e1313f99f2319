//! The names of this host's cgroups and interfaces, for the numbers in events.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
};

use nix::{
    errno::Errno,
    net::if_::if_nameindex,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

use super::cgroup::Hierarchy;
use crate::{
    bounded::Bounded,
    feed::{
        decode::cgroup_in,
        event::{NetnsId, Numbers},
        name::{NAMES, Name},
    },
    host::netns::Namespace,
    privileges::run_privileged,
    warnings::Warnings,
};

/// What is known of a cgroup.
enum CgroupName {
    /// Its path, from its creation; no event has needed it yet.
    Made(Box<str>),
    /// Its name was sent, or could not be found.
    Told,
}

/// Finds names when they are first needed: later a short-lived container is gone. Cgroups created
/// meanwhile are known before.
pub struct NameFinder {
    hierarchy: Option<Arc<Hierarchy>>,
    cgroups: Bounded<u64, CgroupName>,
    netns: Option<NetnsId>,
    interfaces: Bounded<(NetnsId, u32), String>,
    /// Tells when an interface is renamed.
    links: Links,
    warnings: Warnings,
}

impl Default for NameFinder {
    fn default() -> Self {
        Self {
            hierarchy: None,
            cgroups: Bounded::new(NAMES),
            netns: run_privileged(|| Namespace::own().ok().map(|own| own.id)),
            interfaces: Bounded::new(NAMES),
            links: run_privileged(Links::subscribe),
            warnings: Warnings::default(),
        }
    }
}

impl NameFinder {
    /// Takes an event that tells only a name, for later. Returns whether it is one.
    pub fn add_event(&mut self, event: &[u8]) -> bool {
        let Some((id, path)) = cgroup_in(event) else {
            return false;
        };
        if let Some(path) = path {
            let path = String::from_utf8_lossy(path).into();
            self.cgroups.insert(id, CgroupName::Made(path));
        }
        true
    }

    /// Calls `take` with the names of an event's numbers that were not sent yet.
    pub fn find(&mut self, numbers: Numbers, mut take: impl FnMut(Name)) {
        if let Some(id) = numbers.cgroup {
            let path = match self.cgroups.get(&id) {
                Some(CgroupName::Told) => None,
                Some(CgroupName::Made(path)) => Some(path.to_string()),
                None => self.cgroup(id),
            };
            if !matches!(self.cgroups.get(&id), Some(CgroupName::Told)) {
                self.cgroups.insert(id, CgroupName::Told);
            }
            if let Some(path) = path {
                take(Name::Cgroup { id, path });
            }
        }
        if let Some((netns, index)) = numbers.interface
            && self.netns == Some(netns)
            && (self.links.have_changed() || self.interfaces.get(&(netns, index)).is_none())
        {
            for name in run_privileged(move || interfaces_here(netns)) {
                self.add(name, &mut take);
            }
        }
    }

    /// Calls `take` with a name found elsewhere, if it is new.
    pub fn add(&mut self, name: Name, mut take: impl FnMut(Name)) {
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
            if self.interfaces.get(&(netns, *index)) == Some(text) {
                return;
            }
            self.interfaces.insert((netns, *index), text.clone());
        }
        take(name);
    }

    fn cgroup(&mut self, id: u64) -> Option<String> {
        if self.hierarchy.is_none() {
            self.hierarchy = Hierarchy::open().map(Arc::new);
        }
        let hierarchy = Arc::clone(self.hierarchy.as_ref()?);
        match run_privileged(move || hierarchy.path(id)) {
            Ok(path) => path,
            Err(error) => {
                self.warnings.warn(format!(
                    "cgroups that were there before are told by their numbers (cgroup_id) only: finding their paths takes CAP_DAC_READ_SEARCH: {error}"
                ));
                None
            }
        }
    }
}

/// The kernel's messages about the links of this process's network namespace (rtnetlink(7)).
struct Links(Option<OwnedFd>);

impl Links {
    fn subscribe() -> Self {
        let subscribe = || -> nix::Result<OwnedFd> {
            let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
            let protocol = SockProtocol::NetlinkRoute;
            let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
            let links = u32::try_from(libc::RTMGRP_LINK).unwrap_or(1);
            bind(socket.as_raw_fd(), &NetlinkAddr::new(0, links))?;
            Ok(socket)
        };
        Self(subscribe().ok())
    }

    /// Whether anything changed since the last call; always true if that cannot be told.
    fn have_changed(&self) -> bool {
        let Some(socket) = &self.0 else {
            return true;
        };
        let mut changed = false;
        let mut message = [0; 4096];
        loop {
            match recv(socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                // More messages than the socket had room for.
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return changed,
                Err(_) => return true,
            }
        }
    }
}

/// Returns the interfaces of the calling thread's network namespace, which is `netns`.
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

#[cfg(test)]
mod tests {
    use tcptrace_common::{CGROUP_PATH, CgroupEvent, EventHeader, KIND_CGROUP};
    use zerocopy::IntoBytes as _;

    use super::*;

    const ID: u64 = u64::MAX;

    fn made(id: u64, path: &[u8]) -> Vec<u8> {
        let mut event = CgroupEvent {
            header: EventHeader {
                kind: KIND_CGROUP,
                ..EventHeader::default()
            },
            cgroup: id,
            length: u32::try_from(path.len()).unwrap(),
            reserved: 0,
            path: [b'x'; CGROUP_PATH],
        };
        event.path[..path.len()].copy_from_slice(path);
        event.as_bytes().to_vec()
    }

    fn found(names: &mut NameFinder, id: u64) -> Vec<Name> {
        let numbers = Numbers {
            cgroup: Some(id),
            interface: None,
        };
        let mut found = Vec::new();
        names.find(numbers, |name| found.push(name));
        found
    }

    #[test]
    fn a_cgroup_that_was_seen_made_has_its_path_though_it_is_gone() {
        let mut names = NameFinder::default();
        assert!(names.add_event(&made(ID, b"/jobs/a\xff\0")));
        let path = "/jobs/a\u{fffd}".to_owned();
        assert_eq!(found(&mut names, ID), [Name::Cgroup { id: ID, path }]);
        assert_eq!(found(&mut names, ID), []);
        // Its path did not fit, and the other cgroup was never seen.
        assert!(names.add_event(&made(ID - 1, b"")));
        assert_eq!(found(&mut names, ID - 1), []);
        assert_eq!(found(&mut names, ID - 2), []);
    }

    #[test]
    fn other_events_are_left_to_the_decoder() {
        let mut names = NameFinder::default();
        let whole = made(ID, b"/a\0");
        for length in 0..whole.len() {
            assert!(!names.add_event(&whole[..length]), "{length}");
        }
        let mut long = whole;
        long[40..44].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(names.add_event(&long));
        assert_eq!(found(&mut names, ID), []);
    }
}
