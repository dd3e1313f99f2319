//! Whose sockets they are: a connection ends when the last process that holds it lets it go.

use std::{
    os::fd::AsFd,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context, anyhow, ensure};
use nix::{
    fcntl::{FcntlArg, FdFlag, fcntl},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;

use super::{
    stage::{SERVICE, Stage},
    suite::scenarios,
};
use crate::{
    peer::Flow,
    support::{Check, puppet::Puppet},
};

scenarios![exit_of_the_owner, sigkill_of_the_owner, fork_and_last_close];

/// Held while a process is started: what another scenario leaves open to its child must not be
/// inherited by this one.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static STARTING: Mutex<()> = Mutex::new(());
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process of its own that has a connection to the peer.
fn connected(stage: &Stage, name: &str) -> anyhow::Result<(Puppet, Flow)> {
    let alone = alone();
    let mut puppet = Puppet::start(&stage.namespace, name)?;
    drop(alone);
    let mut flow = stage.peer.listen(SERVICE);
    let to = stage.peer.address(SERVICE);
    thread::scope(|scope| {
        let connecting = scope.spawn(|| puppet.connect(to));
        flow.open()?;
        connecting.join().map_err(|_| anyhow!("it panicked"))?
    })?;
    Ok((puppet, flow))
}

/// What ends like a close().
fn closed(stage: &Stage, mut flow: Flow, pid: u32, comm: &str) -> Check {
    flow.close()?;
    let life = stage.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({
        "verdict": "graceful", "closed_by": "local",
        "pid": pid, "comm": comm, "pid_source": "connect",
    }))?;
    Ok(())
}

fn exit_of_the_owner(stage: &Stage) -> Check {
    let (puppet, flow) = connected(stage, "tt-mortal")?;
    let pid = puppet.pid();
    drop(puppet);
    closed(stage, flow, pid, "tt-mortal")
}

fn sigkill_of_the_owner(stage: &Stage) -> Check {
    let (puppet, flow) = connected(stage, "tt-victim")?;
    let pid = puppet.pid();
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL).context("killing it")?;
    closed(stage, flow, pid, "tt-victim")
}

/// The child inherits the socket, and its end is the connection's; whose it is does not change.
fn fork_and_last_close(stage: &Stage) -> Check {
    let (socket, flow) = stage.connected()?;
    let alone = alone();
    let inherit = FcntlArg::F_SETFD(FdFlag::empty());
    fcntl(socket.as_fd(), inherit).context("leaving it open to children")?;
    let heir = Puppet::start(&stage.namespace, "tt-heir")?;
    drop(socket);
    drop(alone);
    let lives = stage.so_far()?;
    ensure!(lives.len() == 1, "more than one connection");
    lives[0].went("CLOSE SYN_SENT ESTABLISHED")?;
    drop(heir);
    closed(stage, flow, std::process::id(), &comm()?)
}

/// What this process is called.
fn comm() -> anyhow::Result<String> {
    let comm = std::fs::read_to_string("/proc/self/comm").context("/proc/self/comm")?;
    Ok(comm.trim_end().to_owned())
}
