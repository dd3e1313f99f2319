//! The network namespaces that can be found: those of processes and those mounted somewhere.
//!
//! A namespace held only by a socket or by a thread (not its process) has no name anywhere and is
//! not found; nor is one whose processes and mounts are hidden from us. Only threads made for it
//! ever enter another namespace.

use std::{
    collections::HashSet,
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind},
    num::NonZeroU32,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStringExt, fs::MetadataExt},
    },
    panic,
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{AddressFamily, SockFlag, SockType},
};

use crate::feed::event::NetnsId;

/// The calling thread's own.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace, kept alive by its file.
#[derive(Debug)]
pub struct Namespace {
    /// Its id, as in events.
    pub id: NetnsId,
    /// Keeps the namespace, and leads into it.
    pub file: File,
}

/// Finds the namespaces and passes each to `visit`, once, the own one first. One file is open at a
/// time, unless `visit` keeps it.
///
/// Returns how many processes and mounts could not be looked at or opened, mostly for lack of
/// CAP_SYS_PTRACE. They may be in a visited namespace.
///
/// Fails when not even the own namespace can be opened, or /proc cannot be read.
pub fn find(mut visit: impl FnMut(Namespace)) -> io::Result<usize> {
    let own = Namespace::own()?;
    let mut search = NamespaceSearch {
        seen: HashSet::from([own.id.inode]),
        refused: 0,
        visit: &mut visit,
    };
    (search.visit)(own);
    for entry in fs::read_dir("/proc")? {
        // The process may exit at any moment.
        let Ok(entry) = entry else { continue };
        if entry.file_name().as_encoded_bytes()[0].is_ascii_digit() {
            search.visit_process(&entry.path().join("ns/net"));
        }
    }
    match fs::read("/proc/thread-self/mountinfo") {
        Ok(mounts) => {
            for (inode, path) in mounts.split(|&byte| byte == b'\n').filter_map(net_mount) {
                search.visit_path(inode, &path);
            }
        }
        Err(_) => search.refused += 1,
    }
    Ok(search.refused)
}

struct NamespaceSearch<'a> {
    seen: HashSet<u32>,
    refused: usize,
    visit: &'a mut dyn FnMut(Namespace),
}

impl NamespaceSearch<'_> {
    /// Looks at a process's link, which names the number without being opened.
    fn visit_process(&mut self, link: &Path) {
        match fs::read_link(link) {
            Ok(target) => {
                if let Some(inode) = number(target.as_os_str().as_encoded_bytes()) {
                    self.visit_path(inode, link);
                }
            }
            Err(error) => self.count(&error),
        }
    }

    /// Opens what `path` leads to, unless `inode` is known already.
    fn visit_path(&mut self, inode: u32, path: &Path) {
        if self.seen.contains(&inode) {
            return;
        }
        match Namespace::open(path) {
            // What was opened counts: the process may have moved, and another mount may cover this
            // one.
            Ok(namespace) => {
                if self.seen.insert(namespace.id.inode) {
                    (self.visit)(namespace);
                }
            }
            Err(error) => self.count(&error),
        }
    }

    /// Counts an error, unless the namespace has vanished.
    fn count(&mut self, error: &io::Error) {
        let vanished = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData)
            || error.raw_os_error() == Some(libc::ESRCH);
        if !vanished {
            self.refused += 1;
        }
    }
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
        };
        // Without the right to enter it, nothing can be asked of it, not even its cookie.
        namespace.id.cookie = namespace.enter(cookie_here).ok().flatten();
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
                    setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                    Ok(work())
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

/// Parses a line of mountinfo, if a network namespace is mounted there: `ip netns` does that in
/// /run/netns, container engines in their own places.
fn net_mount(line: &[u8]) -> Option<(u32, PathBuf)> {
    let mut fields = line.split(|&byte| byte == b' ');
    let inode = number(fields.nth(3)?)?;
    let path = unescape(fields.next()?);
    let kind = fields.skip_while(|&field| field != b"-").nth(1)?;
    (kind == b"nsfs").then(|| (inode, PathBuf::from(OsString::from_vec(path))))
}

/// Unescapes spaces, tabs, newlines and backslashes, written as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if let (b'\\', Some(&[a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'])) =
            (byte, after.first_chunk::<3>())
        {
            plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = &after[3..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
#[path = "netns_tests.rs"]
mod tests;
