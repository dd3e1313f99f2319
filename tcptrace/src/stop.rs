//! When to stop: SIGINT, SIGTERM and SIGHUP, a time that is over, or anyone who holds a [`Stop`].
//!
//! Signals are taken by a thread of their own, so that they count at every moment: while the
//! program starts (it may hang in an open() or read BTF), while it works through a full ring, and
//! while it waits for a reader. What a signal means depends on how far the program is:
//!
//! ```text
//! Starting  ── signal ──► ends at once, status 0: nothing was traced
//! Tracing   ── signal ──► stops in order
//! Stopping  ── signal ──► ends at once, status 128 + signal
//! ```
//!
//! For a program that reads its settings again, SIGHUP asks for that and for nothing else.

use std::{
    io, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};
use tokio::sync::watch;

use crate::{privileges, worker};

/// A way to stop, and to learn of it.
#[derive(Clone, Debug)]
pub struct Stop {
    requested: watch::Sender<bool>,
    tracing: Arc<AtomicBool>,
    /// How many times SIGHUP came; it reloads the settings if `reloads` is set.
    hangups: watch::Sender<u64>,
    reloads: Arc<AtomicBool>,
}

impl Stop {
    /// Takes over the process's signals. Must be called before any other thread starts: existing
    /// threads would still die of them.
    pub fn on_signals() -> anyhow::Result<Self> {
        let mut signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
        if !is_ignored(Signal::SIGHUP) {
            signals.add(Signal::SIGHUP);
        }
        signals.thread_block().context("blocking signals")?;
        let stop = Self {
            requested: watch::Sender::new(false),
            tracing: Arc::default(),
            hangups: watch::Sender::default(),
            reloads: Arc::default(),
        };
        let taker = stop.clone();
        worker::spawn("signals", move || {
            if let Err(error) = privileges::give_up_all() {
                tracing::debug!("the thread that takes signals keeps privileges: {error:#}");
            }
            // It cannot fail with signals that exist.
            while let Ok(signal) = signals.wait() {
                taker.handle(signal);
            }
        })
        .context("starting the thread that takes signals")?;
        Ok(stop)
    }

    fn handle(&self, signal: Signal) {
        if signal == Signal::SIGHUP && self.reloads.load(Ordering::Relaxed) {
            self.hangups.send_modify(|count| *count += 1);
            return;
        }
        if !self.tracing.load(Ordering::Relaxed) {
            process::exit(0);
        }
        if self.requested.send_replace(true) {
            process::exit(128 + signal as i32);
        }
    }

    /// Tracing begins: from now on a signal asks to stop in order.
    pub fn begin_tracing(&self) {
        self.tracing.store(true, Ordering::Relaxed);
    }

    pub fn request(&self) {
        self.requested.send_replace(true);
    }

    /// Returns a flag that becomes true when it is time to stop.
    pub fn requested(&self) -> watch::Receiver<bool> {
        self.requested.subscribe()
    }

    /// From now on SIGHUP does not stop the program: each one changes the returned value.
    pub fn reloads(&self) -> watch::Receiver<u64> {
        self.reloads.store(true, Ordering::Relaxed);
        self.hangups.subscribe()
    }

    /// Asks to stop after a time, if given. Must be called within a runtime.
    pub fn after(&self, time: Option<Duration>) {
        if let Some(time) = time {
            let stop = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(time).await;
                stop.request();
            });
        }
    }
}

/// Whether the signal is ignored, as `nohup` arranges.
fn is_ignored(signal: Signal) -> bool {
    let ignored = || -> io::Result<Option<u64>> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        Ok(mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()))
    };
    // Without /proc it counts as not ignored, the usual case.
    let mask = ignored().ok().flatten().unwrap_or(0);
    mask & (1 << (signal as u32 - 1)) != 0
}
