//! One tail that sees every scenario's namespace, and each scenario's share of what it says.
//!
//! A tail for each scenario would spend most of the suite's time on loading programs.

use std::{
    collections::HashMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;

use crate::support::{
    Deadline, PATIENCE,
    namespace::Namespace,
    program::{Line, Running, tcptrace},
    record::{Record, Records},
    sentinel,
};

/// Between two looks at whether it is over.
const PAUSE: Duration = Duration::from_millis(50);
/// How long to wait for what may have been lost.
const LOSS_PATIENCE: Duration = Duration::from_secs(2);
/// Room for whatever else the host does meanwhile.
pub(super) const RING_SIZE: &str = "32MiB";
/// What becomes of a sentinel: both of its sides end with a record.
const SIDES: usize = 2;

/// The tail.
pub(super) struct Observatory {
    seen: Arc<Seen>,
    over: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

/// What the tail has said.
#[derive(Default)]
struct Seen {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    by_namespace: HashMap<u32, Vec<Record>>,
    /// What is said of losses, in whatever namespace.
    losses: Vec<Record>,
    /// Why nothing more can be relied on.
    trouble: Option<String>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, line: &str) -> anyhow::Result<()> {
        let record = Record::parse(line)?;
        let mut said = self.lock();
        // A connection whose beginning was lost may be in no namespace that is known.
        let Some(netns) = record.number("netns") else {
            said.losses.push(record);
            return Ok(());
        };
        let records = said.by_namespace.entry(netns.try_into()?).or_default();
        records.push(record);
        Ok(())
    }

    fn trouble(&self, what: String) {
        self.lock().trouble.get_or_insert(what);
        self.more.notify_all();
    }
}

impl Observatory {
    /// Starts a tail of these namespaces and waits until it sees them.
    pub(super) fn start(namespaces: &[Namespace]) -> anyhow::Result<Self> {
        // Nothing happens in it but what tells that the tail is attached.
        let lobby = Namespace::new()?;
        let inodes: Vec<_> = namespaces
            .iter()
            .chain([&lobby])
            .map(|namespace| namespace.inode().to_string())
            .collect();
        let running = Running::start(&mut tcptrace(&[
            "tail",
            "--ring-size",
            RING_SIZE,
            "--format",
            "json",
            "--show",
            "transitions,handshakes,connections,releases",
            "--netns",
            &inodes.join(","),
        ]))?;
        let seen = Arc::new(Seen::default());
        let over = Arc::new(AtomicBool::new(false));
        let reader = {
            let (seen, over) = (Arc::clone(&seen), Arc::clone(&over));
            thread::spawn(move || read(running, &seen, &over))
        };
        let observatory = Self {
            seen,
            over,
            reader: Some(reader),
        };
        let deadline = Deadline::after(PATIENCE);
        let mut watch = observatory.watch(&lobby);
        while watch.records()?.0.is_empty() {
            ensure!(!deadline.is_over(), "the tail shows nothing");
            watch.ring()?;
            thread::sleep(PAUSE);
        }
        Ok(observatory)
    }

    /// How often something was lost.
    pub(super) fn losses(&self) -> usize {
        self.seen.lock().losses.len()
    }

    /// One namespace's share.
    pub(super) fn watch(&self, namespace: &Namespace) -> Watch {
        Watch {
            seen: Arc::clone(&self.seen),
            namespace: namespace.clone(),
            losses_before: self.seen.lock().losses.len(),
            rung: 0,
        }
    }
}

impl Drop for Observatory {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            // A reader that panicked left its trouble to the scenarios.
            drop(reader.join());
        }
    }
}

/// Reads all that the tail says, until it is over.
fn read(mut running: Running, seen: &Seen, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        match running.line(PAUSE) {
            Line::Text(line) => match seen.take(&line) {
                Ok(()) => seen.more.notify_all(),
                Err(error) => seen.trouble(format!("{error:#}")),
            },
            Line::Silence => {}
            Line::End => {
                seen.trouble(format!("the tail has ended: {:?}", running.wait()));
                return;
            }
        }
    }
    let ended = running
        .signal(Signal::SIGINT)
        .and_then(|()| running.wait())
        .and_then(|output| output.must_end_with(0));
    if let Err(error) = ended {
        eprintln!("the tail of the scenarios did not end well: {error:#}");
    }
}

/// What the tail says of one namespace.
pub(super) struct Watch {
    seen: Arc<Seen>,
    namespace: Namespace,
    losses_before: usize,
    /// How many records sentinels will have left.
    rung: usize,
}

impl Watch {
    /// Has sentinels tell that what happened until now has been said.
    fn ring(&mut self) -> anyhow::Result<()> {
        let sentinel = self.namespace.sentinel();
        self.namespace
            .run(|| sentinel.ring().context("a sentinel"))?;
        self.rung += SIDES * (1 + usize::from(sentinel.has_ipv6()));
        Ok(())
    }

    /// All that has been said.
    fn records(&self) -> anyhow::Result<Records> {
        self.wait_for("nothing", |_| true)
    }

    /// Waits until the records fulfil a condition, the sentinels' among them.
    fn wait_for(
        &self,
        what: &str,
        fulfilled: impl Fn(&[Record]) -> bool,
    ) -> anyhow::Result<Records> {
        let (deadline, early) = (Deadline::after(PATIENCE), Deadline::after(LOSS_PATIENCE));
        let mut said = self.seen.lock();
        loop {
            if let Some(trouble) = &said.trouble {
                bail!("{trouble}");
            }
            let records = said.by_namespace.get(&self.namespace.inode());
            let records = records.map_or(&[][..], Vec::as_slice);
            if fulfilled(records) {
                return Ok(Records(records.to_vec()));
            }
            let lost = &said.losses[self.losses_before..];
            if deadline.is_over() || !lost.is_empty() && early.is_over() {
                let lost: Vec<_> = lost.iter().map(Record::to_string).collect();
                let own = Self::own(Records(records.to_vec()));
                bail!("waited in vain for {what}; lost was {lost:?}; there were:\n{own}");
            }
            said = self
                .seen
                .more
                .wait_timeout(said, PAUSE)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Without the sentinels'.
    fn own(mut records: Records) -> Records {
        records.0.retain(|record| !sentinel::is_in(record));
        records
    }

    /// Waits until the scenario's own records fulfil a condition.
    pub(super) fn wait_own(
        &self,
        what: &str,
        fulfilled: impl Fn(&Records) -> bool,
    ) -> anyhow::Result<()> {
        self.wait_for(what, |records| {
            fulfilled(&Self::own(Records(records.to_vec())))
        })
        .map(drop)
    }

    /// All of the scenario's own records until now. What closed just now has its record too: the
    /// sentinels close after it, and records come in the order of their closes.
    pub(super) fn settled(&mut self) -> anyhow::Result<Records> {
        self.ring()?;
        let records = self.wait_for("the sentinels", |records| {
            let ended = |record: &&Record| record.is("connection") && sentinel::is_in(record);
            records.iter().filter(ended).count() >= self.rung
        })?;
        Ok(Self::own(records))
    }
}
