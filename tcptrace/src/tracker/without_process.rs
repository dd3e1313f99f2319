//! The sockets whose process is not known, and the search in /proc that finds it.

use hashbrown::HashMap;

use super::{
    vocabulary::{Moment, Process, ProcessSource},
    walk::SocketHolders,
};

/// A socket that a walk found, and whose process is not known.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketWithoutProcess {
    /// The id of its connection or listener.
    pub(super) id: u64,
    /// The kernel's address of the socket.
    pub(super) socket: u64,
    /// When the walk found it.
    pub(super) found: Moment,
}

/// The sockets whose process is not known, by the inode of their file.
///
/// A search's result is kept until the walk it was made for ends, for sockets found later.
#[derive(Debug, Default)]
pub(super) struct SocketsWithoutProcess {
    by_inode: HashMap<u64, SocketWithoutProcess>,
    owners: SocketHolders,
}

impl SocketsWithoutProcess {
    pub(super) fn is_empty(&self) -> bool {
        self.by_inode.is_empty()
    }

    /// Returns the process of a socket if the last search found it; otherwise keeps the socket for
    /// the next search.
    pub(super) fn find(&mut self, inode: u64, socket: SocketWithoutProcess) -> Option<Process> {
        let owner = self.owner(inode);
        if owner.is_none() {
            self.by_inode.insert(inode, socket);
        }
        owner
    }

    /// Takes the result of a search, and returns the sockets whose process it found. Those that
    /// were there before it began, and that it did not find, nobody holds.
    pub(super) fn resolve(
        &mut self,
        owners: SocketHolders,
    ) -> Vec<(SocketWithoutProcess, Process)> {
        self.owners = owners;
        let mut found = Vec::new();
        for (inode, socket) in std::mem::take(&mut self.by_inode) {
            match self.owner(inode) {
                Some(process) => found.push((socket, process)),
                None if socket.found.get() >= self.owners.began_ns => {
                    self.by_inode.insert(inode, socket);
                }
                None => {}
            }
        }
        found
    }

    /// Forgets the last search.
    pub(super) fn forget_search(&mut self) {
        self.owners = SocketHolders::default();
    }

    fn owner(&self, inode: u64) -> Option<Process> {
        let &(pid, comm) = self.owners.by_inode.get(&inode)?;
        Some(Process {
            pid,
            comm,
            source: ProcessSource::Proc,
            gone: false,
        })
    }
}
