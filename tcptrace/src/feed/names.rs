//! What the kernel knows by number and people by name: cgroups and interfaces. A name comes before the
//! first event that needs it, from the kernel and from a file alike.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::event::NetnsId;

/// How many names of each kind are remembered; then the oldest is forgotten, and told again when it is
/// needed again.
pub const NAMES: usize = 1 << 16;

/// A name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    /// A cgroup's.
    Cgroup {
        /// Its id.
        id: u64,
        /// Its path from the root of the v2 hierarchy, `/` for that root.
        path: String,
    },
    /// An interface's.
    Interface {
        /// The network namespace's inode number.
        netns: u32,
        /// Its cookie, where that can be had.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns_cookie: Option<NonZeroU32>,
        /// The interface's number in it.
        index: u32,
        /// Such as `eth0`.
        name: String,
    },
}

impl Name {
    /// The name of an interface.
    pub const fn interface(netns: NetnsId, index: u32, name: String) -> Self {
        Self::Interface {
            netns: netns.inode,
            netns_cookie: netns.cookie,
            index,
            name,
        }
    }
}
