//! Names of what the kernel numbers: cgroups and interfaces. A name comes before the first event
//! that needs it, from the kernel and from a file alike.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

use super::event::NetnsId;

/// How many names of each kind are remembered; past that the oldest is dropped, and sent again when
/// needed.
pub const NAMES: usize = 1 << 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Name {
    Cgroup {
        id: u64,
        /// The path from the root of the v2 hierarchy, `/` for that root.
        path: String,
    },
    Interface {
        /// The network namespace's inode number.
        netns: u32,
        /// The network namespace's cookie, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns_cookie: Option<NonZeroU32>,
        /// The interface's number in the namespace.
        index: u32,
        /// Such as `eth0`.
        name: String,
    },
}

impl Name {
    pub const fn interface(netns: NetnsId, index: u32, name: String) -> Self {
        Self::Interface {
            netns: netns.inode,
            netns_cookie: netns.cookie,
            index,
            name,
        }
    }
}
