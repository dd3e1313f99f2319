//! `cargo xtask test`: runs every test, with an unmistakable summary.
//!
//! A test that lacks something skips itself, with a reason, which this command shows.

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead as _, BufReader, IsTerminal as _, Write as _, pipe, stdout},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;

use crate::{
    apt,
    command::{cargo, exists, is_root},
    report::{Outcome, Report},
    vm::{self, Series},
    workspace::Workspace,
};

/// The arguments of `test`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install what tests need and this machine lacks, with apt-get.
    #[arg(long)]
    install: bool,
    /// Run the tests that depend on the kernel on every kernel, not only on the oldest and the
    /// newest.
    #[arg(long)]
    full: bool,
    /// Run the kernel tests on this kernel only.
    #[arg(long, conflicts_with = "full")]
    no_vm: bool,
    /// A filter and options for the test harness, as after the `--` of `cargo test`.
    #[arg(last = true)]
    harness: Vec<String>,
}

/// Runs all tests. The last line of output counts them.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    if arguments.install {
        install(workspace)?;
    }
    let mut report = Report::default();
    let object = crate::ebpf::verify::hashes(workspace);
    let outcome = object.map_or_else(
        |error| Outcome::Failed(format!("{error:#}")),
        |()| Outcome::Passed,
    );
    report.check("the committed eBPF object", outcome);
    cargo_test(workspace, &arguments.harness, &mut report)?;
    other_kernels(workspace, arguments, &mut report);

    println!("\n{report}\n{}", place());
    if !arguments.install && report.counts().skipped > 0 {
        println!("cargo xtask test --install gets what tests need and this machine lacks.");
    }
    println!("{}", report.counts());
    Ok(match report.counts().failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Installs what tests need. If virtual machines cannot run here, says why; their tests are
/// skipped.
fn install(workspace: &Workspace) -> Result<()> {
    if let Err(error) = vm::install(workspace) {
        eprintln!("warning: {error:#}");
    }
    let directory = tools(workspace);
    let mut missing = vec!["promtool", "prometheus"];
    missing.retain(|program| !exists(program) && !directory.join(program).is_file());
    if !missing.is_empty() {
        apt::update()?;
        apt::make_directory(&directory)?;
        let files: Vec<String> = missing
            .iter()
            .map(|program| format!("usr/bin/{program}"))
            .collect();
        apt::extract("prometheus", &files, &directory)?;
    }
    Ok(())
}

/// Returns where programs extracted from packages are kept.
fn tools(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("bin")
}

/// Returns the search path for tests.
fn search_path(workspace: &Workspace) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = [tools(workspace)]
        .into_iter()
        .chain(env::split_paths(&path));
    env::join_paths(path).context("the checkout lies at a path with a colon in it")
}

/// Runs `cargo test`, shows its output and collects the results.
fn cargo_test(workspace: &Workspace, harness: &[String], report: &mut Report) -> Result<()> {
    // One pipe for both streams: the other stream tells which suite a result belongs to.
    let (reader, writer) = pipe().context("cannot make a pipe for the tests' output")?;
    let mut command = cargo();
    command
        .args(["test", "--no-fail-fast", "--"])
        .args(harness)
        .current_dir(workspace.root())
        .env("PATH", search_path(workspace)?)
        .stdout(writer.try_clone().context("cannot share the pipe")?)
        .stderr(writer);
    if env::var_os("CARGO_TERM_COLOR").is_none() && stdout().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let mut child = command.spawn().context("cannot run cargo test")?;
    // It holds the writing ends, and the pipe must end when the tests do.
    drop(command);
    for line in BufReader::new(reader).split(b'\n') {
        let line = line.context("cannot read what the tests print")?;
        let line = String::from_utf8_lossy(&line);
        writeln!(stdout(), "{line}").context("cannot show what the tests print")?;
        report.line(&line);
    }
    let status = child.wait().context("cannot wait for cargo test")?;
    report.end(status.success());
    Ok(())
}

/// Runs the kernel tests on other kernels, or says why not.
fn other_kernels(workspace: &Workspace, arguments: &Arguments, report: &mut Report) {
    const WHAT: &str = "other kernels";
    let reason = match (arguments.no_vm, &arguments.harness[..]) {
        (true, _) => Some("--no-vm; cargo xtask vm runs them".to_owned()),
        (false, []) => vm::missing(),
        (false, harness) => Some(format!(
            "a filter was given; cargo xtask vm -- {} runs those",
            harness.join(" ")
        )),
    };
    if let Some(reason) = reason {
        println!("SKIPPED: the kernel tests on other kernels: {reason}");
        return report.check(WHAT, Outcome::Skipped(reason));
    }
    let series = match arguments.full {
        true => Series::value_variants(),
        false => {
            let rest = "--full, or cargo xtask vm, runs the tests on the kernels between them";
            report.check("the kernels between", Outcome::Skipped(rest.to_owned()));
            &Series::ENDS
        }
    };
    let rest = "cargo xtask vm runs them on every kernel, not on this one alone";
    report.check(
        "kernel tests that do not depend on the kernel",
        Outcome::Skipped(rest.to_owned()),
    );
    match vm::run_dependent(workspace, series) {
        Ok(suites) => suites.into_iter().for_each(|suite| report.add(suite)),
        Err(error) => report.check(WHAT, Outcome::Failed(format!("{error:#}"))),
    }
}

/// Returns where the tests ran: results of kernel tests hold for one kernel.
fn place() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = match kernel.trim() {
        "" => "an unknown kernel",
        kernel => kernel,
    };
    let architecture = env::consts::ARCH;
    if is_root() {
        return format!("Ran on Linux {kernel} ({architecture}) as root.");
    }
    format!(
        "Ran on Linux {kernel} ({architecture}), not as root: the kernel tests need that and were \
         skipped. To run them:\n  sudo -E env \"PATH=$PATH\" cargo xtask test"
    )
}
