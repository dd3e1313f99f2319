//! Nanoseconds a run of each program, by the kernel's own statistics.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use super::{
    Bench, median,
    page::{Bound, Table, bounds, machine},
    subject::Subject,
};

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";
const COUNT: &str = "20000";

/// A program's runs: nanoseconds of one, and how many in each call.
#[derive(Default)]
struct Runs {
    ns: Vec<f64>,
    each: Vec<f64>,
}

/// The kernel's statistics, on until it is dropped.
struct Statistics(String);

impl Statistics {
    fn on() -> Result<Self> {
        let before = fs::read_to_string(STATISTICS).context(STATISTICS)?;
        fs::write(STATISTICS, "1").context(STATISTICS)?;
        Ok(Self(before))
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        if let Err(error) = fs::write(STATISTICS, self.0.trim()) {
            eprintln!("{STATISTICS} is still on: {error}");
        }
    }
}

pub(super) fn measure(bench: &Bench) -> Result<String> {
    let _on = Statistics::on()?;
    let mut floors = Vec::new();
    let mut programs: BTreeMap<(String, &str), Runs> = BTreeMap::new();
    let daemons: Vec<_> = Subject::all(bench)
        .into_iter()
        .filter(|(_, subject)| matches!(subject, Subject::Daemon(_)))
        .collect();
    for round in 1..=bench.rounds {
        eprintln!("round {round} of {}", bench.rounds);
        let running = Subject::Empty.start(bench)?;
        bench.load.number(&["listen", COUNT], "each_ns")?;
        floors.push(running.empty_run_ns()?);
        for (name, daemon) in &daemons {
            let running = daemon.start(bench)?;
            for operation in ["listen", "refused"] {
                let before = running.program_runs()?;
                bench.load.number(&[operation, COUNT], "each_ns")?;
                for (program, (runs, ns)) in running.program_runs()? {
                    let (runs_before, ns_before) =
                        before.get(&program).copied().unwrap_or((0.0, 0.0));
                    let count = runs - runs_before;
                    if count < 100.0 {
                        continue;
                    }
                    let key = (format!("{program} ({name})"), operation);
                    let entry = programs.entry(key).or_default();
                    entry.ns.push((ns - ns_before) / count);
                    entry.each.push(count / COUNT.parse::<f64>()?);
                }
            }
            running.stop()?;
        }
    }
    let floor = median(&floors);
    let mut table = Table::new(&["program", "load", "runs each", "ns a run"]);
    for ((program, operation), runs) in &programs {
        table.row([
            program.clone(),
            (*operation).to_owned(),
            format!("{:.1}", median(&runs.each)),
            // Not -0.
            format!("{:.0}", (median(&runs.ns) - floor).round() + 0.0),
        ]);
    }
    let ns = |program: &str| {
        let key = (format!("{program} (tcptrace daemon)"), "refused");
        programs.get(&key).map(|runs| median(&runs.ns) - floor)
    };
    let mut kept = Vec::new();
    if let (Some(first), Some(second)) = (ns("set_state_btf"), ns("set_state_second")) {
        kept.push(Bound {
            what: "the second copy of set_state takes at most 15 % of the first",
            measured: format!("{second:.0} ns beside {first:.0} ns"),
            holds: second <= first * 0.15,
        });
    }
    Ok(format!(
        "## Programs\n\n{}.\nMedians of {} rounds by the kernel's statistics (`kernel.bpf_stats_enabled`). Their own cost, \
         {floor:.0} ns a run of an empty\nprogram, is taken off.\n\n{}\n{}",
        machine(),
        bench.rounds,
        table.finish(),
        bounds(&kept)
    ))
}
