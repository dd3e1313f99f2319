//! How long something took: for people, and to stop what hangs.

use std::time::{Duration, Instant};

/// Runs from when it was started.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts one.
    #[expect(
        clippy::disallowed_methods,
        reason = "the daemon's time comes in events; a virtual machine's comes from the clock"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// The time since.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
