//! `cargo xtask deny`: licences, sources, doubles and known weaknesses of the dependencies.
//!
//! `.ci/deny.toml` says what is allowed. cargo-deny has no package in Debian, so it is compiled.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace::Workspace};

const PROGRAM: &str = "cargo-deny";
const VERSION: &str = "^0.20";
/// What cargo-deny says when the list of known weaknesses is out of reach.
const UNREACHED: &str = "failed to fetch advisory database";

/// Checks the dependencies.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Compile cargo-deny, if it is missing.
    #[arg(long)]
    install: bool,
}

/// Fails when a dependency is not allowed. Advisories that cannot be had are skipped, and said.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let program = find(workspace, arguments.install)?;
    let deny = |what: &[&str]| {
        let mut deny = Command::new(&program);
        deny.arg("--config")
            .arg(workspace.root().join(".ci/deny.toml"))
            .arg("check")
            .args(what)
            .current_dir(workspace.root());
        deny
    };
    command::run(&mut deny(&["licenses", "bans", "sources"]))
        .context("a dependency is not allowed by .ci/deny.toml")?;
    let output = deny(&["advisories"])
        .output()
        .context("cargo-deny cannot be run")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains(UNREACHED) {
        println!("SKIPPED: the advisories were not checked: their database cannot be reached");
    } else if !output.status.success() {
        bail!("a dependency has a known weakness:\n{said}");
    }
    println!("the licences, sources and versions of all dependencies are allowed");
    Ok(ExitCode::SUCCESS)
}

/// Finds cargo-deny, or compiles it.
fn find(workspace: &Workspace, install: bool) -> Result<PathBuf> {
    if command::exists(PROGRAM) {
        return Ok(PROGRAM.into());
    }
    let place = workspace.tools().join("deny");
    let program = place.join("bin").join(PROGRAM);
    if program.is_file() {
        return Ok(program);
    }
    if !install {
        bail!("there is no cargo-deny; --install compiles it, or: cargo install cargo-deny");
    }
    let mut cargo = command::cargo();
    cargo
        .args([
            "install",
            PROGRAM,
            "--locked",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(&place);
    command::run(&mut cargo)?;
    Ok(program)
}
