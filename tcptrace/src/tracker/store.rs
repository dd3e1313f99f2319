//! The live connections: found by socket address, bounded, the one unchanged for longest evicted
//! first.
//!
//! A slab with an index beside it and a list through it: no allocation per event, and the entry to
//! evict is known without a search. Entries whose end was lost never change again, so they are
//! evicted first.

use hashbrown::HashMap;

use super::connection::Connection;

const NONE: u32 = u32::MAX;

struct StoreEntry {
    /// `None` if the slot is free.
    connection: Option<Connection>,
    /// Towards the most recently changed; of a free slot, the next free one.
    newer: u32,
    /// Towards the one unchanged for longest.
    older: u32,
}

/// Where a connection is, until the store changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoreKey(u32);

pub(super) struct Store {
    by_socket: HashMap<u64, u32>,
    slots: Vec<StoreEntry>,
    free: u32,
    newest: u32,
    oldest: u32,
    limit: usize,
}

impl Store {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            by_socket: HashMap::new(),
            slots: Vec::new(),
            free: NONE,
            newest: NONE,
            oldest: NONE,
            limit: limit.clamp(1, NONE as usize - 1),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_socket.len()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots
            .iter()
            .filter_map(|slot| slot.connection.as_ref())
    }

    /// Returns where the connection of a socket is.
    pub(super) fn find(&self, socket: u64) -> Option<StoreKey> {
        self.by_socket.get(&socket).map(|&index| StoreKey(index))
    }

    /// A socket is known by another number from now on.
    pub(super) fn rename(&mut self, from: u64, to: u64) {
        if let Some(index) = self.by_socket.remove(&from) {
            self.by_socket.insert(to, index);
            if let Some(connection) = &mut self.slots[index as usize].connection {
                connection.socket = to;
            }
        }
    }

    pub(super) fn get(&self, socket: u64) -> Option<&Connection> {
        let StoreKey(index) = self.find(socket)?;
        self.slots[index as usize].connection.as_ref()
    }

    /// Returns a connection without changing the order.
    pub(super) fn get_by_key(&mut self, key: StoreKey) -> Option<&mut Connection> {
        self.slots[key.0 as usize].connection.as_mut()
    }

    /// Returns a connection, which becomes the most recently changed.
    pub(super) fn touch(&mut self, key: StoreKey) -> Option<&mut Connection> {
        let StoreKey(index) = key;
        if self.newest != index {
            self.unlink(index);
            self.link_newest(index);
        }
        self.get_by_key(key)
    }

    /// Returns the connection of a socket without changing the order.
    pub(super) fn get_mut(&mut self, socket: u64) -> Option<&mut Connection> {
        let key = self.find(socket)?;
        self.get_by_key(key)
    }

    /// Adds a connection as the most recently changed.
    ///
    /// Returns where it is, and the connection evicted if the store was full. The caller has
    /// removed what the socket's address held before.
    pub(super) fn insert(&mut self, connection: Connection) -> (StoreKey, Option<Connection>) {
        debug_assert!(!self.by_socket.contains_key(&connection.socket));
        let evicted = if self.len() >= self.limit {
            self.remove(StoreKey(self.oldest))
        } else {
            None
        };
        let socket = connection.socket;
        let slot = StoreEntry {
            connection: Some(connection),
            newer: NONE,
            older: NONE,
        };
        let index = if self.free == NONE {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
        } else {
            let index = self.free;
            self.free = self.slots[index as usize].newer;
            self.slots[index as usize] = slot;
            index
        };
        self.link_newest(index);
        self.by_socket.insert(socket, index);
        (StoreKey(index), evicted)
    }

    /// Removes a connection.
    pub(super) fn remove(&mut self, key: StoreKey) -> Option<Connection> {
        let StoreKey(index) = key;
        self.unlink(index);
        let slot = &mut self.slots[index as usize];
        let connection = slot.connection.take()?;
        slot.newer = self.free;
        self.free = index;
        self.by_socket.remove(&connection.socket);
        Some(connection)
    }

    fn link_newest(&mut self, index: u32) {
        let before = self.newest;
        let slot = &mut self.slots[index as usize];
        slot.newer = NONE;
        slot.older = before;
        match before {
            NONE => self.oldest = index,
            before => self.slots[before as usize].newer = index,
        }
        self.newest = index;
    }

    fn unlink(&mut self, index: u32) {
        let StoreEntry { newer, older, .. } = self.slots[index as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
