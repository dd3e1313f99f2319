//! Everything a contributor to tcptrace runs, as `cargo xtask COMMAND`.
//!
//! This file parses and dispatches. Each command is a module of its own; none is needed to build or
//! use tcptrace.

mod aarch64;
mod apt;
mod bench;
mod command;
mod deny;
mod ebpf;
mod fuzz;
mod man;
mod report;
mod run;
mod test;
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

/// The commands.
#[derive(Subcommand)]
enum Command {
    /// Build tcptrace and run it as root: `cargo xtask run tail`.
    Run(run::Arguments),
    /// Rebuild the committed eBPF object and its manifest.
    BuildEbpf(ebpf::build::Arguments),
    /// Check that the committed eBPF object belongs to its sources.
    VerifyEbpf(ebpf::verify::Arguments),
    /// Run all tests, and say what ran where.
    Test(test::Arguments),
    /// Check the types of user space for aarch64.
    CheckAarch64(aarch64::Arguments),
    /// Check the licences, sources and versions of all dependencies.
    Deny(deny::Arguments),
    /// Fuzz what parses kernel data, files and the network.
    Fuzz(fuzz::Arguments),
    /// Measure tcptrace, and write docs/performance.md.
    Bench(bench::Arguments),
    /// Write the man pages.
    Man(man::Arguments),
    /// Run the kernel tests on other kernels, in virtual machines.
    Vm(vm::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Workspace::open(arguments.workspace).and_then(|workspace| match arguments.command {
        Command::Run(arguments) => run::run(&workspace, &arguments),
        Command::BuildEbpf(arguments) => ebpf::build::run(&workspace, &arguments),
        Command::VerifyEbpf(arguments) => ebpf::verify::run(&workspace, &arguments),
        Command::Test(arguments) => test::run(&workspace, &arguments),
        Command::CheckAarch64(arguments) => aarch64::run(&workspace, &arguments),
        Command::Deny(arguments) => deny::run(&workspace, &arguments),
        Command::Fuzz(arguments) => fuzz::run(&workspace, &arguments),
        Command::Bench(arguments) => bench::run(&workspace, &arguments),
        Command::Man(arguments) => man::run(&workspace, &arguments),
        Command::Vm(arguments) => vm::run(&workspace, arguments),
    });
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
