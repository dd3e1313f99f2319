//! A daemon at rest, and how long it takes to start.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Bench, least, median, most,
    page::{Bound, Table, bounds, machine},
    subject::Subject,
};

const REST: Duration = Duration::from_secs(20);

pub(super) fn measure(bench: &Bench) -> Result<String> {
    let daemons: Vec<_> = Subject::all(bench)
        .into_iter()
        .filter(|(_, subject)| matches!(subject, Subject::Daemon(_)))
        .collect();
    let mut rows = vec![[const { Vec::new() }; 5]; daemons.len()];
    for round in 1..=bench.rounds {
        eprintln!("round {round} of {}", bench.rounds);
        for ((_, daemon), [ready, wake_ups, processor, memory, threads]) in
            daemons.iter().zip(&mut rows)
        {
            let start = Instant::now();
            let running = daemon.start(bench)?;
            ready.push(start.elapsed().as_secs_f64() * 1_000.0);
            // What the start left to do.
            thread::sleep(Duration::from_secs(2));
            let before = running.cost()?;
            thread::sleep(REST);
            let after = running.cost()?;
            let seconds = REST.as_secs_f64();
            wake_ups.push((after.switches - before.switches) / seconds);
            processor.push((after.cpu_s - before.cpu_s) / seconds * 60_000.0);
            memory.push(after.anonymous_bytes / f64::from(1 << 20));
            threads.push(after.threads);
            running.stop()?;
        }
    }
    let mut table = Table::new(&[
        "",
        "start to ready",
        "wake-ups a second",
        "processor a minute",
        "memory",
        "threads",
    ]);
    for ((name, _), row) in daemons.iter().zip(&rows) {
        let [ready, wake_ups, processor, memory, threads] = row;
        table.row([
            name.clone(),
            format!(
                "{:.0} ms ({:.0} to {:.0})",
                median(ready),
                least(ready),
                most(ready)
            ),
            format!("{:.1}", median(wake_ups)),
            format!("{:.0} ms", median(processor)),
            format!("{:.1} MiB", median(memory)),
            format!("{:.0}", median(threads)),
        ]);
    }
    let [ready, wake_ups, _, memory, _] = &rows[0];
    let kept = [
        Bound {
            what: "ready within 150 ms",
            measured: format!("{:.0} ms", median(ready)),
            holds: median(ready) <= 150.0,
        },
        Bound {
            what: "at most 2 wake-ups a second",
            measured: format!("{:.1}", median(wake_ups)),
            holds: median(wake_ups) <= 2.0,
        },
        Bound {
            what: "at most 8 MiB of anonymous memory",
            measured: format!("{:.1} MiB", median(memory)),
            holds: median(memory) <= 8.0,
        },
    ];
    Ok(format!(
        "## At rest\n\n{}.\nA daemon without traffic for {} s; medians of {} rounds (least to most). Wake-ups: voluntary \
         context switches of all\nthreads. Memory: anonymous.\n\n{}\n{}",
        machine(),
        REST.as_secs(),
        bench.rounds,
        table.finish(),
        bounds(&kept)
    ))
}
