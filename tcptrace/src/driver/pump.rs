//! The loop that empties the ring: drain, rest a little so that one wake-up serves a batch, and
//! sleep until the kernel has something. Nothing it calls may block.

use std::{
    io,
    ops::ControlFlow,
    os::fd::{BorrowedFd, OwnedFd},
    time::Duration,
};

use anyhow::Context;
use tokio::{
    io::{Interest, unix::AsyncFd},
    runtime::Runtime,
    sync::watch,
    time::sleep,
};

use crate::tracker::GRACE_NS;

/// The most events taken before requests and the stop are checked.
pub const BATCH: usize = 1 << 16;
/// How long it rests after a batch.
pub const REST: Duration = Duration::from_millis(5);
/// The longest sleep: a notification that never came costs no more.
pub const IDLE: Duration = Duration::from_secs(2);

/// How long the other hooks stay once the transitions are detached: longer than what follows →CLOSE
/// takes, which [`GRACE_NS`] bounds, so that their silence is evidence.
const AFTERMATH: Duration = Duration::from_nanos(GRACE_NS + GRACE_NS / 4);

/// Empties the ring.
pub trait Drain {
    /// Returns the ring's descriptor, readable when events wait.
    fn ring(&self) -> BorrowedFd<'_>;

    /// Takes up to [`BATCH`] waiting events and returns how many. `Break` ends the trace.
    fn drain(&mut self) -> (usize, ControlFlow<()>);

    /// Stops the transitions; the other hooks go on.
    fn detach_transitions(&mut self);

    /// Stops every hook.
    fn detach(&mut self);

    /// Returns the most events that the ring can hold.
    fn most_waiting(&self) -> usize;

    /// Returns how long it can sleep, at most [`IDLE`].
    fn idle(&self) -> Duration;

    /// Flushes what is pending at shutdown.
    fn finish(&mut self);
}

/// Drains until `stop` is true or the drain ends the trace, answering requests in between. Then it
/// detaches the transitions, waits for what can still follow the last of them, detaches the rest,
/// takes the events that wait, at most one ring's worth, and finishes.
///
/// `next` waits for the next request and must be cancel safe; `None` means that none will follow.
pub async fn pump<D: Drain, R>(
    drain: &mut D,
    mut stop: watch::Receiver<bool>,
    mut next: impl AsyncFnMut() -> Option<R>,
    mut answer: impl FnMut(&mut D, R),
) -> io::Result<()> {
    let ring: OwnedFd = drain.ring().try_clone_to_owned()?;
    // SAFETY: an OwnedFd returns the one descriptor that it keeps open until it is dropped.
    let ring = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE)? };
    let mut asked = true;
    while !*stop.borrow() {
        let (taken, flow) = drain.drain();
        if flow.is_break() {
            drain.finish();
            return Ok(());
        }
        let idle = drain.idle();
        let rest = async {
            if taken == BATCH {
                tokio::task::yield_now().await;
                return Ok(());
            }
            if taken > 0 {
                sleep(REST).await;
            }
            tokio::select! {
                ready = ring.readable() => ready.map(|mut guard| guard.clear_ready()),
                () = sleep(idle) => Ok(()),
            }
        };
        tokio::select! {
            biased;
            stopped = stop.changed() => {
                if stopped.is_err() {
                    break;
                }
            }
            request = next(), if asked => match request {
                Some(request) => answer(drain, request),
                None => asked = false,
            },
            rested = rest => rested?,
        }
    }
    drain.detach_transitions();
    if empty(drain).is_continue() {
        sleep(AFTERMATH).await;
        drain.detach();
        if empty(drain).is_break() {
            tracing::debug!("the consumer had enough at the end");
        }
    }
    drain.finish();
    Ok(())
}

/// Takes what the ring holds now.
fn empty<D: Drain>(drain: &mut D) -> ControlFlow<()> {
    let mut left = drain.most_waiting();
    loop {
        let (taken, flow) = drain.drain();
        left = left.saturating_sub(taken);
        if flow.is_break() || taken < BATCH || left == 0 {
            return flow;
        }
    }
}

/// Returns a runtime of one thread.
pub fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
