//! The programs that tests run, and where to get them.
//!
//! A test whose program is missing skips itself with that reason; nothing here decides what runs.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{apt, command::exists, vm, workspace::Workspace};

/// A program that some tests run.
struct Tool {
    /// The program.
    program: &'static str,
    /// The package of Debian that has it.
    package: &'static str,
    /// Where it lies in the package, if it is to be taken out of it: installing the package would
    /// start a server.
    file: Option<&'static str>,
    /// What it is for.
    purpose: &'static str,
}

/// Every program that tests run; what virtual machines need is known there.
const TOOLS: [Tool; 2] = [
    Tool {
        program: "curl",
        package: "curl",
        file: None,
        purpose: "is traced, as a program that everybody knows",
    },
    Tool {
        program: "promtool",
        package: "prometheus",
        file: Some("usr/bin/promtool"),
        purpose: "checks the metrics that the daemon serves",
    },
];

/// Where programs are put that were taken out of their packages.
fn directory(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("bin")
}

/// The search path for tests.
pub(crate) fn search_path(workspace: &Workspace) -> Result<OsString> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = [directory(workspace)]
        .into_iter()
        .chain(env::split_paths(&path));
    env::join_paths(path).context("the checkout lies at a path with a colon in it")
}

/// Installs what is missing. Where virtual machines cannot be run, this says why, and the tests in
/// them are skipped.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    if let Err(error) = vm::install(workspace) {
        eprintln!("warning: {error:#}");
    }
    let directory = directory(workspace);
    let missing = missing(&directory);
    if missing.is_empty() {
        return Ok(());
    }
    apt::update()?;
    let packages: Vec<&str> = missing
        .iter()
        .filter(|tool| tool.file.is_none())
        .map(|tool| tool.package)
        .collect();
    if !packages.is_empty() {
        apt::install(&packages)?;
    }
    apt::make_directory(&directory)?;
    for tool in missing {
        if let Some(file) = tool.file {
            apt::extract(tool.package, file, &directory)?;
        }
    }
    Ok(())
}

/// Says what is missing and how to get it.
pub(crate) fn report_missing(workspace: &Workspace) {
    let missing = missing(&directory(workspace));
    if missing.is_empty() {
        return;
    }
    eprintln!("missing, so that the tests that need them will be skipped:");
    for tool in &missing {
        eprintln!(
            "  {} (package {}): {}",
            tool.program, tool.package, tool.purpose
        );
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    eprintln!(
        "cargo xtask test --install gets them; or: apt-get install {}",
        packages.join(" ")
    );
}

/// The tools that are neither in the search path nor in `directory`.
fn missing(directory: &Path) -> Vec<&'static Tool> {
    let here = |tool: &Tool| exists(tool.program) || directory.join(tool.program).is_file();
    TOOLS.iter().filter(|tool| !here(tool)).collect()
}
