//! Stopping while the ring is full.

use std::os::fd::{AsFd, OwnedFd};

use super::*;

/// A ring that never gets empty while something fills it.
struct Flood {
    readable: OwnedFd,
    attached: bool,
    /// Transitions are told.
    traces: bool,
    /// Events that were there when it was detached.
    waiting: usize,
    /// Drained since.
    drained: usize,
    /// The consumer has enough after so many.
    enough: usize,
    finished: bool,
}

const MOST: usize = 5 * BATCH / 2;

impl Flood {
    fn new(waiting: usize, enough: usize) -> Self {
        Self {
            readable: io::pipe().expect("a pipe").0.into(),
            attached: true,
            traces: true,
            waiting,
            drained: 0,
            enough,
            finished: false,
        }
    }
}

impl Drain for Flood {
    fn ring(&self) -> BorrowedFd<'_> {
        self.readable.as_fd()
    }

    fn drain(&mut self) -> (usize, ControlFlow<()>) {
        assert!(!self.traces, "it drains on while transitions fill the ring");
        let taken = BATCH.min(self.waiting);
        self.waiting -= taken;
        self.drained += taken;
        let flow = if self.drained >= self.enough {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        };
        (taken, flow)
    }

    fn detach_transitions(&mut self) {
        self.traces = false;
    }

    fn detach(&mut self) {
        assert!(!self.traces, "transitions go on without what follows them");
        self.attached = false;
    }

    fn most_waiting(&self) -> usize {
        MOST
    }

    fn idle(&self) -> Duration {
        IDLE
    }

    fn finish(&mut self) {
        self.finished = true;
    }
}

fn stopped(mut flood: Flood) -> Flood {
    let (_sender, stop) = watch::channel(true);
    let nobody = std::future::pending::<Option<()>>;
    runtime()
        .expect("a runtime")
        .block_on(pump(&mut flood, stop, nobody, |_, ()| {}))
        .expect("a pump");
    assert!(flood.finished);
    assert!(!flood.traces);
    flood
}

#[test]
fn a_stop_detaches_and_drains_what_waits() {
    let flood = stopped(Flood::new(MOST, usize::MAX));
    assert!(!flood.attached);
    assert_eq!(flood.waiting, 0);
}

#[test]
fn a_stop_drains_no_more_than_the_ring_can_hold() {
    let flood = stopped(Flood::new(usize::MAX, usize::MAX));
    // Once for what waits, and once for what comes while the other hooks stay.
    assert_eq!(flood.drained, 2 * 3 * BATCH);
}

#[test]
fn a_consumer_that_has_enough_ends_the_last_drain() {
    assert_eq!(stopped(Flood::new(MOST, 1)).drained, BATCH);
}
