//! User space alone: captures replayed.

use std::{fs::File, path::PathBuf};

use anyhow::{Result, ensure};

use super::{
    Bench, least,
    load::number,
    median, most,
    page::{Bound, Table, bounds, machine},
};

/// Events in a capture.
const EVENTS: u64 = 2_000_000;
const LIVE: [u64; 3] = [10_000, 100_000, 1_000_000];
const FORMATS: [&str; 4] = ["json", "csv", "table", "diagram"];

pub(super) fn measure(bench: &Bench) -> Result<String> {
    let mut binaries = vec![("tcptrace".to_owned(), bench.tcptrace.clone())];
    if let Some(beside) = &bench.beside {
        binaries.push((beside.display().to_string(), beside.clone()));
    }
    let mut text = format!(
        "## User space\n\n{}.\nCaptures of {EVENTS} events and more, replayed; user time of all threads. Medians of {} rounds (least \
         to most).\n\n",
        machine(),
        bench.rounds
    );
    let mut kept = Vec::new();
    text.push_str(&events_a_second(bench, &binaries, &mut kept)?);
    text.push('\n');
    text.push_str(&rows_a_second(bench, &binaries, &mut kept)?);
    text.push('\n');
    text.push_str(&parts(bench)?);
    text.push('\n');
    text.push_str(&bounds(&kept));
    Ok(text)
}

/// Returns what each part takes by itself.
fn parts(bench: &Bench) -> Result<String> {
    const PARTS: [(&str, &str); 8] = [
        ("read", "reading an event from the file"),
        ("decode", "decoding an event"),
        ("track", "tracking an event's connection"),
        ("record", "making a connection's record"),
        ("json", "rendering it as JSON"),
        ("csv", "rendering it as CSV"),
        ("table", "rendering it as a row of the table"),
        ("diagram", "rendering it as a diagram"),
    ];
    let path = capture(bench, EVENTS, LIVE[0])?;
    let mut times = PARTS.map(|_| Vec::new());
    for _ in 0..bench.rounds {
        let measured = bench.load.parts(&path)?;
        for ((name, _), times) in PARTS.iter().zip(&mut times) {
            times.push(number(&measured, name)?);
        }
    }
    let mut table = Table::new(&["in one thread, without the others", "ns"]);
    for ((_, what), times) in PARTS.iter().zip(&times) {
        table.row([
            (*what).to_owned(),
            format!(
                "{:.0} ({:.0} to {:.0})",
                median(times),
                least(times),
                most(times)
            ),
        ]);
    }
    Ok(table.finish())
}

/// Writes a capture, as `count` events more than it takes until so many connections are open.
fn capture(bench: &Bench, count: u64, live: u64) -> Result<PathBuf> {
    let path = bench.scratch.join("events.cap");
    let count = (count + live * 3).to_string();
    let status = bench
        .load
        .command(&["events", &count, &live.to_string()])
        .stdout(File::create(&path)?)
        .status()?;
    ensure!(
        status.success(),
        "the events could not be written: {status}"
    );
    Ok(path)
}

fn events_a_second(
    bench: &Bench,
    binaries: &[(String, PathBuf)],
    kept: &mut Vec<Bound<'_>>,
) -> Result<String> {
    let mut table = Table::new(&[
        "nothing shown",
        "open connections",
        "events a second",
        "peak memory",
    ]);
    let mut memory = vec![Vec::new(); binaries.len()];
    let mut ours = Vec::new();
    for live in LIVE {
        let path = capture(bench, EVENTS, live)?;
        let events = EVENTS + live * 3;
        let mut times = vec![Vec::new(); binaries.len()];
        let mut peaks = vec![0.0; binaries.len()];
        for _ in 0..bench.rounds {
            for (index, (_, binary)) in binaries.iter().enumerate() {
                let arguments = ["replay", "-", "--failed", "--max-connections", "2000000"];
                let mut command = vec![binary.as_os_str()];
                command.extend(arguments.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
                let usage = bench.load.usage(&path, &command)?;
                times[index].push(events as f64 / usage.user_s);
                peaks[index] = usage.peak_bytes;
            }
        }
        for (index, (name, _)) in binaries.iter().enumerate() {
            memory[index].push(peaks[index]);
            let rates = &times[index];
            if index == 0 {
                ours.push(median(rates));
            }
            table.row([
                name.clone(),
                live.to_string(),
                format!(
                    "{:.0} ({:.0} to {:.0})",
                    median(rates),
                    least(rates),
                    most(rates)
                ),
                format!("{:.1} MiB", peaks[index] / f64::from(1 << 20)),
            ]);
        }
    }
    let mut text = table.finish();
    text.push('\n');
    let [fewest, .., most_open] = LIVE;
    for (index, (name, _)) in binaries.iter().enumerate() {
        let [least, .., most] = memory[index][..] else {
            continue;
        };
        let each = (most - least) / (most_open - fewest) as f64;
        text.push_str(&format!(
            "{name}: {each:.0} bytes for each open connection.\n"
        ));
        if index == 0 {
            kept.push(Bound {
                what: "at most 256 bytes for each open connection",
                measured: format!("{each:.0} bytes"),
                holds: each <= 256.0,
            });
        }
    }
    if let [few, .., many] = ours[..] {
        kept.push(Bound {
            what: "with 1,000,000 open connections at least half as fast as with 10,000",
            measured: format!("{:.0} %", many / few * 100.0),
            holds: many * 2.0 >= few,
        });
    }
    Ok(text)
}

fn rows_a_second(
    bench: &Bench,
    binaries: &[(String, PathBuf)],
    kept: &mut Vec<Bound<'_>>,
) -> Result<String> {
    let path = capture(bench, EVENTS, 10_000)?;
    let mut ours = Vec::new();
    let mut table = Table::new(&["all shown", "format", "events a second", "user time"]);
    for format in FORMATS {
        let mut times = vec![Vec::new(); binaries.len()];
        for _ in 0..bench.rounds {
            for (index, (_, binary)) in binaries.iter().enumerate() {
                let arguments = ["replay", "-", "--format", format];
                let mut command = vec![binary.as_os_str()];
                command.extend(arguments.iter().map(AsRef::<std::ffi::OsStr>::as_ref));
                times[index].push(bench.load.usage(&path, &command)?.user_s);
            }
        }
        for (index, (name, _)) in binaries.iter().enumerate() {
            let times = &times[index];
            if index == 0 {
                ours.push(median(times));
            }
            table.row([
                name.clone(),
                format.to_owned(),
                format!("{:.0}", (EVENTS + 30_000) as f64 / median(times)),
                format!(
                    "{:.2} s ({:.2} to {:.2})",
                    median(times),
                    least(times),
                    most(times)
                ),
            ]);
        }
    }
    if let [json, csv, ..] = ours[..] {
        kept.push(Bound {
            what: "CSV as fast as JSON",
            measured: format!("{csv:.2} s beside {json:.2} s"),
            holds: csv <= json,
        });
    }
    Ok(table.finish())
}
