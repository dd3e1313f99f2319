//! A walk over the kernel's table of sockets: what it covered, listed and found.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use tcptrace_common::TcpState;

use crate::feed::event::{NetnsId, Seed};

/// What a walk found and corrected, by state: connections that the tracker held and the kernel did
/// not, minus those that the kernel had and the tracker did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// By the state held, or the state found.
    pub by_state: BTreeMap<TcpState, i64>,
    pub vanished: u64,
    pub unknown: u64,
    pub moved: u64,
    /// Connections that could not be compared: their namespace was not walked, and is not known to
    /// be gone.
    pub uncompared: u64,
}

#[derive(Clone, Debug, Default)]
pub struct WalkEnd {
    /// The network namespaces walked to the end.
    pub namespaces: HashSet<NetnsId>,
    /// The sockets held by processes of other namespaces were walked too
    /// ([`Body::Held`](crate::feed::event::Body)).
    pub held: bool,
    /// Nothing was lost meanwhile.
    pub complete: bool,
    /// The sockets, if they were listed instead of sent through the ring.
    pub listed: Option<Vec<ListedSocket>>,
}

/// A socket as sock_diag lists it: it has a cookie, but no address.
#[derive(Clone, Copy, Debug)]
pub struct ListedSocket {
    /// `skc_cookie`, which its later events carry.
    pub cookie: u64,
    pub seed: Seed,
}

/// Which processes hold which sockets, as a search found them.
#[derive(Clone, Debug, Default)]
pub struct SocketHolders {
    pub began_ns: u64,
    /// Process id and name, by the inode of the socket's file.
    pub by_inode: HashMap<u64, (u32, [u8; 16])>,
}
