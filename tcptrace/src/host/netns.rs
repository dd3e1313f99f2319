//! The network namespaces that can be found: those of processes and those mounted somewhere.
//!
//! A namespace held only by a socket or by a thread (not its process) has no name anywhere and is
//! not found; nor is one whose processes and mounts are hidden from us. Only threads made for it
//! ever enter another namespace.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, ErrorKind},
    num::NonZeroU32,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    panic,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    errno::Errno,
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType},
};

use crate::{feed::event::NetnsId, host::mountinfo};

/// The calling thread's own.
const OWN: &str = "/proc/thread-self/ns/net";
const OWN_PROC_NET: &str = "/proc/thread-self/net/dev";

/// A network namespace, kept alive by its file.
#[derive(Debug)]
pub struct Namespace {
    /// Its id, as in events.
    pub id: NetnsId,
    /// Keeps the namespace, and leads into it.
    pub file: File,
    /// The inode number of /proc/PID/net/dev for every process in it; `None` if it cannot be
    /// entered.
    proc_net: Option<u64>,
}

/// Finds the namespaces and passes each to `visit`, once, the own one first. One file is open at a
/// time, unless `visit` keeps it.
///
/// Returns how many processes and mounts could not be looked at or opened, mostly for lack of
/// CAP_SYS_PTRACE. A process is not counted if it is in a visited namespace: that needs no right,
/// for its /proc/PID/net is the namespace's. A mount may be one of a visited namespace.
///
/// Fails when not even the own namespace can be opened, or /proc cannot be read.
pub fn find(mut visit: impl FnMut(Namespace)) -> io::Result<usize> {
    let own = Namespace::own()?;
    let mut search = NamespaceSearch::new(&mut visit);
    search.found(own);
    for entry in fs::read_dir("/proc")? {
        // The process may exit at any moment.
        let Ok(entry) = entry else { continue };
        if entry.file_name().as_encoded_bytes()[0].is_ascii_digit() {
            search.visit_process(&entry.path());
        }
    }
    match fs::read("/proc/thread-self/mountinfo") {
        Ok(mounts) => {
            // `ip netns` mounts them in /run/netns, container engines in places of their own.
            for mount in mountinfo::mounts(&mounts, "nsfs") {
                let Some(inode) = number(mount.root.as_bytes()) else {
                    continue;
                };
                let visited = search.visit_path(inode, &mount.point);
                search.refused += usize::from(visited.is_err_and(|error| !has_vanished(&error)));
            }
        }
        Err(_) => search.refused += 1,
    }
    Ok(search.refused + search.elsewhere())
}

struct NamespaceSearch<'a> {
    seen: HashSet<u32>,
    /// [`Namespace::proc_net`] of those seen.
    proc_nets: HashSet<u64>,
    /// Directories in /proc.
    refused_processes: Vec<PathBuf>,
    /// Mounts, and lists of them.
    refused: usize,
    visit: &'a mut dyn FnMut(Namespace),
}

impl<'a> NamespaceSearch<'a> {
    fn new(visit: &'a mut dyn FnMut(Namespace)) -> Self {
        Self {
            seen: HashSet::new(),
            proc_nets: HashSet::new(),
            refused_processes: Vec::new(),
            refused: 0,
            visit,
        }
    }

    /// Looks at the link of a process, which names the number without being opened.
    fn visit_process(&mut self, process: &Path) {
        let link = process.join("ns/net");
        let visited = fs::read_link(&link).and_then(|target| {
            // Before EACCES, as on Linux 5.10, a refused link was empty.
            let inode = number(target.as_os_str().as_bytes());
            self.visit_path(inode.ok_or(ErrorKind::PermissionDenied)?, &link)
        });
        if visited.is_err_and(|error| !has_vanished(&error)) {
            self.refused_processes.push(process.to_owned());
        }
    }

    /// Opens what `path` leads to, unless `inode` is known already.
    fn visit_path(&mut self, inode: u32, path: &Path) -> io::Result<()> {
        if !self.seen.contains(&inode) {
            // What was opened counts: the process may have moved, and another mount may cover this
            // one.
            self.found(Namespace::open(path)?);
        }
        Ok(())
    }

    fn found(&mut self, namespace: Namespace) {
        if self.seen.insert(namespace.id.inode) {
            self.proc_nets.extend(namespace.proc_net);
            (self.visit)(namespace);
        }
    }

    /// Returns how many of the refused processes are in no visited namespace.
    fn elsewhere(&self) -> usize {
        let is_elsewhere = |process: &&PathBuf| match fs::metadata(process.join("net/dev")) {
            Ok(metadata) => !self.proc_nets.contains(&metadata.ino()),
            Err(error) => !has_vanished(&error),
        };
        self.refused_processes.iter().filter(is_elsewhere).count()
    }
}

/// Returns whether a namespace, or what led to it, is gone.
fn has_vanished(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData)
        || error.raw_os_error() == Some(libc::ESRCH)
}

impl Namespace {
    /// Returns the calling thread's namespace.
    ///
    /// Fails when /proc is not mounted.
    pub fn own() -> io::Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// Returns the namespace that a path such as /proc/1234/ns/net leads to.
    ///
    /// Fails when it cannot be opened, with [`ErrorKind::InvalidData`] when it is no network
    /// namespace.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: NS_GET_NSTYPE takes no argument (ioctl_nsfs(2)).
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
        let inode = u32::try_from(file.metadata()?.ino());
        let (libc::CLONE_NEWNET, Ok(inode)) = (kind, inode) else {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                "not a network namespace",
            ));
        };
        let mut namespace = Self {
            id: NetnsId::without_cookie(inode),
            file,
            proc_net: None,
        };
        let ids = || (cookie_here(), fs::metadata(OWN_PROC_NET).ok());
        // Without the right to enter it, nothing can be asked of it, not even its cookie.
        if let Ok((cookie, proc_net)) = namespace.enter(ids) {
            namespace.id.cookie = cookie;
            namespace.proc_net = proc_net.map(|metadata| metadata.ino());
        }
        Ok(namespace)
    }

    /// Runs `work` in the namespace, on a thread that ends with it: the calling thread stays where
    /// it is. What `work` opens belongs to the namespace for good.
    ///
    /// Fails when the thread cannot be created, or not be moved (that needs CAP_SYS_ADMIN, unless
    /// the namespace is the calling thread's).
    ///
    /// # Panics
    ///
    /// When `work` does.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let inside = thread::Builder::new()
                .name("in-namespace".to_owned())
                .spawn_scoped(scope, || {
                    if fs::metadata(OWN).is_ok_and(|own| own.ino() == u64::from(self.id.inode)) {
                        return Ok(work());
                    }
                    match setns(&self.file, CloneFlags::CLONE_NEWNET) {
                        Ok(()) => Ok(work()),
                        Err(errno @ Errno::EPERM) => Err(io::Error::new(
                            ErrorKind::PermissionDenied,
                            format!("{errno}; it takes CAP_SYS_ADMIN"),
                        )),
                        Err(errno) => Err(errno.into()),
                    }
                })?;
            match inside.join() {
                Ok(result) => result,
                Err(panicked) => panic::resume_unwind(panicked),
            }
        })
    }
}

/// Returns the cookie of the calling thread's network namespace (SO_NETNS_COOKIE, from Linux 5.14);
/// `None` if the kernel does not tell it, or it has more than 32 bits.
pub fn cookie_here() -> Option<NonZeroU32> {
    let socket = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .ok()?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes, which `cookie` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    (result == 0)
        .then_some(cookie)
        .and_then(|cookie| u32::try_from(cookie).ok())
        .and_then(NonZeroU32::new)
}

/// Parses `net:[4026531840]`.
fn number(name: &[u8]) -> Option<u32> {
    let digits = name.strip_prefix(b"net:[")?.strip_suffix(b"]")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "netns_tests.rs"]
mod tests;
