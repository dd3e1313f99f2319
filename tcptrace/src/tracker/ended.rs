//! Connections that are over and wait a little for what may still be said of them.

use std::collections::VecDeque;

use hashbrown::HashMap;

use super::{GRACE_NS, connection::Ended};

/// In the order they ended. A socket's next generation takes its entry out early, leaving a hole.
#[derive(Default)]
pub(super) struct EndedQueue {
    queue: VecDeque<Option<Ended>>,
    /// The number of the queue's front entry, counted from the beginning.
    front: u64,
    by_socket: HashMap<u64, u64>,
}

impl EndedQueue {
    pub(super) fn len(&self) -> usize {
        self.by_socket.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Ended> {
        self.queue.iter().flatten()
    }

    /// Takes one in. The caller has taken out what the socket's address held before.
    pub(super) fn push(&mut self, ended: Ended) {
        let number = self.front + self.queue.len() as u64;
        self.by_socket.insert(ended.connection.socket, number);
        self.queue.push_back(Some(ended));
    }

    /// Takes a socket's entry out before it is due.
    pub(super) fn take(&mut self, socket: u64) -> Option<Ended> {
        let number = self.by_socket.remove(&socket)?;
        self.queue[usize::try_from(number - self.front).ok()?].take()
    }

    /// What waits under a socket's address.
    pub(super) fn get_mut(&mut self, socket: u64) -> Option<&mut Ended> {
        let number = self.by_socket.get(&socket)?;
        let index = usize::try_from(number - self.front).ok()?;
        self.queue.get_mut(index)?.as_mut()
    }

    /// When the first one is due.
    pub(super) fn next_due_ns(&self) -> Option<u64> {
        let ended = self.queue.iter().flatten().next()?;
        Some(ended.closed_at.get().saturating_add(GRACE_NS))
    }

    /// Takes the first one out if it is due at `now_ns`.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Ended> {
        while let Some(front) = self.queue.front() {
            if front
                .as_ref()
                .is_some_and(|ended| ended.closed_at.get().saturating_add(GRACE_NS) > now_ns)
            {
                return None;
            }
            let ended = self.queue.pop_front().flatten();
            self.front += 1;
            if let Some(ended) = ended {
                self.by_socket.remove(&ended.connection.socket);
                return Some(ended);
            }
        }
        None
    }
}
