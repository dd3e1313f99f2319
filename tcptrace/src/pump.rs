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

/// Events taken before requests and the stop are looked at.
pub const BATCH: usize = 1 << 16;
/// How long it rests after a batch.
pub const REST: Duration = Duration::from_millis(5);
/// How long it sleeps when nothing happens: a notification that never came costs no more.
pub const IDLE: Duration = Duration::from_secs(1);

/// What empties the ring.
pub trait Drain {
    /// The ring's descriptor, readable when events wait.
    fn ring(&self) -> BorrowedFd<'_>;

    /// Takes what waits, [`BATCH`] at the most, and answers how many events that were. `Break`
    /// ends it all.
    fn drain(&mut self) -> (usize, ControlFlow<()>);

    /// How long nothing need be done, [`IDLE`] at the most.
    fn idle(&self) -> Duration;

    /// The end: whatever waits is brought to one.
    fn finish(&mut self);
}

/// Drains until `stop` says so or the drain itself has enough, answering requests in between;
/// then empties the ring once more and finishes.
///
/// `next` waits for the next request and must be cancel safe; `None` says there will be none.
///
/// # Errors
///
/// When the ring's descriptor cannot be waited for.
pub async fn pump<D: Drain, R>(
    drain: &mut D,
    mut stop: watch::Receiver<bool>,
    mut next: impl AsyncFnMut() -> Option<R>,
    mut answer: impl FnMut(&mut D, R),
) -> io::Result<()> {
    let ring: OwnedFd = drain.ring().try_clone_to_owned()?;
    // SAFETY: an OwnedFd answers with the one descriptor it keeps open until it is dropped.
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
    while drain.drain().0 == BATCH {}
    drain.finish();
    Ok(())
}

/// Starts a runtime of one thread in which SIGINT and SIGTERM are a stop. Called before anybody can
/// see that the program runs: a stop that comes early is a stop all the same.
///
/// # Errors
///
/// When the runtime cannot be started, or the signals cannot be listened for.
pub fn start() -> anyhow::Result<(Runtime, watch::Sender<bool>, watch::Receiver<bool>)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let (stop, stopped) = watch::channel(false);
    {
        let _inside = runtime.enter();
        stop_on_signals(stop.clone()).context("listening for signals")?;
    }
    Ok((runtime, stop, stopped))
}

/// Turns SIGINT and SIGTERM into a stop.
fn stop_on_signals(stop: watch::Sender<bool>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            () = stop.closed() => {}
        }
        stop.send_replace(true);
    });
    Ok(())
}

/// Stops after a time, if there is one.
pub fn stop_after(stop: watch::Sender<bool>, time: Option<Duration>) {
    if let Some(time) = time {
        tokio::spawn(async move {
            sleep(time).await;
            stop.send_replace(true);
        });
    }
}
