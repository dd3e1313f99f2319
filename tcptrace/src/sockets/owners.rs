//! Which process holds a socket, from /proc: the only way to name the process of a socket from
//! before the trace.

use std::{
    fs,
    path::Path,
    sync::mpsc::{Receiver, TryRecvError, channel},
};

use hashbrown::HashMap;

use crate::{namespaces::NamespaceKind, privileges, tracker::SocketHolders, warnings::Warnings};

/// The most sockets kept.
const MOST: usize = 1 << 20;

#[derive(Default)]
pub struct OwnerSearch {
    answer: Option<Receiver<SocketHolders>>,
    warnings: Warnings,
}

impl OwnerSearch {
    /// Starts a search, unless one is in progress.
    pub fn begin(&mut self, now_ns: u64) {
        if self.answer.is_some() {
            return;
        }
        let (to, answer) = channel();
        let started = privileges::spawn("owners", move || {
            // The receiver may be gone by now.
            let _sent = to.send(find(now_ns));
        });
        match started {
            Ok(_) => self.answer = Some(answer),
            Err(error) => self.warnings.warn(format!(
                "the processes of existing sockets are not known: starting a thread: {error}"
            )),
        }
    }

    /// Whether a search is in progress.
    pub const fn is_under_way(&self) -> bool {
        self.answer.is_some()
    }

    /// Returns the result, once the search has ended.
    pub fn poll(&mut self) -> Option<SocketHolders> {
        let found = match self.answer.as_ref()?.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Ok(found) => Some(found),
            Err(TryRecvError::Disconnected) => None,
        };
        self.answer = None;
        found
    }
}

/// Returns every socket that a process holds, by its inode. Unreadable processes are left out.
fn find(began_ns: u64) -> SocketHolders {
    let mut found = SocketHolders {
        began_ns,
        by_inode: HashMap::new(),
    };
    if NamespaceKind::Pid.is_initial() != Some(true) {
        return found;
    }
    // When each holder started, in ticks.
    let mut began: HashMap<u64, u64> = HashMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let directory = process.path();
        let mut inodes = sockets(&directory).peekable();
        if inodes.peek().is_none() {
            continue;
        }
        let Some(start) = start_of(&directory) else {
            continue;
        };
        let comm = fs::read(directory.join("comm")).unwrap_or_default();
        let comm = padded(comm.strip_suffix(b"\n").unwrap_or(&comm));
        for inode in inodes {
            if found.by_inode.len() == MOST && !found.by_inode.contains_key(&inode) {
                return found;
            }
            // Of the processes that share a socket, the one that started first had it first.
            let first = began.entry(inode).or_insert(u64::MAX);
            if start < *first {
                *first = start;
                found.by_inode.insert(inode, (pid, comm));
            }
        }
    }
    found
}

/// Returns the inodes of a process's sockets.
fn sockets(process: &Path) -> impl Iterator<Item = u64> {
    let descriptors = fs::read_dir(process.join("fd")).into_iter().flatten();
    descriptors.flatten().filter_map(|descriptor| {
        let target = fs::read_link(descriptor.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?;
        inode.strip_suffix(']')?.parse().ok()
    })
}

/// Returns when a process started, in ticks since boot (`/proc/PID/stat`, field 22). Its name,
/// before that, may contain anything.
fn start_of(process: &Path) -> Option<u64> {
    let stat = fs::read(process.join("stat")).ok()?;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let after = std::str::from_utf8(&stat[end + 1..]).ok()?;
    after.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn padded(name: &[u8]) -> [u8; 16] {
    let mut comm = [0; 16];
    let length = name.len().min(15);
    comm[..length].copy_from_slice(&name[..length]);
    comm
}

#[cfg(test)]
#[path = "owners_tests.rs"]
mod tests;
