//! What this process may still do once it traces.
//!
//! Loading and attaching the programs takes most capabilities. Of what follows, only entering
//! network namespaces, reading other processes' files, finding cgroups and starting walks needs
//! any. One thread keeps those capabilities, the keeper: it starts the threads that do these
//! things, and takes no data from outside. All other threads, those that face the network and
//! those that handle events among them, give up every capability for good.

pub mod capabilities;

use std::{
    io,
    sync::{
        OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread::JoinHandle,
};

use anyhow::Context as _;
use caps::Capability;
use nix::sys::prctl::set_no_new_privs;

use crate::worker;

type Work = Box<dyn FnOnce() + Send>;

/// The keeper takes its work from here; unset until privileges are given up.
static KEEPER: OnceLock<Sender<Work>> = OnceLock::new();

/// What is given up, and what is not.
#[derive(Clone, Debug)]
pub struct Privileges {
    /// The capabilities that the keeper keeps, if the process has them.
    pub keep: Vec<Capability>,
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
        worker::spawn("keeper", move || keep(&work)).context("starting the thread keeper")?;
        capabilities::keep_only(&[]).context(refused)?;
        // Only the first keeper is used.
        drop(KEEPER.set(to));
        Ok(())
    }
}

/// Gives up every capability of the calling thread.
pub fn give_up_all() -> anyhow::Result<()> {
    set_no_new_privs().context("setting no_new_privs")?;
    capabilities::keep_only(&[]).context("giving up capabilities")
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
