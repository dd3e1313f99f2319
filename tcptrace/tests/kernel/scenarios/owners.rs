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
    scenario::{SERVICE, Scenario},
    suite::scenarios,
};
use crate::{
    peer::Flow,
    support::{Check, test_process::TestProcess},
};

scenarios![exit_of_the_owner, sigkill_of_the_owner, fork_and_last_close];

/// Held while a process is started: what another scenario leaves open to its child must not be
/// inherited by this one.
pub(super) fn alone() -> MutexGuard<'static, ()> {
    static STARTING: Mutex<()> = Mutex::new(());
    STARTING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process of its own that has a connection to the peer.
fn connected(scenario: &Scenario, name: &str) -> anyhow::Result<(TestProcess, Flow)> {
    let alone = alone();
    let mut process = TestProcess::start(&scenario.namespace, name)?;
    drop(alone);
    let mut flow = scenario.peer.listen(SERVICE);
    let to = scenario.peer.address(SERVICE);
    thread::scope(|scope| {
        let connecting = scope.spawn(|| process.connect(to));
        flow.open()?;
        connecting.join().map_err(|_| anyhow!("it panicked"))?
    })?;
    Ok((process, flow))
}

/// What ends like a close().
fn closed(scenario: &Scenario, mut flow: Flow, pid: u32, comm: &str) -> Check {
    flow.close()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({
        "verdict": "graceful", "closed_by": "local",
        "pid": pid, "comm": comm, "pid_source": "connect",
    }))?;
    Ok(())
}

fn exit_of_the_owner(scenario: &Scenario) -> Check {
    let (process, flow) = connected(scenario, "tt-mortal")?;
    let pid = process.pid();
    drop(process);
    closed(scenario, flow, pid, "tt-mortal")
}

fn sigkill_of_the_owner(scenario: &Scenario) -> Check {
    let (process, flow) = connected(scenario, "tt-victim")?;
    let pid = process.pid();
    kill(Pid::from_raw(pid.try_into()?), Signal::SIGKILL).context("killing it")?;
    closed(scenario, flow, pid, "tt-victim")
}

/// The child inherits the socket, and its end is the connection's; whose it is does not change.
fn fork_and_last_close(scenario: &Scenario) -> Check {
    let (socket, flow) = scenario.connected()?;
    let alone = alone();
    let inherit = FcntlArg::F_SETFD(FdFlag::empty());
    fcntl(socket.as_fd(), inherit).context("leaving it open to children")?;
    let heir = TestProcess::start(&scenario.namespace, "tt-heir")?;
    drop(socket);
    drop(alone);
    let lives = scenario.so_far()?;
    ensure!(lives.len() == 1, "more than one connection");
    lives[0].went("CLOSE SYN_SENT ESTABLISHED")?;
    drop(heir);
    closed(scenario, flow, std::process::id(), &comm()?)
}

/// What this process is called.
fn comm() -> anyhow::Result<String> {
    let comm = std::fs::read_to_string("/proc/self/comm").context("/proc/self/comm")?;
    Ok(comm.trim_end().to_owned())
}
