//! The loop that empties the ring: drain, rest a little so that one wake-up serves a batch, and
//! sleep until the kernel has something. Nothing it calls may wait for anybody.

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

/// Events taken before requests and the stop are looked at.
pub const BATCH: usize = 1 << 16;
/// How long it rests after a batch.
pub const REST: Duration = Duration::from_millis(5);
/// How long it sleeps when nothing happens: a notification that never came costs no more.
pub const IDLE: Duration = Duration::from_secs(1);

/// How long the other hooks stay once the transitions are detached: longer than what follows →CLOSE
/// takes, which [`GRACE_NS`] bounds, so that what they did not tell until then did not happen.
const AFTERMATH: Duration = Duration::from_nanos(GRACE_NS + GRACE_NS / 4);

/// What empties the ring.
pub trait Drain {
    /// The ring's descriptor, readable when events wait.
    fn ring(&self) -> BorrowedFd<'_>;

    /// Takes up to [`BATCH`] waiting events and returns how many. `Break` ends the trace.
    fn drain(&mut self) -> (usize, ControlFlow<()>);

    /// Stops the transitions; whatever else fills the ring goes on.
    fn detach_transitions(&mut self);

    /// Stops whatever fills the ring.
    fn detach(&mut self);

    /// How many events the ring can hold at most.
    fn most_waiting(&self) -> usize;

    /// How long it can sleep, at most [`IDLE`].
    fn idle(&self) -> Duration;

    /// Flushes what is pending at shutdown.
    fn finish(&mut self);
}

/// Drains until `stop` says so or the drain itself has enough, answering requests in between.
/// Then it detaches the transitions, waits for what can still follow the last of them, detaches the
/// rest, works through the at most one ring's worth of events that wait, and finishes.
///
/// `next` waits for the next request and must be cancel safe; `None` says there will be none.
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

/// Works through what the ring holds by now.
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

/// A runtime of one thread.
pub fn runtime() -> anyhow::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
}

#[cfg(test)]
#[path = "pump_tests.rs"]
mod tests;
