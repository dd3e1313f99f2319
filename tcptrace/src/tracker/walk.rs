//! What a walk over the kernel's own table of sockets covered, listed and found.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};
use tcptrace_common::TcpState;

use crate::feed::event::{NetnsId, Seed};

/// What a walk found, by state: connections that the tracker held and the kernel did not, less
/// those that the kernel had and the tracker did not. All of them were mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drift {
    /// By the state held, or the state found.
    pub by_state: BTreeMap<TcpState, i64>,
    /// Connections that the tracker held and the kernel did not.
    pub vanished: u64,
    /// Connections that the kernel had and the tracker did not.
    pub unknown: u64,
    /// Connections held in another state than the kernel's.
    pub moved: u64,
    /// Connections that could not be compared: their namespace was not walked through, and is not known
    /// to be gone.
    pub uncompared: u64,
}

/// What a walk covered.
#[derive(Clone, Debug, Default)]
pub struct WalkEnd {
    /// The network namespaces that were walked through to the end.
    pub namespaces: HashSet<NetnsId>,
    /// The sockets that processes hold elsewhere were told of too ([`Body::Held`](crate::feed::event::Body)).
    pub held: bool,
    /// Every socket found came through: nothing was lost meanwhile.
    pub complete: bool,
    /// The sockets themselves, where they did not come through the ring.
    pub listed: Option<Vec<Listed>>,
}

/// A socket as sock_diag lists it: it has a cookie, and no address that we could know it by.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// `skc_cookie`, which its events tell from now on.
    pub cookie: u64,
    /// What it was.
    pub seed: Seed,
}

/// Who holds which sockets, as a search found it.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    /// When the search began.
    pub began_ns: u64,
    /// Process id and name, by the inode of the socket's file.
    pub by_inode: HashMap<u64, (u32, [u8; 16])>,
}
