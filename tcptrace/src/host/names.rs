//! Who is told by number in an event, and not by name yet: the names of this host's cgroups and
//! interfaces.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::{
    errno::Errno,
    net::if_::if_nameindex,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
    },
};

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
    /// Tells when one of its interfaces has another name.
    links: Links,
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
            links: Links::subscribe(),
            complained: false,
        }
    }
}

impl Names {
    /// Calls `take` with what names an event needs that were not told yet.
    pub fn find(&mut self, event: &[u8], mut take: impl FnMut(Name)) {
        let numbers = numbers_in(event);
        if let Some(id) = numbers.cgroup
            && self.cgroups.get(&id).is_none()
        {
            self.cgroups.insert(id, ());
            if let Some(path) = self.cgroup(id) {
                take(Name::Cgroup { id, path });
            }
        }
        if let Some((netns, index)) = numbers.interface
            && self.netns == Some(netns)
            && (self.links.have_changed() || self.interfaces.get(&(netns, index)).is_none())
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
            if self.interfaces.get(&(netns, *index)) == Some(text) {
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

    /// Something has changed since the last time; who cannot be told must always look.
    fn have_changed(&self) -> bool {
        let Some(socket) = &self.0 else {
            return true;
        };
        let mut changed = false;
        let mut message = [0; 4096];
        loop {
            match recv(socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
                // More came than the socket had room for.
                Ok(_) | Err(Errno::ENOBUFS) => changed = true,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return changed,
                Err(_) => return true,
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
