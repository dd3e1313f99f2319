//! The cgroup of a socket, and its container.

mod container;

use std::{
    fs::{self, File},
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
};

use nix::errno::Errno;

pub use self::container::Cgroup;
use crate::host::mountinfo;

/// Returns where the cgroup v2 hierarchy is mounted, the mount that shows most of it; `None` when
/// it is not mounted.
pub fn hierarchy() -> Option<PathBuf> {
    let text = fs::read("/proc/self/mountinfo").ok()?;
    let mount = mountinfo::cgroup2_mounts(&text).into_iter().next()?;
    Some(mount.point)
}

/// Whether the directory is the hierarchy's root, as the host has it: a cgroup namespace shows a
/// part of it as the whole. The root's node is the first one (`kernfs_create_root`).
pub fn is_whole(point: &Path) -> bool {
    fs::metadata(point).is_ok_and(|root| root.ino() == 1)
}

/// The cgroup v2 hierarchy, for lookups.
#[derive(Debug)]
pub struct Hierarchy {
    point: PathBuf,
    root: File,
}

/// `struct file_handle` of a file in kernfs.
#[repr(C)]
struct Handle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    id: u64,
}

/// `FILEID_KERNFS` (`include/linux/exportfs.h`): the handle is the node's id.
const FILEID_KERNFS: libc::c_int = 0xfe;

impl Hierarchy {
    /// Opens the mounted hierarchy, if it is the host's whole one.
    pub fn open() -> Option<Self> {
        let point = hierarchy().filter(|point| is_whole(point))?;
        let root = File::open(&point).ok()?;
        Some(Self { point, root })
    }

    /// Returns the path of a cgroup from the hierarchy's root; `None` when the cgroup is gone.
    ///
    /// Fails without CAP_DAC_READ_SEARCH.
    pub fn path(&self, id: u64) -> Result<Option<String>, Errno> {
        let mut handle = Handle {
            bytes: 8,
            kind: FILEID_KERNFS,
            id,
        };
        // SAFETY: the handle is as long as it says, and the kernel only reads it.
        let fd = unsafe {
            libc::open_by_handle_at(
                self.root.as_raw_fd(),
                (&raw mut handle).cast(),
                libc::O_PATH | libc::O_CLOEXEC,
            )
        };
        let fd = match Errno::result(fd) {
            // SAFETY: the kernel has just returned this descriptor.
            Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
            Err(Errno::EPERM | Errno::EACCES) => return Err(Errno::EPERM),
            Err(_) => return Ok(None),
        };
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        Ok(fs::read_link(link).ok().and_then(|path| self.below(&path)))
    }

    /// Returns the paths of all cgroups, parents first. Unreadable ones are left out.
    pub fn paths(&self) -> impl Iterator<Item = String> {
        let mut directories = vec![self.point.clone()];
        std::iter::from_fn(move || {
            let directory = directories.pop()?;
            let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
            directories.extend(
                entries
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path()),
            );
            Some(directory)
        })
        .filter_map(|directory| self.below(&directory))
    }

    fn below(&self, path: &Path) -> Option<String> {
        let below = path.strip_prefix(&self.point).ok()?.to_string_lossy();
        // It has just gone away.
        (!below.ends_with(" (deleted)")).then(|| format!("/{below}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_by_its_id() {
        let Some(hierarchy) = Hierarchy::open() else {
            println!("skipped: the cgroup v2 hierarchy is not mounted");
            return;
        };
        let paths: Vec<String> = hierarchy.paths().collect();
        assert_eq!(paths.first().map(String::as_str), Some("/"));
        for path in &paths[1..] {
            let parent = path.rsplit_once('/').unwrap().0;
            assert!(parent.is_empty() || paths.iter().any(|path| path == parent));
        }
        let id = fs::metadata(&hierarchy.point).unwrap().ino();
        match hierarchy.path(id) {
            Ok(path) => assert_eq!(path.as_deref(), Some("/")),
            Err(error) => println!("skipped: {error}"),
        }
        if hierarchy.path(id).is_ok() {
            assert_eq!(hierarchy.path(u64::MAX), Ok(None));
        }
    }
}
