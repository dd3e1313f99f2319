//! `cargo xtask bench`: what tcptrace costs, measured in pairs, and docs/performance.md.
//!
//! Every section runs its subjects in turn, round after round, so that what disturbs the machine
//! disturbs all of them. A section that runs replaces its part of the page; the others stay.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures elapsed time, which comes in no event"
)]

mod build;
mod idle;
mod load;
mod page;
mod path;
mod programs;
mod replay;
mod scale;
mod subject;

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum;

use self::{load::Load, page::Page};
use crate::{apt, command, workspace::Workspace};

/// Measures tcptrace on this machine and writes docs/performance.md.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How many rounds.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Only these sections; a comma list.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Section>,
    /// Measure this tcptrace too, in the same rounds.
    #[arg(long, value_name = "FILE")]
    beside: Option<PathBuf>,
    /// Install tcpstates and tcplife, to compare with.
    #[arg(long)]
    install: bool,
    /// Where to write the page; docs/performance.md if it is not given.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A part of the page.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// Time added to the application's own calls.
    Path,
    /// Nanoseconds a run of each program.
    Programs,
    /// Connections a second, and what the tracers use for them.
    Rate,
    /// User space alone.
    Replay,
    /// A daemon at rest.
    Idle,
    /// A daemon with 100,000 open connections.
    Scale,
    /// From a fresh clone to the first row; once, whatever the rounds.
    Build,
}

/// What every section needs.
struct Bench {
    load: Load,
    tcptrace: PathBuf,
    beside: Option<PathBuf>,
    rounds: u32,
    scratch: PathBuf,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    ensure!(
        command::is_root(),
        "tracing needs root: sudo cargo xtask bench"
    );
    if arguments.install {
        apt::install(&["libbpf-tools"])?;
    }
    command::run(
        command::cargo()
            .args(["build", "--release", "--locked", "--package", "tcptrace"])
            .args(["--bin", "tcptrace", "--example", "load"])
            .current_dir(workspace.root()),
    )?;
    let release = workspace.target().join("release");
    let scratch = workspace.target().join("bench");
    std::fs::create_dir_all(&scratch)?;
    let bench = Bench {
        load: Load::new(release.join("examples/load")),
        tcptrace: release.join("tcptrace"),
        beside: arguments.beside.clone(),
        rounds: arguments.rounds,
        scratch,
    };
    let path = match &arguments.output {
        Some(path) => path.clone(),
        None => workspace.root().join("docs/performance.md"),
    };
    let mut page = Page::open(&path)?;
    for &section in Section::value_variants() {
        if !arguments.only.is_empty() && !arguments.only.contains(&section) {
            continue;
        }
        let name = section
            .to_possible_value()
            .context("a section has a name")?;
        eprintln!("== {}", name.get_name());
        let text = match section {
            Section::Path => path::measure(&bench)?,
            Section::Programs => programs::measure(&bench)?,
            Section::Rate => path::measure_rate(&bench)?,
            Section::Replay => replay::measure(&bench)?,
            Section::Idle => idle::measure(&bench)?,
            Section::Scale => scale::measure(&bench)?,
            Section::Build => build::measure(&bench, workspace)?,
        };
        println!("{text}");
        page.replace(name.get_name(), &text);
        page.write(&path)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the median; NaN of nothing.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        length if length % 2 == 1 => sorted[length / 2],
        length => (sorted[length / 2 - 1] + sorted[length / 2]) / 2.0,
    }
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::NEG_INFINITY, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_or_between_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
        assert_eq!((least(&[3.0, 1.0]), most(&[3.0, 1.0])), (1.0, 3.0));
    }
}
