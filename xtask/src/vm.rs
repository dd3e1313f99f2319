//! `cargo xtask vm`: the kernel tests on other kernels, in virtual machines.
//!
//! The tests are those of the host, in one static binary that is also the guest's first process.
//! Nothing else runs there: no shell, no distribution.

pub(crate) mod binaries;
mod initramfs;
mod kernel;
mod machine;
pub(crate) mod streams;
mod tools;

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::{
    apt::make_directory,
    report::{Report, Suite},
    workspace::Workspace,
};
use binaries::Binaries;
use kernel::Kernel;
use machine::{Accelerator, Life, Machine};

pub(crate) use kernel::Series;

/// The prefix by which a guest's first process reports the kernel's release; the next one reports a
/// problem with the machine.
const GREETING: &str = "TCPTRACE-VM-KERNEL: ";
const BROKEN: &str = "TCPTRACE-VM-BROKEN: ";
/// What a kernel prints when it cannot continue, in the middle of a line.
const PANICS: [&str; 2] = ["Oops: ", "Kernel panic - "];
/// How much of the console is shown of a guest in trouble.
const LAST_LINES: usize = 20;

/// The kind of machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    #[default]
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

/// Names that differ by architecture.
struct Names {
    /// Debian's name.
    debian: &'static str,
    /// The emulator, and Debian's package of it.
    qemu: &'static str,
    qemu_package: &'static str,
    serial_line: &'static str,
}

impl Architecture {
    const fn names(self) -> Names {
        match self {
            Self::Amd64 => Names {
                debian: "amd64",
                qemu: "qemu-system-x86_64",
                qemu_package: "qemu-system-x86",
                serial_line: "ttyS0",
            },
            Self::Arm64 => Names {
                debian: "arm64",
                qemu: "qemu-system-aarch64",
                qemu_package: "qemu-system-arm",
                serial_line: "ttyAMA0",
            },
        }
    }
}

/// The arguments of `vm`.
#[derive(clap::Args, Default)]
pub(crate) struct Arguments {
    /// A series of kernels; may be repeated. By default all of them, on arm64 6.1.
    #[arg(long = "kernel", value_enum, value_name = "SERIES")]
    kernels: Vec<Series>,
    /// Install what is missing, with apt-get.
    #[arg(long)]
    install: bool,
    /// What the machines are.
    #[arg(long = "arch", value_enum, default_value_t)]
    architecture: Architecture,
    /// What runs the guests' instructions.
    #[arg(long, value_enum, default_value_t)]
    accelerator: Accelerator,
    /// How many kernels run at once, by default as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Store the stream of each scenario's events below this directory, by kernel.
    #[arg(long, value_name = "DIRECTORY")]
    record: Option<PathBuf>,
    /// A filter and options for the tests.
    #[arg(last = true)]
    harness: Vec<String>,
}

/// Runs the tests. The last line of output counts them.
pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<ExitCode> {
    if arguments.kernels.is_empty() {
        arguments.kernels = match arguments.architecture {
            Architecture::Amd64 => Series::value_variants().to_vec(),
            Architecture::Arm64 => vec![Series::V6_1],
        };
    }
    arguments.kernels.sort_unstable();
    arguments.kernels.dedup();
    let mut report = Report::default();
    for suite in arguments.run(workspace)? {
        report.add(suite);
    }
    println!("\n{report}\n{}", report.counts());
    Ok(match report.counts().failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Modules of the kernel tests about user space: their results are the same on every kernel.
const USERSPACE: [&str; 11] = [
    "captures",
    "connections",
    "daemon",
    "docs",
    "endings",
    "filters",
    "load",
    "loss",
    "prometheus",
    "rate",
    "terminal",
];

/// Modules whose results depend only on the kernel's age: the oldest and the newest suffice.
const ENDS_ONLY: [&str; 5] = ["attach", "check", "handshakes", "levels", "resync"];

/// Runs the tests that depend on the kernel on some kernels.
pub(crate) fn run_dependent(workspace: &Workspace, kernels: &[Series]) -> Result<Vec<Suite>> {
    let (ends, between): (Vec<Series>, Vec<Series>) = kernels
        .iter()
        .partition(|series| Series::ENDS.contains(series));
    let mut suites = Vec::new();
    for (kernels, left_out) in [(ends, &[][..]), (between, &ENDS_ONLY[..])] {
        if kernels.is_empty() {
            continue;
        }
        let left_out = USERSPACE.iter().chain(left_out);
        let dependent = Arguments {
            kernels,
            harness: left_out
                .flat_map(|module| ["--skip".to_owned(), format!("{module}::")])
                .collect(),
            ..Arguments::default()
        };
        suites.extend(dependent.run(workspace)?);
    }
    Ok(suites)
}

impl Arguments {
    /// Prepares and runs a guest for each kernel, several at once: a guest waits half of its time.
    fn run(&self, workspace: &Workspace) -> Result<Vec<Suite>> {
        if let Some(argument) = self.harness.iter().find(|argument| argument.contains('"')) {
            bail!("a quotation mark cannot be handed to a guest: {argument}");
        }
        if self.record.is_some() && self.architecture == Architecture::Arm64 {
            bail!("--record needs a second serial line, and arm64 guests have one only");
        }
        let directory = directory(workspace);
        tools::require(self.architecture, self.install, &directory)?;
        let kernels = kernel::get(&self.kernels, self.architecture, &directory)?;
        for kernel in &kernels {
            println!("{kernel}");
        }
        let binaries = binaries::build(workspace, self.architecture, self.install)?;
        let at_once = match self.jobs {
            Some(jobs) => jobs.get(),
            None => thread::available_parallelism().map_or(1, NonZero::get),
        };
        each(&kernels, at_once, |kernel| {
            self.guest(kernel, &binaries, &directory)
                .with_context(|| format!("cannot run a guest with Linux {}", kernel.release))
        })
    }

    /// Runs one guest.
    fn guest(&self, kernel: &Kernel, binaries: &Binaries, directory: &Path) -> Result<Suite> {
        let release = &kernel.release;
        let initramfs = directory.join("initramfs").join(format!("{release}.cpio"));
        initramfs::write(&initramfs, binaries, &kernel.modules)?;
        let machine = Machine {
            architecture: self.architecture,
            accelerator: self.accelerator,
            image: kernel.image.clone(),
            initramfs,
            arguments: &self.harness,
            streams: self
                .record
                .as_ref()
                .map(|_| directory.join(format!("{release}.streams"))),
        };
        println!("Linux {release} boots");
        let life = machine.run()?;
        let logs = directory.join("log");
        make_directory(&logs)?;
        let log = logs.join(format!("{release}.log"));
        fs::write(&log, &life.console)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let suite = suite(release, &life, self.harness.is_empty());
        println!(
            "Linux {release}: {} in {} s; its console is in {}",
            suite.counts(),
            life.took.as_secs(),
            log.display()
        );
        if let (Some(sent), Some(place)) = (&machine.streams, &self.record) {
            let count = streams::unpack(sent, place)?;
            println!(
                "Linux {release}: {count} streams stored in {}",
                place.display()
            );
        }
        Ok(suite)
    }
}

/// Returns the results of a guest that ran some tests, or all. A guest that vanished, panicked,
/// hung or contradicts itself has a failed test: the one in progress, or the machine itself.
fn suite(release: &str, life: &Life, for_all: bool) -> Suite {
    let text = life.console.replace('\r', "");
    let mut suite = Suite::new(format!("tests/kernel on Linux {release}"));
    text.lines().for_each(|line| suite.line(line));
    let find = |what: &str| {
        text.lines()
            .find_map(|line| Some(&line[line.find(what)?..]))
    };
    let counts = suite.counts();
    let stage = match find(GREETING) {
        Some(_) => "while the tests ran",
        None => "before its first process spoke",
    };
    let trouble = if let Some(panic) = PANICS.iter().find_map(|panic| find(panic)) {
        format!("the kernel died {stage}: {panic}")
    } else if let Some(broken) = find(BROKEN) {
        broken.to_owned()
    } else if let Some(why) = &life.stopped {
        format!("it was stopped {stage}: {why}")
    } else if !suite.is_whole() {
        format!("it went off without a result that counts what it showed, {stage}")
    } else if counts.passed + counts.failed == 0 && (for_all || counts.skipped == 0) {
        "not one test ran".to_owned()
    } else {
        return suite;
    };
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    suite.fail(
        "(the machine)",
        format!("{trouble}. The end of the console:\n{last}"),
    );
    suite
}

/// Returns why no virtual machine can run here, and the remedy; `None` if they can.
pub(crate) fn missing() -> Option<String> {
    tools::missing(Architecture::default())
}

/// Installs what virtual machines need.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    tools::require(Architecture::default(), true, &directory(workspace))
}

/// Returns the directory for all of it.
fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target().join("vm")
}

/// Calls a function for each item, several at once, and returns the results in order.
fn each<T: Sync, R: Send>(
    all: &[T],
    at_once: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = Mutex::new(all.iter().enumerate());
    let done = Mutex::new(Vec::new());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    thread::scope(|scope| {
        for _ in 0..at_once.min(all.len()) {
            scope.spawn(|| {
                while let Some((number, one)) = take() {
                    let result = work(one);
                    let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                    done.push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests;
