//! One tail that sees every namespace, and each scenario's share of what it says.
//!
//! A tail for each scenario would spend most of the suite's time on loading programs.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context, bail};

use crate::support::{
    Deadline, PATIENCE,
    namespace::Namespace,
    program::tcptrace,
    record::{Record, Records},
    tail::Tail,
};

/// Between two looks at what came.
const PAUSE: Duration = Duration::from_millis(20);
/// How long to wait for what may have been lost.
const LOSS_PATIENCE: Duration = Duration::from_secs(2);
/// Room for whatever else the host does meanwhile.
pub(super) const RING_SIZE: &str = "32MiB";
/// What becomes of a sentinel: both of its sides end with a record.
const SIDES: usize = 2;

/// The tail, as long as it runs.
pub(super) struct SharedTail(Arc<Mutex<Option<Tail>>>);

impl SharedTail {
    /// Starts a tail of all namespaces and waits until it sees what happens in this one.
    pub(super) fn start(first_namespace: &Namespace) -> anyhow::Result<Self> {
        let mut command = tcptrace(&["tail", "--ring-size", RING_SIZE, "--format", "json"]);
        command.args(["--show", "transitions,handshakes,connections,releases"]);
        let tail = Tail::start_as(first_namespace, &mut command)?;
        Ok(Self(Arc::new(Mutex::new(Some(tail)))))
    }

    /// How often something was lost.
    pub(super) fn losses(&self) -> usize {
        lock(&self.0).as_ref().map_or(0, |tail| losses(tail).len())
    }

    /// One namespace's share.
    pub(super) fn watch(&self, namespace: &Namespace) -> Watch {
        Watch {
            tail: Arc::clone(&self.0),
            namespace: namespace.clone(),
            losses_before: self.losses(),
            rung: 0,
        }
    }
}

impl Drop for SharedTail {
    fn drop(&mut self) {
        let Some(tail) = lock(&self.0).take() else {
            return;
        };
        let ended = tail.interrupt();
        if let Err(error) = ended.and_then(|(_, output)| output.must_end_with(0)) {
            eprintln!("the tail of the scenarios did not end well: {error:#}");
        }
    }
}

fn lock(tail: &Mutex<Option<Tail>>) -> MutexGuard<'_, Option<Tail>> {
    tail.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is said of losses, in whatever namespace. A connection whose beginning was lost may be in
/// no namespace that is known.
fn losses(tail: &Tail) -> Vec<&Record> {
    let records = tail.records().0.iter();
    let of_none = |record: &&Record| record.number("netns").is_none();
    records.filter(of_none).collect()
}

/// What the tail says of one namespace.
pub(super) struct Watch {
    tail: Arc<Mutex<Option<Tail>>>,
    namespace: Namespace,
    losses_before: usize,
    /// How many records sentinels will have left.
    rung: usize,
}

impl Watch {
    /// Waits until the scenario's own records fulfil a condition, and so many of the sentinels'
    /// connections have ended.
    fn wait(
        &self,
        what: &str,
        ended: usize,
        fulfilled: impl Fn(&Records) -> bool,
    ) -> anyhow::Result<Records> {
        let (deadline, early) = (Deadline::after(PATIENCE), Deadline::after(LOSS_PATIENCE));
        loop {
            {
                let mut tail = lock(&self.tail);
                let tail = tail.as_mut().context("the tail is gone")?;
                if !tail.take(Duration::ZERO)? {
                    bail!("the tail has ended before: {what}");
                }
                let own = tail.records().0.iter();
                let own = own.filter(|record| record.is_in(&self.namespace));
                let own = Records(own.cloned().collect());
                if tail.ended_sentinels(&self.namespace) >= ended && fulfilled(&own) {
                    return Ok(own);
                }
                let lost = &losses(tail)[self.losses_before..];
                if deadline.is_over() || !lost.is_empty() && early.is_over() {
                    let lost: Vec<_> = lost.iter().map(ToString::to_string).collect();
                    bail!("waited in vain for {what}; lost was {lost:?}; there were:\n{own}");
                }
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until the scenario's own records fulfil a condition.
    pub(super) fn wait_own(
        &self,
        what: &str,
        fulfilled: impl Fn(&Records) -> bool,
    ) -> anyhow::Result<()> {
        self.wait(what, 0, fulfilled).map(drop)
    }

    /// All of the scenario's own records until now. What closed just now has its record too: the
    /// sentinels close after it, and records come in the order of their closes.
    pub(super) fn settled(&mut self) -> anyhow::Result<Records> {
        let sentinel = self.namespace.sentinel();
        let ring = || sentinel.ring().context("a sentinel");
        self.namespace.run(ring)?;
        self.rung += SIDES * (1 + usize::from(sentinel.has_ipv6()));
        self.wait("the sentinels", self.rung, |_| true)
    }
}
