//! The core that knows TCP: takes items, and returns what became of connections.
//!
//! Pure: no clock, no I/O, no aya, no tokio. A connection is (socket address, generation): the
//! kernel reuses an address within microseconds, so each CLOSE→SYN_SENT and LISTEN→SYN_RECV begins
//! a new one. Nothing is invented: an event whose old state is not the state held marks its
//! connection `gap`.
//!
//! [`Tracker::apply`] takes an item and returns what follows from it. A record depends on what was
//! lost as well, which is not known within a batch of events. So records are settled at an
//! [`Item::Time`] alone.

mod config;
mod connection;
mod connections;
mod connects;
mod consumer;
mod copies;
mod ended;
mod engine;
mod evidence;
mod handshake;
mod journal;
mod lifecycle;
mod listener;
mod listeners;
mod name_table;
mod reconcile;
mod stats;
mod store;
mod time_wait;
mod update;
mod verdict;
mod vocabulary;
mod walk;
mod without_process;

pub use self::{
    config::{GRACE_NS, ResetHooks, Sources, TrackerConfig},
    connection::Connection,
    consumer::Consumer,
    ended::Ended,
    engine::Tracker,
    lifecycle::{Step, is_synchronized},
    listener::Listener,
    stats::Snapshot,
    time_wait::{
        release::{Ownership, Release, ReleaseOutcome, TimeWaitSource},
        waiting::{Lookup, TimewaitStatus},
    },
    update::Update,
    verdict::{Verdict, errno},
    vocabulary::{ClosedBy, Completeness, HandshakeSource, Moment, Process, ProcessSource, Role},
    walk::{ListedSocket, SocketHolders, WalkEnd},
};
#[cfg(test)]
pub use self::{
    stats::TrackerStats,
    verdict::{Evidence, verdict},
    walk::Drift,
};
pub use crate::feed::item::{EventKind, EvidenceHook, Item, LossPlace};

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
