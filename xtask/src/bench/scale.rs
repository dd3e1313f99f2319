//! A daemon with many open connections: a scrape, a poll of the kernel's tables, and the start.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench, least, median, most,
    page::{Table, machine},
    subject::{Running, Subject},
};

/// Open connections as tcptrace counts them: both ends of each are on this host.
const OPEN: u32 = 100_000;
const SCRAPES: u32 = 50;
/// How long a daemon polls.
const WATCHED: Duration = Duration::from_secs(10);

/// Numbers of one daemon, by round.
#[derive(Default)]
struct Numbers {
    ready_ms: Vec<f64>,
    scrape_ms: Vec<f64>,
    scrape_cpu_ms: Vec<f64>,
    poll_cpu_ms: Vec<f64>,
    memory: Vec<f64>,
}

pub(super) fn measure(bench: &Bench) -> Result<String> {
    let daemons: Vec<_> = Subject::all(bench)
        .into_iter()
        .filter(|(_, subject)| matches!(subject, Subject::Daemon(_)))
        .collect();
    let held = Held::new(bench)?;
    let mut numbers: Vec<Numbers> = daemons.iter().map(|_| Numbers::default()).collect();
    for round in 1..=bench.rounds {
        eprintln!("round {round} of {}", bench.rounds);
        for ((_, daemon), numbers) in daemons.iter().zip(&mut numbers) {
            let resting = watch(bench, daemon, "off", numbers)?;
            let polling = watch(bench, daemon, "1s", numbers)?;
            ensure!(polling.polls > 1.0, "the daemon did not poll");
            numbers
                .poll_cpu_ms
                .push((polling.cpu_ms - resting.cpu_ms) / polling.polls);
        }
    }
    held.end()?;
    let mut table = Table::new(&[
        "",
        "start to ready",
        "a scrape",
        "processor a scrape",
        "processor a poll",
        "memory",
    ]);
    let shown = |values: &[f64]| {
        format!(
            "{:.1} ms ({:.1} to {:.1})",
            median(values),
            least(values),
            most(values)
        )
    };
    for ((name, _), numbers) in daemons.iter().zip(&numbers) {
        table.row([
            name.clone(),
            shown(&numbers.ready_ms),
            shown(&numbers.scrape_ms),
            shown(&numbers.scrape_cpu_ms),
            shown(&numbers.poll_cpu_ms),
            format!("{:.1} MiB", median(&numbers.memory)),
        ]);
    }
    Ok(format!(
        "## With {OPEN} open connections\n\n{}.\nBoth ends of {} connections in one network namespace, open before the daemon \
         starts; medians of {} rounds (least to\nmost). A poll reads the kernel's tables (`--poll-interval`): what a daemon \
         that polls each second uses more than one\nthat does not, for each poll. Memory: anonymous.\n\n{}",
        machine(),
        OPEN / 2,
        bench.rounds,
        table.finish(),
    ))
}

/// What a daemon did while it was watched.
struct Watched {
    cpu_ms: f64,
    polls: f64,
}

fn watch(
    bench: &Bench,
    daemon: &Subject,
    interval: &str,
    numbers: &mut Numbers,
) -> Result<Watched> {
    let start = Instant::now();
    let running = daemon.start_with(bench, &["--poll-interval", interval])?;
    numbers.ready_ms.push(start.elapsed().as_secs_f64() * 1e3);
    while running.metric("tcptrace_connections")? < f64::from(OPEN) {
        ensure!(
            start.elapsed() < Duration::from_secs(60),
            "the daemon does not find the open connections"
        );
        thread::sleep(Duration::from_millis(100));
    }
    // What the start left to do.
    thread::sleep(Duration::from_secs(2));
    if interval == "off" {
        let before = running.cost()?;
        let start = Instant::now();
        for _ in 0..SCRAPES {
            running.get("/metrics")?;
        }
        let each = |total: f64| total * 1e3 / f64::from(SCRAPES);
        numbers.scrape_ms.push(each(start.elapsed().as_secs_f64()));
        let after = running.cost()?;
        numbers.scrape_cpu_ms.push(each(after.cpu_s - before.cpu_s));
        numbers
            .memory
            .push(after.anonymous_bytes / f64::from(1 << 20));
    }
    let watched = watch_polls(&running)?;
    running.stop()?;
    Ok(watched)
}

fn watch_polls(running: &Running) -> Result<Watched> {
    let before = running.cost()?;
    let start = Instant::now();
    let mut polls = 0.0;
    let mut last = None;
    while start.elapsed() < WATCHED {
        let polled = running.metric("tcptrace_kernel_poll_timestamp_seconds")?;
        if last.is_some_and(|last| last != polled) {
            polls += 1.0;
        }
        last = Some(polled);
        thread::sleep(Duration::from_millis(200));
    }
    let after = running.cost()?;
    Ok(Watched {
        cpu_ms: (after.cpu_s - before.cpu_s) * 1e3,
        polls,
    })
}

/// The connections, held by the load generator.
struct Held(Child);

impl Held {
    fn new(bench: &Bench) -> Result<Self> {
        let mut child = bench
            .load
            .command(&["hold", &(OPEN / 2).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run the load generator")?;
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().context("no output")?).read_line(&mut line)?;
        ensure!(!line.is_empty(), "the connections could not be opened");
        Ok(Self(child))
    }

    fn end(mut self) -> Result<()> {
        drop(self.0.stdin.take());
        self.0.wait()?;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}
