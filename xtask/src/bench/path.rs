//! What tracing adds to the application's own calls, and to the rate of its connections.

use anyhow::Result;

use super::{
    Bench, least, median, most,
    page::{Bound, Table, bounds, machine},
    subject::Subject,
};

/// Operations in a measurement.
const COUNT: &str = "20000";
const OPERATIONS: [&str; 2] = ["listen", "refused"];
/// The path is measured so many times as often: single measurements differ by more than a tracer
/// adds.
const PATH_ROUNDS: u32 = 5;
/// A measurement of the rate, seconds.
const SECONDS: &str = "3";

pub(super) fn measure(bench: &Bench) -> Result<String> {
    let subjects = Subject::all(bench);
    let mut times = vec![[const { Vec::new() }; OPERATIONS.len()]; subjects.len()];
    let rounds = bench.rounds * PATH_ROUNDS;
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for ((_, subject), times) in subjects.iter().zip(&mut times) {
            let running = subject.start(bench)?;
            for (operation, times) in OPERATIONS.iter().zip(times) {
                times.push(bench.load.number(&[operation, COUNT], "each_ns")? / 1_000.0);
            }
            running.stop()?;
        }
    }
    let mut table = Table::new(&["", "socket, listen, close", "refused connect"]);
    let base: Vec<f64> = times[0].iter().map(|times| least(times)).collect();
    let base_median: Vec<f64> = times[0].iter().map(|times| median(times)).collect();
    for (index, ((name, _), times)) in subjects.iter().zip(&times).enumerate() {
        let cells = times.iter().enumerate().map(|(operation, times)| {
            if index == 0 {
                return format!(
                    "{:.2} ({:.2} to {:.2}) µs",
                    median(times),
                    least(times),
                    most(times)
                );
            }
            let added = least(times) - base[operation];
            let added_median = median(times) - base_median[operation];
            format!("{added:+.2} ({added_median:+.2}) µs")
        });
        table.row([name.clone()].into_iter().chain(cells));
    }
    let added = |wanted: &str, operation: usize| {
        let index = subjects
            .iter()
            .position(|(name, _)| name.starts_with(wanted))?;
        Some(least(&times[index][operation]) - base[operation])
    };
    let mut kept = Vec::new();
    for (other, operation, ratio, what) in [
        (
            "tcpstates",
            0,
            60.0,
            "socket, listen, close: at most 1/60 of what tcpstates adds",
        ),
        (
            "tcplife",
            1,
            12.0,
            "a refused connect: at most 1/12 of what tcplife adds",
        ),
    ] {
        if let (Some(ours), Some(theirs)) =
            (added("tcptrace daemon", operation), added(other, operation))
        {
            kept.push(Bound {
                what,
                measured: format!("{ours:.2} µs beside {theirs:.2} µs"),
                holds: ours * ratio <= theirs,
            });
        }
    }
    Ok(format!(
        "## Time on the application's path\n\n{}.\n{} rounds, the subjects in turn in each. A measurement is {COUNT} calls on one \
         processor, and of them the quickest tenth.\nThe first row is the median (least to most). The others are what is added: \
         the difference of the least, and of the\nmedians.\n\n{}\n{}",
        machine(),
        rounds,
        table.finish(),
        bounds(&kept)
    ))
}

/// Connections a second with each subject.
pub(super) fn measure_rate(bench: &Bench) -> Result<String> {
    let subjects = Subject::all(bench);
    let mut rates = vec![Vec::new(); subjects.len()];
    let mut processor = vec![Vec::new(); subjects.len()];
    let mut memory = vec![Vec::new(); subjects.len()];
    let mut losses: Vec<Option<f64>> = vec![None; subjects.len()];
    for round in 1..=bench.rounds {
        eprintln!("round {round} of {}", bench.rounds);
        for (index, (_, subject)) in subjects.iter().enumerate() {
            let running = subject.start(bench)?;
            let before = running.cost()?;
            rates[index].push(bench.load.number(&["connections", SECONDS], "rate")?);
            let after = running.cost()?;
            let seconds: f64 = SECONDS.parse()?;
            processor[index].push((after.cpu_s - before.cpu_s) / seconds * 100.0);
            memory[index].push(after.anonymous_bytes / f64::from(1 << 20));
            let mut lost = match subject {
                Subject::Daemon(_) => Some(running.metric("tcptrace_events_lost_total")?),
                Subject::None | Subject::Empty | Subject::Tail(_) | Subject::Other(_) => None,
            };
            let said = running.stop()?;
            if matches!(subject, Subject::Tail(_) | Subject::Other(_)) {
                lost = Some(lost_events(&said));
            }
            if let Some(lost) = lost {
                *losses[index].get_or_insert(0.0) += lost;
            }
        }
    }
    let mut table = Table::new(&[
        "",
        "connections a second",
        "of untraced",
        "processor",
        "memory",
        "events lost",
    ]);
    let untraced = median(&rates[0]);
    for (index, (name, subject)) in subjects.iter().enumerate() {
        let traced = !matches!(subject, Subject::None | Subject::Empty);
        let rates = &rates[index];
        table.row([
            name.clone(),
            format!(
                "{:.0} ({:.0} to {:.0})",
                median(rates),
                least(rates),
                most(rates)
            ),
            format!("{:.0} %", median(rates) / untraced * 100.0),
            if traced {
                format!("{:.0} %", median(&processor[index]))
            } else {
                String::new()
            },
            if traced {
                format!("{:.1} MiB", median(&memory[index]))
            } else {
                String::new()
            },
            losses[index]
                .map(|lost| format!("{lost:.0}"))
                .unwrap_or_default(),
        ]);
    }
    let mut kept = Vec::new();
    for (wanted, share, what) in [
        (
            "tcptrace daemon",
            0.92,
            "the daemon keeps 92 % of the untraced rate and loses no event",
        ),
        (
            "tcptrace tail",
            0.85,
            "the tail keeps 85 % of the untraced rate and loses no event",
        ),
    ] {
        if let Some(index) = subjects
            .iter()
            .position(|(name, _)| name.starts_with(wanted))
        {
            let kept_share = median(&rates[index]) / untraced;
            let lost = losses[index].unwrap_or(0.0);
            kept.push(Bound {
                what,
                measured: format!("{:.0} %, {lost:.0} lost", kept_share * 100.0),
                holds: kept_share >= share && lost == 0.0,
            });
        }
    }
    Ok(format!(
        "## Rate\n\n{}.\nOn every processor a thread opens, accepts and closes connections over loopback as fast \
         as it can for {SECONDS} s.\n{} rounds in turn; medians (least to most). Processor: of one processor, user and \
         system. Memory: anonymous, at the end.\n\n{}\n{}",
        machine(),
        bench.rounds,
        table.finish(),
        bounds(&kept)
    ))
}

/// Returns the events that a tool says it lost: `12 events lost`, `lost 12 events`.
fn lost_events(said: &str) -> f64 {
    let words: Vec<&str> = said
        .split(|c: char| c.is_whitespace() || c == ',')
        .collect();
    let number = |word: &str| word.parse::<f64>().ok();
    words
        .windows(3)
        .filter_map(|words| match words {
            [count, "events", "lost"] | ["lost" | "Lost", count, "events"] => number(count),
            _ => None,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::lost_events;

    #[test]
    fn lost_events_are_read_from_what_tools_say() {
        assert_eq!(
            lost_events("3 connections seen, 1 failed, 12 events lost"),
            12.0
        );
        assert_eq!(
            lost_events("lost 5 events on CPU #1!\nlost 2 events on CPU #0!"),
            7.0
        );
        assert_eq!(lost_events(""), 0.0);
    }
}
