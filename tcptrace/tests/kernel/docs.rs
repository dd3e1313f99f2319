//! The commands of the documentation run.

#[path = "../documented/mod.rs"]
mod documented;

use std::{collections::BTreeSet, fs, path::PathBuf};

use anyhow::{Context, ensure};

use crate::support::{
    Check,
    daemon::Daemon,
    ignored,
    namespace::Namespace,
    program::{Running, tcptrace},
    tests,
};

tests![
    the_commands_of_the_documentation_run,
    the_series_of_the_documentation_are_served
];

/// Returns every page; the test is ignored where they are not.
fn pages() -> anyhow::Result<Vec<PathBuf>> {
    if !documented::root().join("README.md").exists() {
        return Err(ignored("the repository is not on this machine"));
    }
    Ok(documented::pages())
}

/// Each command in the order of the pages, so that a capture is there when it is replayed.
fn the_commands_of_the_documentation_run() -> Check {
    let pages = pages()?;
    let directory = tempfile::tempdir()?;
    let mut done = BTreeSet::new();
    for page in pages {
        let text = fs::read_to_string(&page)?;
        for mut arguments in text.lines().filter_map(documented::command) {
            let more: &[&str] = match arguments.first().map(String::as_str) {
                Some("tail") => &["--duration", "100ms"],
                Some("capture") => {
                    // A shorter one does.
                    if let Some(time) = arguments.iter_mut().find(|word| *word == "30s") {
                        "100ms".clone_into(time);
                    }
                    &[]
                }
                Some("daemon") => &["--check-config"],
                _ => &[],
            };
            arguments.extend(more.iter().map(ToString::to_string));
            if !done.insert(arguments.clone()) {
                continue;
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut command = tcptrace(&arguments);
            let output = Running::to_end(command.current_dir(directory.path()))?;
            output
                .must_end_with(0)
                .with_context(|| format!("{}: {arguments:?}", page.display()))?;
        }
    }
    ensure!(done.len() > 15, "{} commands", done.len());
    Ok(())
}

/// Each line `tcptrace_…{…} 3` that a page shows as scraped: a daemon has the same series after
/// three refused connects, and at least their number.
fn the_series_of_the_documentation_are_served() -> Check {
    let mut lines = BTreeSet::new();
    for page in pages()? {
        let text = fs::read_to_string(page)?;
        let series = |line: &&str| line.starts_with("tcptrace_") && line.contains("} ");
        lines.extend(text.lines().filter(series).map(str::to_owned));
    }
    ensure!(!lines.is_empty(), "no page shows a scrape");
    let namespace = Namespace::new()?;
    let address = namespace.listen("127.0.0.1:0")?.1;
    let mut daemon = Daemon::start(&[])?;
    for _ in 0..3 {
        ensure!(namespace.connect(address).is_err(), "somebody listens");
    }
    for line in lines {
        let (series, value) = line.rsplit_once(' ').context("a value")?;
        let value: i64 = value.parse()?;
        daemon.scrape_until(series, |metrics| {
            let served = metrics
                .text()
                .lines()
                .filter_map(|line| line.rsplit_once(' '));
            served
                .filter(|(other, _)| *other == series)
                .any(|(_, count)| count.parse::<i64>().is_ok_and(|count| count >= value))
        })?;
    }
    Ok(())
}
