//! This host: its name, its boot, its kernel.

pub mod cgroup;
pub mod mountinfo;
pub mod name_finder;
pub mod netns;
pub mod notices;
pub mod resolver;

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher as _, Hasher as _},
};

use crate::namespaces::NamespaceKind;

/// What every record carries, so that records of many hosts fit into one table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `uname -n`; `None` in a container with its own host name.
    pub name: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`; `None` when it cannot be read.
    pub boot_id: Option<String>,
    /// The prefix of each connection's id: this boot and this start of the program.
    pub run: String,
}

impl Host {
    /// Returns this host, for a run that begins at `start_ns` of the events' clock.
    pub fn this(start_ns: u64) -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .map(|id| id.trim().to_owned())
            .filter(|id| !id.is_empty());
        // Two boots may begin at the same time of their clocks.
        let boot = boot_id.as_deref().and_then(|id| id.get(..8)).map_or_else(
            || format!("{:08x}", RandomState::new().build_hasher().finish() as u32),
            str::to_owned,
        );
        let name = (NamespaceKind::Uts.is_initial() == Some(true))
            .then(|| nix::unistd::gethostname().ok())
            .flatten();
        Self {
            name: name.map(|name| name.to_string_lossy().into_owned()),
            run: format!("{boot}-{start_ns:x}"),
            boot_id,
        }
    }
}

/// `uname -r`.
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |names| names.release().to_string_lossy().into_owned(),
    )
}
