//! Which cgroup a socket belongs to, and which container that is.

mod mountinfo;

use std::path::PathBuf;

/// Where the cgroup v2 hierarchy is mounted, the mount that shows most of it; `None` when it is
/// not mounted.
#[must_use]
pub fn hierarchy() -> Option<PathBuf> {
    let text = std::fs::read("/proc/self/mountinfo").ok()?;
    let mount = mountinfo::cgroup2_mounts(&text).into_iter().next()?;
    Some(mount.point)
}
