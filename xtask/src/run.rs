//! `cargo xtask run`: builds tcptrace and runs it as root.

use std::{os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{command, workspace::Workspace};

/// Builds tcptrace and runs it as root, through sudo where that is needed.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The arguments of tcptrace.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        default_value = "tail"
    )]
    arguments: Vec<String>,
}

/// Replaces this process, so that Ctrl-C and the status are tcptrace's own.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    if !command::is_root() && !command::exists("sudo") {
        bail!(
            "tcptrace loads eBPF programs, which takes root, and there is no sudo: run this as root"
        );
    }
    // Someone who changes the eBPF programs must learn that the committed object runs.
    if let Err(error) = crate::ebpf::verify::hashes(workspace) {
        eprintln!("warning: {error:#}");
    }
    let mut build = command::cargo();
    build
        .args(["build", "--release", "--package", "tcptrace"])
        .current_dir(workspace.root());
    command::run(&mut build)?;
    let program = workspace.target().join("release/tcptrace");
    let shown = program.display().to_string();
    let error = command::as_root(&shown).args(&arguments.arguments).exec();
    Err(error).with_context(|| format!("cannot run {shown}"))
}
