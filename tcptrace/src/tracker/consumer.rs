//! The interface between the tracker and what uses its updates.

use std::ops::ControlFlow;

use super::{engine::Tracker, update::Update};
use crate::clock::ClockReading;

/// Takes the tracker's updates, batch by batch.
pub trait Consumer {
    /// Items follow; `now` is the clocks' reading.
    fn begin_batch(&mut self, now: ClockReading);

    /// Takes an update.
    fn update(&mut self, update: &Update);

    /// Everything before `known_ns` of the events' clock was reported.
    fn settled(&mut self, _known_ns: u64, _tracker: &Tracker) {}

    /// The sockets that existed before the trace are known.
    fn seeded(&mut self, _tracker: &Tracker) {}

    /// Returns when it next has something to do, whatever happens.
    fn due_ns(&self) -> Option<u64> {
        None
    }

    /// Ends a batch. `Break` ends the trace.
    fn end_batch(&mut self) -> ControlFlow<()>;
}
