//! The first process of a virtual machine: this test binary again, as `/init` of an initramfs.
//!
//! It makes the surroundings that tests need, runs them as a child, says in one line how they
//! ended, and switches the machine off. It knows no test and judges none. Whatever goes wrong here
//! ends with a verdict that says so, or with none: whoever started the machine takes either for a
//! failure.

use std::{
    env, fs,
    fs::File,
    io::{self, Read, Write},
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, anyhow};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, kill},
        termios::tcdrain,
        wait::{WaitStatus, wait},
    },
    unistd::Pid,
};

use super::{guest_streams, namespace::bring_lo_up};

/// Set by whoever starts the machine: a first process of a container is no guest.
const GUEST: &str = "TCPTRACE_TEST_GUEST";
/// Before the kernel's release, once this runs.
const GREETING: &str = "TCPTRACE-VM-KERNEL:";
/// Before the one line that counts.
const VERDICT: &str = "TCPTRACE-VM-VERDICT:";
/// The binary under test.
const BINARY: &str = "/bin/tcptrace";
/// Kernel modules, named so that each comes after those that it needs.
const MODULES: &str = "/modules";

/// What is mounted: kind and place.
const MOUNTS: [(&str, &str); 9] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tracefs", "/sys/kernel/tracing"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("bpf", "/sys/fs/bpf"),
    ("tmpfs", "/run"),
    ("tmpfs", "/tmp"),
];

/// In a guest's first process: does all of it and never returns. Elsewhere: nothing.
pub(crate) fn perform() -> Option<ExitCode> {
    if std::process::id() != 1 || env::var_os(GUEST).is_none() {
        return None;
    }
    let verdict = run().unwrap_or_else(|error| broken(format_args!("{error:#}")));
    println!("\n{VERDICT} {verdict}");
    // What the serial line has not sent yet would be lost.
    tcdrain(io::stdout()).ok();
    let Err(why) = reboot(RebootMode::RB_POWER_OFF);
    println!("the machine cannot be switched off: {why}");
    Some(ExitCode::FAILURE)
}

/// A verdict on the machine instead of the tests.
fn broken(why: impl std::fmt::Display) -> String {
    format!("broken: {}", why.to_string().replace('\n', " "))
}

/// Runs the tests, with the arguments given to this, and judges their end.
fn run() -> anyhow::Result<String> {
    for (kind, place) in MOUNTS {
        make(kind, place)?;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the release")?;
    println!("\n{GREETING} {}", release.trim());
    load_modules()?;
    bring_lo_up().context("bringing lo up")?;

    let mut child = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .env("TCPTRACE_BIN", BINARY)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("starting the tests")?;
    let output = child.stdout.take().context("what the tests say")?;
    let said = thread::spawn(move || pass_on(output));
    let status = reap_until(Pid::from_raw(i32::try_from(child.id())?))?;
    // Who was left behind may hold the tests' standard output, and its end is waited for.
    kill(Pid::from_raw(-1), Signal::SIGKILL).ok();
    let said = said
        .join()
        .map_err(|_| anyhow!("the thread that listens to the tests panicked"))?
        .context("listening to the tests")?;
    guest_streams::send()?;
    Ok(verdict(status, &said))
}

fn make(kind: &str, place: &str) -> anyhow::Result<()> {
    fs::create_dir_all(place).with_context(|| format!("making {place}"))?;
    mount(
        Some(kind),
        place,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )
    .with_context(|| format!("mounting {kind} at {place}"))
}

/// Loads all modules there are: nothing here could load them when they are needed.
fn load_modules() -> anyhow::Result<()> {
    if !Path::new(MODULES).is_dir() {
        return Ok(());
    }
    let mut files = fs::read_dir(MODULES)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    files.sort();
    for path in files {
        let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
        match finit_module(file, c"", ModuleInitFlags::empty()) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(why) => return Err(why).with_context(|| format!("loading {}", path.display())),
        }
    }
    Ok(())
}

/// Shows what the tests say as they say it, unfinished lines too: should the machine stop, the
/// last of it names the test.
fn pass_on(mut from: impl Read) -> io::Result<String> {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(String::from_utf8_lossy(&said).into_owned());
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&buffer[..length])?;
        stdout.flush()?;
        said.extend_from_slice(&buffer[..length]);
    }
}

/// Waits for a child, and on the way for all that were left to the first process.
fn reap_until(child: Pid) -> anyhow::Result<WaitStatus> {
    loop {
        match wait() {
            Ok(status) if status.pid() == Some(child) => return Ok(status),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why).context("waiting for the tests"),
        }
    }
}

/// How the tests ended: their own count, if they came to one and ended as it says.
fn verdict(status: WaitStatus, said: &str) -> String {
    let Some(result) = said
        .lines()
        .rev()
        .find(|line| line.starts_with("test result: "))
    else {
        return broken(format_args!("the tests ended without a result: {status:?}"));
    };
    let count = |what: &str| {
        let count = result
            .split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(what));
        count.map_or("?", str::trim)
    };
    let (passed, failed, skipped) = (count("passed"), count("failed"), count("ignored"));
    if let WaitStatus::Exited(_, code) = status
        && (code == 0) == (failed == "0")
    {
        format!("passed={passed} failed={failed} skipped={skipped}")
    } else {
        broken(format_args!("{failed} tests failed, and yet: {status:?}"))
    }
}
