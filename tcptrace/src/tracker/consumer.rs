//! Who is told what the tracker says.

use std::ops::ControlFlow;

use super::{engine::Tracker, update::Update};
use crate::clock::ClockReading;

/// Takes what the tracker says, batch by batch.
pub trait Consumer {
    /// Items are about to come; `now` is what the clocks say.
    fn begin_batch(&mut self, now: ClockReading);

    /// What the tracker says of an item.
    fn update(&mut self, update: &Update);

    /// All that happened before this moment of the events' clock, nanoseconds, was told, by this tracker.
    fn settled(&mut self, _known_ns: u64, _tracker: &Tracker) {}

    /// What was there before is known, to this tracker, for the first time.
    fn seeded(&mut self, _tracker: &Tracker) {}

    /// When it has something to do next, whatever happens.
    fn due_ns(&self) -> Option<u64> {
        None
    }

    /// That was it for now. `Break` ends the trace.
    fn end_batch(&mut self) -> ControlFlow<()>;
}
