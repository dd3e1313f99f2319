//! What this process may still do once it traces.
//!
//! Loading and attaching the programs takes most capabilities. Of what follows, only entering
//! network namespaces, reading other processes' files, finding cgroups and starting walks needs
//! any. One thread keeps those capabilities, the keeper: it starts the threads that do these
//! things, and takes no data from outside. All other threads, those that face the network and
//! those that handle events among them, give up every capability for good.
//!
//! In the sandbox each thread also makes only the system calls that it is known to need, and opens
//! files only to read them. The keeper has no Landlock: a process in a Landlock domain may not look
//! at those outside (`hook_ptrace_access_check`), which is what it is for.

#[cfg(debug_assertions)]
pub mod attempts;
pub mod capabilities;
mod files;
mod seccomp;

use std::{
    fmt, io,
    path::PathBuf,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use anyhow::Context as _;
use caps::Capability;
use nix::sys::prctl::set_no_new_privs;
use syscalls::Sysno;

use self::seccomp::Room;
use crate::worker;

type Work = Box<dyn FnOnce() + Send>;

/// The keeper takes its work from here; unset until privileges are given up.
static KEEPER: OnceLock<Sender<Work>> = OnceLock::new();

/// The threads that have given up their capabilities are in the sandbox.
static SANDBOXED: AtomicBool = AtomicBool::new(false);

/// What is given up, and what is not.
#[derive(Clone, Debug)]
pub struct Privileges {
    /// The capabilities that the keeper keeps, if the process has them.
    pub keep: Vec<Capability>,
    pub sandbox: Sandbox,
    /// The host's resolver will be asked for names.
    pub resolving: bool,
}

/// Whether threads are restricted to the system calls and files that they are known to need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sandbox {
    /// They are, as far as the kernel can do that.
    On,
    /// They are not; capabilities are given up nevertheless.
    Off,
}

impl Privileges {
    /// Starts the keeper, and gives up all else: the calling thread, and those that it starts from
    /// now on, have no capability any more. To be called once, when the programs are attached.
    ///
    /// Fails when the kernel refuses to take a capability away, or the keeper cannot be started.
    pub fn give_up_others(&self) -> anyhow::Result<()> {
        let refused = "giving up capabilities";
        set_no_new_privs().context("setting no_new_privs")?;
        capabilities::keep_only(&self.keep).context(refused)?;
        let (to, work) = channel();
        let is_on = self.sandbox == Sandbox::On;
        worker::spawn("keeper", move || {
            if is_on {
                told_if_not(seccomp::restrict(Room::Keeper));
            }
            keep(&work);
        })
        .context("starting the thread keeper")?;
        capabilities::keep_only(&[]).context(refused)?;
        if is_on {
            let room = if self.resolving {
                Room::Resolving
            } else {
                Room::Others
            };
            let everywhere = [PathBuf::from("/")];
            told_if_not(seccomp::restrict(room));
            told_if_not(files::restrict(&everywhere, self.resolving));
            SANDBOXED.store(true, Ordering::Relaxed);
        }
        // Only the first keeper is used.
        drop(KEEPER.set(to));
        Ok(())
    }
}

/// Lets the calling thread, and those that it starts, read only files below `directories`, unless
/// the sandbox is off.
pub fn read_only_below(directories: &[PathBuf]) {
    if SANDBOXED.load(Ordering::Relaxed) {
        told_if_not(files::restrict(directories, false));
    }
}

/// Whether the sandbox is on, so that it may be why something was refused.
pub fn is_sandboxed() -> bool {
    SANDBOXED.load(Ordering::Relaxed)
}

/// Returns in words what the sandbox has refused since the last time: a fault, in this program or
/// of somebody who has got into it.
pub fn refused() -> Option<String> {
    let number = seccomp::take_refused()?;
    let call = usize::try_from(number).ok().and_then(Sysno::new);
    // A kernel may have calls that are newer than the list.
    let name = call.map_or_else(
        || format!("system call {number}"),
        |call| format!("{call}()"),
    );
    Some(format!(
        "the sandbox refused {name}: something may be missing. If it is not a fault that you know of, report it; --sandbox off allows everything"
    ))
}

fn told_if_not<T>(done: Result<T, impl fmt::Display>) {
    if let Err(error) = done {
        tracing::warn!("the sandbox is incomplete: {error:#}");
    }
}

/// Gives up every capability of the calling thread, and restricts it to the system calls of those
/// that have none.
pub fn give_up_all() -> anyhow::Result<()> {
    set_no_new_privs().context("setting no_new_privs")?;
    capabilities::keep_only(&[]).context("giving up capabilities")?;
    seccomp::restrict(Room::Others).context("restricting its system calls")
}

fn keep(work: &Receiver<Work>) {
    while let Ok(work) = work.recv() {
        work();
    }
}

/// Runs `work` with the capabilities that were kept, and waits for its result. Before any were
/// given up, the calling thread runs it.
///
/// # Panics
///
/// When `work` does.
pub fn run_privileged<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let Some(keeper) = KEEPER.get() else {
        return work();
    };
    let (to, result) = channel();
    let work = move || {
        // The other end waits.
        let _sent = to.send(work());
    };
    let sent = keeper.send(Box::new(work)).map_err(|_| ());
    match sent.and_then(|()| result.recv().map_err(|_| ())) {
        Ok(result) => result,
        Err(()) => panic!("the thread keeper has panicked; the log says where"),
    }
}

/// Starts a thread that has the capabilities that were kept.
pub fn spawn<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    run_privileged(move || worker::spawn(name, work))
}
