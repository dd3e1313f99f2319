//! The first process of a virtual machine: this test binary again, as `/init` of an initramfs.
//!
//! It makes the surroundings that tests need, runs them as a child, and switches the machine off.
//! It knows no test and judges none: that is for whoever started the machine and reads what the
//! tests say. What goes wrong here is said in a line of its own.

use std::{
    env, fs,
    fs::File,
    io,
    path::Path,
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context, ensure};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    sys::{
        reboot::{RebootMode, reboot},
        termios::tcdrain,
        wait::{WaitStatus, wait},
    },
    unistd::Pid,
};

use super::{guest_streams, namespace::bring_lo_up, surroundings::mount_at};

/// Set by whoever starts the machine: a first process of a container is no guest.
const GUEST: &str = "TCPTRACE_TEST_GUEST";
/// Before the kernel's release, once this runs.
const GREETING: &str = "TCPTRACE-VM-KERNEL:";
/// Before what is wrong with the machine, if something is.
const BROKEN: &str = "TCPTRACE-VM-BROKEN:";
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
    if let Err(error) = run() {
        println!("\n{BROKEN} {}", format!("{error:#}").replace('\n', " "));
    }
    // What the serial line has not sent yet would be lost.
    tcdrain(io::stdout()).ok();
    let Err(why) = reboot(RebootMode::RB_POWER_OFF);
    println!("the machine cannot be switched off: {why}");
    Some(ExitCode::FAILURE)
}

/// Runs the tests, with the arguments given to this.
fn run() -> anyhow::Result<()> {
    for (kind, place) in MOUNTS {
        fs::create_dir_all(place).with_context(|| format!("making {place}"))?;
        mount_at(kind, place).with_context(|| format!("mounting {kind} at {place}"))?;
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").context("the release")?;
    println!("\n{GREETING} {}", release.trim());
    load_modules()?;
    bring_lo_up().context("bringing lo up")?;

    let child = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .env("TCPTRACE_BIN", BINARY)
        .stdin(Stdio::null())
        .spawn()
        .context("starting the tests")?;
    let status = reap_until(Pid::from_raw(i32::try_from(child.id())?))?;
    // 101 is the harness's when a test failed.
    ensure!(
        matches!(status, WaitStatus::Exited(_, 0 | 101)),
        "the tests ended with {status:?}"
    );
    guest_streams::send()
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
