//! The slots for connections, and which connection must leave when none is free.
//!
//! Clients that only wait cannot keep others out: the one whose request we have waited for longest
//! gives up its slot, unknown clients before authenticated ones. Only when every slot is in use for
//! a response is a new connection refused.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::{clock, warnings::OncePerMinute};

/// After this many connections at a time, and then few, there is memory worth giving back.
const FLOOD: usize = 64;

/// All slots.
pub(super) struct ConnectionSlots {
    limit: usize,
    state: Mutex<SlotsState>,
}

#[derive(Default)]
struct SlotsState {
    taken: HashMap<u64, Arc<Client>>,
    next: u64,
    counts: ConnectionCounts,
    warnings: OncePerMinute,
    /// The most connections since memory was given back.
    peak: usize,
}

/// Connections for which there was no slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionCounts {
    /// Closed at once: every slot was in use for a response.
    pub(super) rejected: u64,
    /// Closed while waiting, to make room for another one.
    pub(super) evicted: u64,
}

pub(super) struct Client {
    /// Its address.
    pub(super) from: IpAddr,
    /// Authenticated by a password or a certificate: the last to leave.
    is_known: AtomicBool,
    /// Since when we wait for a whole request; `None` while one is being answered.
    waited_for: Mutex<Option<Instant>>,
    evicted: Notify,
}

/// A taken slot. Dropping it gives it back.
pub(super) struct ConnectionSlot {
    id: u64,
    slots: Arc<ConnectionSlots>,
    pub(super) client: Arc<Client>,
}

impl ConnectionSlots {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self {
            limit,
            state: Mutex::default(),
        })
    }

    /// Takes a slot for a client at an address, from another connection if necessary.
    pub(super) fn acquire(self: &Arc<Self>, from: IpAddr) -> Option<ConnectionSlot> {
        let mut state = self.state.lock();
        if state.taken.len() >= self.limit && !state.evict() {
            state.counts.rejected += 1;
            state.warn_full(self.limit);
            return None;
        }
        let id = state.next;
        state.next += 1;
        let client = Arc::new(Client {
            from,
            is_known: AtomicBool::new(false),
            waited_for: Mutex::new(Some(Instant::now())),
            evicted: Notify::new(),
        });
        state.taken.insert(id, Arc::clone(&client));
        state.peak = state.peak.max(state.taken.len());
        if state.counts != ConnectionCounts::default() {
            state.warn_full(self.limit);
        }
        Some(ConnectionSlot {
            id,
            slots: Arc::clone(self),
            client,
        })
    }

    /// Returns the counts so far.
    pub(super) fn counts(&self) -> ConnectionCounts {
        self.state.lock().counts
    }
}

impl SlotsState {
    /// Makes room, if a connection only waits.
    fn evict(&mut self) -> bool {
        let longest = self
            .taken
            .iter()
            .filter_map(|(&id, client)| {
                let is_known = client.is_known.load(Ordering::Relaxed);
                Some((is_known, client.waiting_since()?, id))
            })
            .min();
        let Some((_, _, id)) = longest else {
            return false;
        };
        if let Some(client) = self.taken.remove(&id) {
            client.evicted.notify_one();
        }
        self.counts.evicted += 1;
        true
    }

    /// Logs that there is no room, at most once per interval.
    fn warn_full(&mut self, limit: usize) {
        let is_full = self.taken.len() >= limit;
        if !is_full || !self.warnings.is_allowed(clock::monotonic_ns()) {
            return;
        }
        let ConnectionCounts { rejected, evicted } = self.counts;
        tracing::warn!(
            "all {limit} web connections are in use: {evicted} that waited were closed for newer ones so far, \
             {rejected} new ones turned away"
        );
    }
}

impl Client {
    /// The client is authenticated.
    pub(super) fn set_known(&self) {
        self.is_known.store(true, Ordering::Relaxed);
    }

    /// A request is being answered.
    pub(super) fn begin_response(&self) {
        *self.waited_for.lock() = None;
    }

    /// The response is sent: the next request is the client's turn.
    pub(super) fn begin_wait(&self) {
        *self.waited_for.lock() = Some(Instant::now());
    }

    /// Returns since when its request is waited for; `None` while one is being answered.
    pub(super) fn waiting_since(&self) -> Option<Instant> {
        *self.waited_for.lock()
    }

    /// Waits until it has lost its slot.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let mut state = self.slots.state.lock();
        state.taken.remove(&self.id);
        let left = state.taken.len();
        let was_a_flood = state.peak >= FLOOD && left <= state.peak / 8;
        if was_a_flood {
            state.peak = left;
        }
        drop(state);
        if was_a_flood {
            give_memory_back();
        }
    }
}

/// Gives memory that connections have left behind back to the kernel: glibc would keep it.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches free memory only.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn stays(slot: &ConnectionSlot) -> bool {
        let evicted = std::pin::pin!(slot.client.evicted());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        evicted.poll(&mut context).is_pending()
    }

    #[tokio::test(start_paused = true)]
    async fn the_client_idle_for_longest_is_evicted() {
        let slots = ConnectionSlots::new(3);
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(slots.acquire(HERE).expect("a slot"));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        held[0].client.begin_response();
        held[0].client.begin_wait();
        held[1].client.begin_response();
        let new = slots.acquire(HERE).expect("a slot");
        let stay: Vec<_> = held.iter().map(stays).collect();
        assert_eq!(stay, [true, true, false]);
        let counts = ConnectionCounts {
            evicted: 1,
            rejected: 0,
        };
        assert_eq!(slots.counts(), counts);
        drop(held.pop());
        new.client.begin_response();
        held[0].client.begin_response();
        assert!(slots.acquire(HERE).is_none());
        assert_eq!(
            slots.counts(),
            ConnectionCounts {
                rejected: 1,
                ..counts
            }
        );
        drop(new);
        assert!(slots.acquire(HERE).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_clients_are_evicted_before_authenticated_ones() {
        let slots = ConnectionSlots::new(2);
        let known = slots.acquire(HERE).expect("a slot");
        known.client.set_known();
        let mut strangers = Vec::new();
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(1)).await;
            strangers.push(slots.acquire(HERE).expect("a slot"));
        }
        assert!(stays(&known));
    }
}
