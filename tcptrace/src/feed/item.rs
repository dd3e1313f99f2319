//! What a feed consists of: the same from the kernel and from a file.

use super::{event::Event, names::Name};

/// What the tracker is fed with, in true order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Something happened.
    Event(Event),
    /// The name of something that the next event may tell by its number.
    Name(Name),
    /// Events were lost, somewhere since the last [`Item::Time`].
    Loss {
        /// How many.
        events: u64,
        /// Where.
        place: LossPlace,
    },
    /// Everything that happened before this moment of the events' clock, nanoseconds, has been
    /// told, and what was lost of it too.
    Time(u64),
}

/// Where events are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPlace {
    /// The ring was full.
    Ring,
    /// The kernel skipped the program.
    Kernel,
    /// What the ring held was no event.
    Decode,
    /// A capture could not be written as fast as they came.
    Capture,
}

impl LossPlace {
    /// Every place, in their order.
    pub const ALL: [Self; 4] = [Self::Ring, Self::Kernel, Self::Decode, Self::Capture];

    /// As printed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Kernel => "kernel",
            Self::Decode => "decode",
            Self::Capture => "capture",
        }
    }
}
