//! Everything a contributor to tcptrace runs, as `cargo xtask COMMAND`.
//!
//! This file parses and dispatches. Each command is a module of its own; none of them is needed to
//! build tcptrace or to use it.

mod aarch64;
mod apt;
mod build_ebpf;
mod command;
#[path = "../../tcptrace/build/ebpf.rs"]
mod ebpf;
mod install;
mod man;
mod objects;
mod run;
mod test;
mod verify_ebpf;
mod vm;
mod workspace;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Everything a contributor to tcptrace runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    /// Work on the checkout at this path instead of the one that xtask was built from.
    #[arg(long, global = true, value_name = "PATH")]
    workspace: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    command: Command,
}

/// What xtask can do.
#[derive(Subcommand)]
enum Command {
    /// Build tcptrace and run it as root: `cargo xtask run tail`.
    Run(run::Arguments),
    /// Build the eBPF object that is committed, and its manifest.
    BuildEbpf(build_ebpf::Arguments),
    /// Check that the committed eBPF object is what its sources make.
    VerifyEbpf(verify_ebpf::Arguments),
    /// Write the man pages.
    Man(man::Arguments),
    /// Run all tests, and say what ran where.
    Test(test::Arguments),
    /// Check userspace's types for aarch64.
    CheckAarch64(aarch64::Arguments),
    /// Run the kernel tests on other kernels, in virtual machines.
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Workspace::open(arguments.workspace).and_then(|workspace| match arguments.command {
        Command::Run(arguments) => run::run(&workspace, &arguments),
        Command::BuildEbpf(arguments) => build_ebpf::run(&workspace, &arguments),
        Command::VerifyEbpf(arguments) => verify_ebpf::run(&workspace, &arguments),
        Command::Man(arguments) => man::run(&workspace, &arguments),
        Command::Test(arguments) => test::run(&workspace, &arguments),
        Command::CheckAarch64(arguments) => aarch64::run(&workspace, &arguments),
        Command::Vm(arguments) => vm::run(&workspace, &arguments),
    });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
