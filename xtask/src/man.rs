//! `cargo xtask man`: the man pages, made of the command line itself.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{command, workspace::Workspace};

/// Writes the man pages.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Where to; target/man when it is not given.
    directory: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let directory = match &arguments.directory {
        Some(directory) => std::path::absolute(directory)?,
        None => workspace.target().join("man"),
    };
    let mut generate = command::cargo();
    generate
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
    command::run(&mut generate)?;
    println!("the man pages are in {}", directory.display());
    Ok(ExitCode::SUCCESS)
}
