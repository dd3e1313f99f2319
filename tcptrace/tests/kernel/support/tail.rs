//! `tcptrace tail --format json`, read line by line.

use std::{
    collections::{HashMap, HashSet},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;

use super::{
    Deadline, IN_VAIN, PATIENCE,
    namespace::Namespace,
    program::{Line, Output, Running, tcptrace},
    record::{Record, Records},
    sentinel,
};

/// Between two sentinels.
const PAUSE: Duration = Duration::from_millis(50);

/// A tail that sees a namespace. The sentinels' records are kept out of its records.
pub(crate) struct Tail {
    running: Running,
    records: Records,
    /// The ids of sentinels' connections.
    sentinels: HashSet<String>,
    /// How many of these have ended, by namespace.
    ended: HashMap<[Option<u64>; 2], usize>,
    /// It could not write its last line whole.
    is_killed: bool,
}

impl Tail {
    /// Of this namespace only.
    pub(crate) fn start(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<Self> {
        let inode = namespace.inode().to_string();
        let mut command = tcptrace(&["tail", "--format", "json", "--netns", &inode]);
        command.args(arguments);
        Self::start_as(namespace, &mut command)
    }

    /// As the command says, which must show JSON and the namespace's sentinels.
    pub(crate) fn start_as(namespace: &Namespace, command: &mut Command) -> anyhow::Result<Self> {
        Self::attach(namespace, Running::start(command)?)
    }

    /// Waits until a tail that was started sees the namespace.
    pub(crate) fn attach(namespace: &Namespace, running: Running) -> anyhow::Result<Self> {
        let mut tail = Self {
            running,
            records: Records::default(),
            sentinels: HashSet::new(),
            ended: HashMap::new(),
            is_killed: false,
        };
        let deadline = Deadline::after(PATIENCE);
        while tail.sentinels.is_empty() {
            namespace.run(|| namespace.sentinel().ring().context("a sentinel"))?;
            if !tail.take(PAUSE)? {
                let output = tail.running.wait()?;
                bail!("the tail ended before it showed anything: {output:?}");
            }
            ensure!(!deadline.is_over(), "the tail shows no sentinel");
        }
        Ok(tail)
    }

    /// Its process.
    pub(crate) fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Takes what comes within some time; `false` at the end of it all.
    pub(crate) fn take(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let mut patience = patience;
        loop {
            match self.running.line(patience) {
                Line::Text(line) => {
                    let record = Record::parse(&line)?;
                    self.sort_in(record);
                    // What is there already is taken with it.
                    patience = Duration::ZERO;
                }
                Line::Cut(line) => {
                    ensure!(self.is_killed, "a line has no end: {line}");
                }
                Line::Silence => return Ok(true),
                Line::End => return Ok(false),
            }
        }
    }

    /// Keeps a record unless it is a sentinel's. One that was under way when the tail began says
    /// so only at its end: its earlier rows know no port.
    fn sort_in(&mut self, record: Record) {
        let id = record.text("id").unwrap_or_default().to_owned();
        if sentinel::is_in(&record) {
            if record.is("connection") {
                *self.ended.entry(record.netns()).or_default() += 1;
            }
            if self.sentinels.insert(id.clone()) {
                let records = &mut self.records.0;
                records.retain(|other| other.text("id") != Some(&id));
            }
        } else if !self.sentinels.contains(&id) {
            self.records.0.push(record);
        }
    }

    /// How many sentinels' connections have ended in a namespace.
    pub(crate) fn ended_sentinels(&self, namespace: &Namespace) -> usize {
        self.ended.get(&namespace.id()).copied().unwrap_or(0)
    }

    /// The records that came, without a look at whether there are more.
    pub(crate) const fn records(&self) -> &Records {
        &self.records
    }

    /// The records that it has written.
    pub(crate) fn so_far(&mut self) -> anyhow::Result<&Records> {
        self.take(PAUSE)?;
        Ok(&self.records)
    }

    /// Waits until the records fulfil a condition.
    pub(crate) fn wait(
        &mut self,
        what: &str,
        fulfilled: impl Fn(&Records) -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Deadline::after(PATIENCE);
        while !fulfilled(&self.records) {
            ensure!(
                self.take(deadline.left().min(PAUSE))?,
                "the tail ended before: {what}"
            );
            ensure!(
                !deadline.is_over(),
                "waited {PATIENCE:?} {IN_VAIN}: {what}; there were:\n{}\nand it said: {}\n{}",
                self.records,
                self.running.complaints(),
                self.running.threads()
            );
        }
        Ok(())
    }

    /// Waits until so many records of a type came.
    pub(crate) fn wait_count(&mut self, kind: &str, count: usize) -> anyhow::Result<()> {
        self.wait(&format!("{count} of {kind}"), |records| {
            records.of(kind).len() >= count
        })
    }

    /// The tail, once so many records of a type came.
    pub(crate) fn after_count(mut self, kind: &str, count: usize) -> anyhow::Result<Self> {
        self.wait_count(kind, count)?;
        Ok(self)
    }

    /// Waits until so many sockets went to CLOSE, by their transitions.
    pub(crate) fn wait_closes(&mut self, count: usize) -> anyhow::Result<()> {
        self.wait(&format!("{count} transitions to CLOSE"), |records| {
            let closes = |record: &&Record| record.text("to") == Some("CLOSE");
            records.0.iter().filter(closes).count() >= count
        })
    }

    /// Interrupts it and takes all that it still wrote. Every event until now is in it.
    pub(crate) fn interrupt(self) -> anyhow::Result<(Records, Output)> {
        self.running.signal(Signal::SIGINT)?;
        self.end()
    }

    /// Kills it, and takes the lines that it had written whole.
    pub(crate) fn kill(mut self) -> anyhow::Result<Records> {
        self.running.signal(Signal::SIGKILL)?;
        self.is_killed = true;
        Ok(self.end()?.0)
    }

    /// Takes all that it still writes until it ends by itself.
    pub(crate) fn end(mut self) -> anyhow::Result<(Records, Output)> {
        let deadline = Deadline::after(PATIENCE);
        while self.take(PAUSE)? {
            ensure!(!deadline.is_over(), "the tail does not end");
        }
        let output = self.running.wait()?;
        Ok((self.records, output))
    }

    /// Interrupts it: it must end well, having lost nothing and complained of nothing.
    pub(crate) fn finish(self) -> anyhow::Result<Records> {
        let (records, output) = self.interrupt()?;
        output.must_end_with(0)?;
        let lines: Vec<_> = output.stderr.lines().collect();
        match lines[..] {
            [summary] if summary.ends_with(" 0 events lost") => Ok(records),
            _ => bail!("not just the summary on stderr: {:?}", output.stderr),
        }
    }

    /// As [`Tail::finish`], once so many connections have ended.
    pub(crate) fn finish_after(self, connections: usize) -> anyhow::Result<Records> {
        self.after_count("connection", connections)?.finish()
    }
}
