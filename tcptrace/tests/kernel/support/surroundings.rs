//! What a machine may lack: each test's own view of /sys, in a private mount namespace.

use std::path::Path;

use anyhow::Context;
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{ignored, namespace::in_thread};

/// The places of tracefs, the usual one first.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug"];
const BTF: &str = "/sys/kernel/btf";

/// What is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// The descriptions of the classic tracepoints.
    pub(crate) tracefs: bool,
    /// The kernel's types.
    pub(crate) btf: bool,
}

/// The kernel's types are missing.
pub(crate) const NO_BTF: Surroundings = Surroundings {
    tracefs: true,
    btf: false,
};

impl Surroundings {
    /// Does something (starts a program) that sees just this much.
    pub(crate) fn run<T: Send>(
        self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        in_thread(|| {
            self.enter()?;
            work()
        })
    }

    /// The same, but that the kernel's types are those of a file.
    pub(crate) fn run_with_types<T: Send>(
        self,
        types: &Path,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        in_thread(|| {
            self.enter()?;
            let place = Path::new(BTF).join("vmlinux");
            mount(
                Some(types),
                &place,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .with_context(|| format!("putting {} in its place", types.display()))?;
            work()
        })
    }

    fn enter(self) -> anyhow::Result<()> {
        match unshare(CloneFlags::CLONE_NEWNS) {
            Ok(()) => {}
            Err(why @ Errno::EPERM) => {
                return Err(ignored(format!("no mount namespace can be made: {why}")));
            }
            Err(why) => return Err(why).context("making a mount namespace"),
        }
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).context("private mounts")?;
        for place in TRACEFS {
            hide(place)?;
        }
        if self.tracefs {
            mount_at("tracefs", TRACEFS[0])
                .map_err(|why| ignored(format!("tracefs cannot be mounted: {why}")))?;
        }
        if !self.btf {
            hide(BTF)?;
        } else if !Path::new(BTF).join("vmlinux").exists() {
            return Err(ignored("this kernel has no BTF"));
        }
        Ok(())
    }
}

/// Gives this process and all it starts a tracefs, if there is none: what the machine lacks to
/// show only until somebody mounts it. Where that is not allowed, the tests do without.
pub(crate) fn complete() {
    if has_tracefs() || !nix::unistd::geteuid().is_root() {
        return;
    }
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let done = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(None::<&str>, "/", None::<&str>, private, None::<&str>))
        .and_then(|()| mount_at("tracefs", TRACEFS[0]));
    if let Err(why) = done {
        eprintln!("tracefs cannot be mounted ({why}): accept() is not seen without fexit");
    }
}

/// tracefs is mounted in its usual place.
pub(crate) fn has_tracefs() -> bool {
    Path::new(TRACEFS[0]).join("events").is_dir()
}

/// Covers a directory with an empty one, if it is there.
fn hide(place: &str) -> anyhow::Result<()> {
    if Path::new(place).is_dir() {
        mount_at("tmpfs", place).with_context(|| format!("hiding {place}"))?;
    }
    Ok(())
}

pub(super) fn mount_at(kind: &str, place: &str) -> nix::Result<()> {
    mount(
        Some(kind),
        place,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )
}
