//! `cargo xtask man`: writes the man pages.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{command, workspace::Workspace};

/// Writes the man pages: one for each command, and those made from the documentation.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The directory to write them to; target/man if it is not given.
    directory: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let directory = match &arguments.directory {
        Some(directory) => std::path::absolute(directory)?,
        None => workspace.target().join("man"),
    };
    let mut write = command::cargo();
    write
        .args([
            "run",
            "--quiet",
            "--package",
            "tcptrace",
            "--example",
            "man",
            "--",
        ])
        .arg(&directory)
        .current_dir(workspace.root());
    command::run(&mut write)?;
    println!("the man pages are in {}", directory.display());
    Ok(ExitCode::SUCCESS)
}
