//! `cargo xtask vm`: the kernel tests on other kernels, in virtual machines.
//!
//! The tests are those of the host, in one static binary that is also the guest's first process.
//! Nothing else runs there: no shell, no distribution.

mod archive;
mod binaries;
mod console;
mod guest;
mod initramfs;
mod kernel;
mod machine;
mod modules;
mod packages;
mod series;
mod stopwatch;
mod streams;
mod table;
mod tools;
mod version;

use std::{
    fs,
    num::NonZero,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;
use binaries::Binaries;
use kernel::Kernel;
use machine::{Limits, Machine};

pub(crate) use archive::{Archive, Part, make_directory};
pub(crate) use console::{Counts, Outcome};
pub(crate) use guest::Guest;
pub(crate) use machine::Accelerator;
pub(crate) use series::Series;
pub(crate) use table::Table;
pub(crate) use tools::{QEMU, QEMU_PACKAGE, XZ, XZ_PACKAGE, missing};

/// A test waits for a minute at the most until it gives something up, and all of them take a few
/// minutes.
const LIMITS: Limits = Limits {
    greeting: Duration::from_secs(60),
    silence: Duration::from_secs(180),
    life: Duration::from_secs(20 * 60),
};

/// The arguments of `vm`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A series of kernels; may be given several times. By default all of them.
    #[arg(long = "kernel", value_enum, value_name = "SERIES")]
    kernels: Vec<Series>,
    /// Install QEMU if it is missing, with apt-get.
    #[arg(long)]
    install: bool,
    /// What runs the guests' instructions.
    #[arg(long, value_enum, default_value_t)]
    accelerator: Accelerator,
    /// So many kernels at once, by default as many as there are processors.
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Store the stream of each scenario's events below this directory, by kernel.
    #[arg(long, value_name = "DIRECTORY")]
    record: Option<PathBuf>,
    /// A filter and options for the tests.
    #[arg(last = true)]
    harness: Vec<String>,
}

/// What is to run where.
pub(crate) struct Matrix<'a> {
    /// On these kernels.
    pub(crate) series: &'a [Series],
    /// May QEMU be installed?
    pub(crate) install: bool,
    /// What runs the guests' instructions.
    pub(crate) accelerator: Accelerator,
    /// How many at once, if not as many as there are processors.
    pub(crate) jobs: Option<NonZero<usize>>,
    /// Where the streams of the scenarios' events are to be stored, if they are.
    pub(crate) record: Option<&'a Path>,
    /// A filter and options for the tests.
    pub(crate) harness: &'a [String],
}

/// Runs the tests. The last line that is printed counts them.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let mut series = match &arguments.kernels[..] {
        [] => Series::all(),
        chosen => chosen.to_vec(),
    };
    series.sort_unstable();
    series.dedup();
    let matrix = Matrix {
        series: &series,
        install: arguments.install,
        accelerator: arguments.accelerator,
        jobs: arguments.jobs,
        record: arguments.record.as_deref(),
        harness: &arguments.harness,
    };
    let guests = matrix.run(workspace)?;
    println!("\n{}", Table(&guests));
    for guest in &guests {
        println!("{guest}");
    }
    let counts = Counts::of(guests.iter().flat_map(|guest| &guest.story.tests));
    println!("{counts}");
    Ok(match counts.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

impl Matrix<'_> {
    /// Gets all that is needed and runs a guest for each kernel, several at once: a guest waits half
    /// of its time.
    pub(crate) fn run(&self, workspace: &Workspace) -> Result<Vec<Guest>> {
        if let Some(argument) = self.harness.iter().find(|argument| argument.contains('"')) {
            bail!("a quotation mark cannot be handed to a guest: {argument}");
        }
        let directory = directory(workspace);
        tools::require(self.install, &directory)?;
        let kernels = kernel::get(self.series, &directory)?;
        for kernel in &kernels {
            println!("{kernel}");
        }
        let binaries = binaries::build(workspace)?;
        let guest = |kernel: &Kernel| self.guest(kernel, &binaries, &directory);
        let at_once = match self.jobs {
            Some(jobs) => jobs.get(),
            None => thread::available_parallelism().map_or(1, NonZero::get),
        };
        println!(
            "running the tests on {} kernels, {}, {at_once} at once",
            kernels.len(),
            self.accelerator
        );
        each(&kernels, at_once, guest)
    }

    /// Runs one guest.
    fn guest(&self, kernel: &Kernel, binaries: &Binaries, directory: &Path) -> Result<Guest> {
        let release = &kernel.note.release;
        let initramfs = directory.join("initramfs").join(format!("{release}.cpio"));
        initramfs::write(&initramfs, binaries, &kernel.modules()?)?;
        let machine = Machine {
            accelerator: self.accelerator,
            image: kernel.image(),
            initramfs,
            arguments: self.harness.to_vec(),
            streams: self
                .record
                .map(|_| directory.join(format!("{release}.streams"))),
            limits: LIMITS,
        };
        println!("Linux {release} boots");
        let life = machine
            .run()
            .with_context(|| format!("cannot run a guest with Linux {release}"))?;
        let log = log(directory, release)?;
        fs::write(&log, &life.console)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let guest = Guest::new(
            release,
            self.accelerator,
            life,
            log,
            self.harness.is_empty(),
        );
        println!("{guest}");
        if let (Some(sent), Some(place)) = (&machine.streams, self.record) {
            let count = streams::unpack(sent, place)
                .with_context(|| format!("no streams of Linux {release}"))?;
            println!(
                "Linux {release}: {count} streams stored in {}",
                place.display()
            );
        }
        Ok(guest)
    }
}

/// Where all of it is kept.
fn directory(workspace: &Workspace) -> PathBuf {
    workspace.target().join("vm")
}

/// Installs what virtual machines need.
pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    tools::require(true, &directory(workspace))
}

/// Where a guest's console is kept.
fn log(directory: &Path, release: &str) -> Result<PathBuf> {
    let logs = directory.join("log");
    make_directory(&logs)?;
    Ok(logs.join(format!("{release}.log")))
}

/// Does something for each, several at once, and answers in their order.
fn each<T: Sync, R: Send>(
    all: &[T],
    at_once: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let next = Mutex::new(all.iter().enumerate());
    let take = || next.lock().unwrap_or_else(PoisonError::into_inner).next();
    let mut done: Vec<(usize, Result<R>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.min(all.len()))
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    while let Some((number, one)) = take() {
                        done.push((number, work(one)));
                    }
                    done
                })
            })
            .collect();
        let done = workers.into_iter().map(thread::ScopedJoinHandle::join);
        done.flat_map(|done| match done {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
        .collect()
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_done_once_and_in_order() {
        let done = each(&[5, 3, 4, 1, 2], 2, |number| Ok(number * 10)).expect("all of them");
        assert_eq!(done, [50, 30, 40, 10, 20]);
    }

    #[test]
    fn one_failure_is_the_failure_of_all() {
        let done = each(&[1, 0, 2], 3, |number| match number {
            0 => bail!("this one"),
            number => Ok(*number),
        });
        assert_eq!(done.expect_err("one of them").to_string(), "this one");
    }
}
