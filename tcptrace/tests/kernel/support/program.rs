//! The binary under test, running.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    mem,
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sys::{
        resource::{Resource, setrlimit},
        signal::{SigHandler, Signal, kill, signal},
    },
    unistd::{Pid, setresgid, setresuid},
};

use tcptrace::testing::Hook;

use super::{PATIENCE, wait_for};

/// Where the binary is, in a virtual machine at another place than where it was built.
const BINARY: &str = "TCPTRACE_BIN";
/// Nobody's user and group.
const NOBODY: u32 = 65_534;

/// How many runs of eBPF programs the kernel skipped since this process began, by its own count: a
/// program that runs on a CPU does not run there once more. 0 where it does not count (5.10).
pub(super) fn skipped_runs() -> u64 {
    SKIPPED.load(Ordering::Relaxed)
}

static SKIPPED: AtomicU64 = AtomicU64::new(0);

/// The binary under test.
fn binary() -> PathBuf {
    std::env::var_os(BINARY).map_or_else(|| env!("CARGO_BIN_EXE_tcptrace").into(), PathBuf::from)
}

/// Children take signals as a shell's do, though whoever started this (`nohup`, a script's job) may
/// have some ignored.
pub(crate) fn take_signals() {
    for number in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ] {
        // SAFETY: no handler is set.
        unsafe { signal(number, SigHandler::SigDfl) }.ok();
    }
}

/// A command line of it.
pub(crate) fn tcptrace(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("NO_COLOR");
    command
}

/// The same as nobody. The file handed back must live until it is started: it is run through
/// its descriptor, for nobody may not be let through the directories that lead to it.
pub(crate) fn tcptrace_as_nobody(arguments: &[&str]) -> anyhow::Result<(Command, File)> {
    let file = File::open(binary()).context("opening the binary")?;
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command
        .arg0("tcptrace")
        .args(arguments)
        .uid(NOBODY)
        .gid(NOBODY);
    Ok((command, file))
}

/// The command with these capabilities and no others. What root's programs get is bounded so.
pub(crate) fn with_only(command: &mut Command, held: Vec<Capability>) -> &mut Command {
    // SAFETY: system calls, and a list that was made before.
    unsafe {
        command.pre_exec(move || {
            for capability in caps::all() {
                if !held.contains(&capability) {
                    caps::drop(None, CapSet::Bounding, capability).map_err(io::Error::other)?;
                }
            }
            Ok(())
        })
    }
}

/// As [`tcptrace_as_nobody`], with these capabilities, as systemd's AmbientCapabilities gives them.
pub(crate) fn tcptrace_as_nobody_with(
    arguments: &[&str],
    held: &[Capability],
) -> anyhow::Result<(Command, File)> {
    let file = File::open(binary()).context("opening the binary")?;
    let mut command = Command::new(format!("/proc/self/fd/{}", file.as_raw_fd()));
    command.arg0("tcptrace").args(arguments);
    let held: CapsHashSet = held.iter().copied().collect();
    let give = move || {
        // Memory for the maps before Linux 5.11: LimitMEMLOCK of a unit. A newer kernel needs none.
        let limit = libc::RLIM_INFINITY;
        setrlimit(Resource::RLIMIT_MEMLOCK, limit, limit).ok();
        caps::securebits::set_keepcaps(true).map_err(io::Error::other)?;
        setresgid(NOBODY.into(), NOBODY.into(), NOBODY.into())?;
        setresuid(NOBODY.into(), NOBODY.into(), NOBODY.into())?;
        for set in [CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient] {
            caps::set(None, set, &held).map_err(io::Error::other)?;
        }
        Ok(())
    };
    // SAFETY: system calls, and a list that was made before.
    unsafe { command.pre_exec(give) };
    Ok((command, file))
}

/// A process has got as far as taking signals itself. `None` until then.
pub(crate) fn takes_signals(process: u32) -> Option<()> {
    let mut threads = std::fs::read_dir(format!("/proc/{process}/task")).ok()?;
    let takes = |thread: std::fs::DirEntry| {
        std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|name| name == "signals\n")
    };
    threads.any(|thread| thread.is_ok_and(takes)).then_some(())
}

/// What a program left when it ended.
#[derive(Debug)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote that nobody took yet.
    pub(crate) stdout: String,
    /// What it complained of.
    pub(crate) stderr: String,
}

impl Output {
    /// Fails unless it ended with this status.
    pub(crate) fn must_end_with(&self, status: i32) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.status.code() == Some(status),
            "status {status} was expected: {self:?}"
        );
        Ok(())
    }

    /// Fails unless standard error says this.
    pub(crate) fn must_complain(&self, of: &str) -> anyhow::Result<()> {
        anyhow::ensure!(self.stderr.contains(of), "no {of:?} on stderr: {self:?}");
        Ok(())
    }
}

/// What the standard output had to give.
pub(crate) enum Line {
    /// A line without its end.
    Text(String),
    /// What it wrote of a line before it was killed.
    Cut(String),
    /// Nothing yet.
    Silence,
    /// Its end.
    End,
}

/// A program under way. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    /// With their line ends.
    lines: Receiver<String>,
    /// What standard error said so far.
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it with its outputs caught and nothing to read.
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        Self::start_with_input(command.stdin(Stdio::null()))
    }

    /// The same, with the input that the command says.
    pub(super) fn start_with_input(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let stdout = child.stdout.take().context("its standard output")?;
        let stderr = child.stderr.take().context("its standard error")?;
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            while matches!(stdout.read_line(&mut line), Ok(1..)) {
                if sender.send(mem::take(&mut line)).is_err() {
                    break;
                }
            }
        });
        let said = Arc::<Mutex<String>>::default();
        let saying = Arc::clone(&said);
        let stderr_reader = thread::spawn(move || {
            let mut stderr = BufReader::new(stderr);
            let mut line = Vec::new();
            // What was read before an error is all there is to tell.
            while matches!(stderr.read_until(b'\n', &mut line), Ok(1..)) {
                lock(&saying).push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        Ok(Self {
            child,
            lines,
            stderr: said,
            stderr_reader: Some(stderr_reader),
        })
    }

    /// What is written to it.
    pub(super) fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where each of its threads is: its name, its system call, and its stack in the kernel.
    pub(crate) fn threads(&self) -> String {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()));
        let mut told = String::new();
        for thread in threads.into_iter().flatten().flatten() {
            for file in ["comm", "syscall", "stack"] {
                let text = std::fs::read_to_string(thread.path().join(file));
                told += &text.unwrap_or_else(|why| format!("{file}: {why}\n"));
            }
        }
        told
    }

    /// What it has complained of so far.
    pub(crate) fn complaints(&self) -> String {
        lock(&self.stderr).clone()
    }

    /// The next line of its standard output, waited for so long at the most.
    pub(crate) fn line(&self, patience: Duration) -> Line {
        match self.lines.recv_timeout(patience) {
            Ok(line) => match line.strip_suffix('\n') {
                Some(text) => Line::Text(text.to_owned()),
                None => Line::Cut(line),
            },
            Err(RecvTimeoutError::Timeout) => Line::Silence,
            Err(RecvTimeoutError::Disconnected) => Line::End,
        }
    }

    /// The next line, for as long as it takes.
    pub(crate) fn next_line(&self) -> anyhow::Result<String> {
        match self.line(PATIENCE) {
            Line::Text(line) => Ok(line),
            Line::Cut(_) | Line::Silence | Line::End => anyhow::bail!("no line was written"),
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.note_skipped_runs();
        let pid = i32::try_from(self.child.id()).context("its process id")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("sending {signal}"))
    }

    /// It has ended.
    pub(crate) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Adds what [`skipped_runs`] answers for this process. It must be alive.
    fn note_skipped_runs(&self) {
        let Ok(files) = std::fs::read_dir(format!("/proc/{}/fdinfo", self.child.id())) else {
            return;
        };
        let skipped: u64 = files
            .flatten()
            .filter_map(|file| std::fs::read_to_string(file.path()).ok())
            .filter_map(|info| {
                let count = info
                    .lines()
                    .find_map(|line| line.strip_prefix("recursion_misses:"))?;
                count.trim().parse::<u64>().ok()
            })
            .sum();
        SKIPPED.fetch_add(skipped, Ordering::Relaxed);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> anyhow::Result<Output> {
        let mut stdout = String::new();
        let status = wait_for("the program to end", || {
            stdout.extend(self.lines.try_iter());
            Ok(self.child.try_wait()?)
        })?;
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            stdout.push_str(&line);
        }
        if let Some(reader) = self.stderr_reader.take() {
            drop(reader.join());
        }
        Ok(Output {
            status,
            stdout,
            stderr: without_notices(&self.complaints()),
        })
    }

    /// Starts it and waits for its end.
    pub(crate) fn to_end(command: &mut Command) -> anyhow::Result<Output> {
        Self::start(command)?.wait()
    }
}

fn lock(text: &Mutex<String>) -> MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the first line, and what is said of missing and weaker hooks, out of what a program
/// complained of: it depends on the machine. `tcptrace: no HOOK: …` and `tcptrace: HOOK: …`, in a
/// log `WARN …`.
pub(crate) fn without_notices(stderr: &str) -> String {
    let is_notice = |line: &str| {
        let said = line
            .strip_prefix("tcptrace: ")
            .or_else(|| Some(line.split_once(" WARN ")?.1));
        said.is_some_and(|said| {
            if said.starts_with("tracing ")
                || said.starts_with("replaying ")
                || (said.contains(" hooks") && !said.contains(" without "))
            {
                return true;
            }
            let said = said.strip_prefix("no ").unwrap_or(said);
            Hook::ALL
                .iter()
                .copied()
                .any(|hook| said.starts_with(&format!("{}: ", hook.name())))
        })
    };
    stderr
        .split_inclusive('\n')
        .filter(|line| !is_notice(line))
        .collect()
}

impl Drop for Running {
    fn drop(&mut self) {
        self.note_skipped_runs();
        // It may have ended by itself, and then there is nothing to kill.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
