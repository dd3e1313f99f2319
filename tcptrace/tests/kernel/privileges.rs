//! What a daemon may still do once it traces.

use std::{collections::BTreeMap, fs, io::Write as _};

use anyhow::{Context, ensure};
use caps::Capability;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::support::{
    Check,
    daemon::{Daemon, Http, listens},
    ignored,
    namespace::Namespace,
    program::{Running, tcptrace, tcptrace_as_nobody_with, with_only},
    record::Record,
    tail::Tail,
    test_process::TestProcess,
    tests, wait_for,
};

tests![
    an_ordinary_user_with_two_capabilities_traces,
    what_needs_a_capability_is_there_with_it_and_not_without,
    only_the_keeper_and_its_threads_have_capabilities,
    a_capability_that_is_not_to_be_kept_is_given_up,
    without_the_sandbox_capabilities_are_given_up_all_the_same,
    the_thread_that_faces_the_network_is_refused_all_else,
    files_of_the_web_server_are_read_again_in_the_sandbox,
];

/// CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON and CAP_BPF.
const KEPT: &str = "000000c000280004";
const NONE: &str = "0000000000000000";

fn an_ordinary_user_with_two_capabilities_traces() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let inode = namespace.inode().to_string();
    let arguments = ["tail", "--format", "json", "--netns", &inode];
    let held = [Capability::CAP_BPF, Capability::CAP_PERFMON];
    let (mut command, _binary) = tcptrace_as_nobody_with(&arguments, &held)?;
    let mut tail = Tail::start_as(&namespace, &mut command)?;
    drop(namespace.pair(&listener)?);
    tail.wait_count("connection", 2)?;
    let threads = threads(tail.running().pid())?;
    for (name, fields) in &threads {
        let kept = match name.as_str() {
            "keeper" => "000000c000000000",
            _ => NONE,
        };
        let found = fields.get("CapEff").map(String::as_str);
        ensure!(found == Some(kept), "{name}: {found:?}");
        ensure!(fields.get("Uid").is_some_and(|uid| !uid.contains("0\t0")));
    }
    ensure!(threads.contains_key("keeper"), "{threads:?}");
    // It complains of the capabilities that it lacks.
    let (records, output) = tail.interrupt()?;
    output.must_end_with(0)?;
    let role = |role| json!({"role": role, "verdict": "graceful"});
    records
        .only("connection", &role("active"))?
        .must_have(&json!({"remote_port": address.port(), "pid_source": "connect"}))?;
    records.only("connection", &role("passive")).map(drop)
}

/// What a tail with these capabilities tells of a connection from before it, in another network
/// namespace: its record, and what the tail complained of.
fn told_of_older(more: &[Capability]) -> anyhow::Result<(Record, String)> {
    let namespace = Namespace::new()?;
    let mut server = TestProcess::start(&namespace, "older-server")?;
    let address = server.listen("127.0.0.1:0")?;
    let client = namespace.connect(address)?;
    let (listener, listening) = namespace.listen("127.0.0.1:0")?;
    let port = client.local_addr()?.port();
    let mut held = vec![
        Capability::CAP_BPF,
        Capability::CAP_PERFMON,
        // Root's files, and memory for the maps before Linux 5.11.
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_SYS_RESOURCE,
    ];
    held.extend(more);
    let inode = namespace.inode().to_string();
    let mut command = tcptrace(&["tail", "--format", "json", "--netns", &inode]);
    let mut tail = Tail::start_as(&namespace, with_only(&mut command, held))?;
    // Its walk and its search for owners have told by then what they found, by the process of a
    // listener, or why they could not. Whoever accepts is told instead of it, so nobody does until
    // then.
    let mut count = 0;
    let able = [Capability::CAP_SYS_ADMIN, Capability::CAP_SYS_PTRACE];
    let is_able = able.iter().all(|capability| more.contains(capability));
    let known = wait_for("the tail to know what was there before", || {
        let connecting = namespace.connect(listening)?;
        count += 2;
        tail.wait_count("handshake", count)?;
        drop((connecting, listener.accept()?));
        let complaints = tail.running().complaints();
        let knows = match is_able {
            true => tail
                .so_far()?
                .of("handshake")
                .iter()
                .any(|record| record.text("pid_source") == Some("proc")),
            false => complaints.contains("not all existing sockets could be listed"),
        };
        Ok(knows.then_some(()))
    });
    known.with_context(|| {
        let said = tail.running().complaints();
        format!("with {more:?}: {said}\n{}", tail.records())
    })?;
    drop(client);
    tail.wait("the older connection's record", |records| {
        let records = records.of("connection");
        let mut ports = records.iter().map(|record| record.number("local_port"));
        ports.any(|of| of == Some(port.into()))
    })?;
    let (records, output) = tail.interrupt()?;
    let record = records.only("connection", &json!({"local_port": port}))?;
    Ok((record.clone(), output.stderr))
}

fn what_needs_a_capability_is_there_with_it_and_not_without() -> Check {
    use Capability::{CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN, CAP_SYS_PTRACE};
    let numbers_only = "cgroups that were there before are told by their numbers";
    for (held, why) in [
        (CAP_SYS_PTRACE, "entering a network namespace"),
        (CAP_SYS_ADMIN, "takes CAP_SYS_PTRACE"),
    ] {
        let (record, said) = told_of_older(&[held])?;
        // The walk has not found it.
        record.must_lack(&["uid", "cgroup", "cgroup_id"])?;
        ensure!(record.text("pid_source") != Some("proc"), "{record:?}");
        ensure!(said.contains(why), "{said}");
    }
    let (record, said) = told_of_older(&[CAP_SYS_ADMIN, CAP_SYS_PTRACE])?;
    record.must_have(&json!({"uid": 0, "pid_source": "proc"}))?;
    record.must_lack(&["cgroup"])?;
    let has_cgroup = record.get("cgroup_id").is_some();
    ensure!(said.contains(numbers_only) == has_cgroup, "{said}");
    let (record, said) = told_of_older(&[CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH])?;
    record.must_have(&json!({"uid": 0, "pid_source": "proc"}))?;
    let is_named = record.get("cgroup").is_some();
    ensure!(
        is_named == tcptrace::testing::cgroup::hierarchy().is_some(),
        "{record:?}"
    );
    ensure!(!said.contains(numbers_only), "{said}");
    Ok(())
}

/// The status of each thread of a process, by the thread's name.
fn threads(pid: u32) -> anyhow::Result<BTreeMap<String, BTreeMap<String, String>>> {
    let mut threads = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // It may have ended since.
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
            continue;
        };
        let fields: BTreeMap<String, String> = status
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let name = fields.get("Name").context("no name")?.clone();
        threads.insert(name, fields);
    }
    Ok(threads)
}

/// Checks the threads of a daemon against what they should have.
fn must_have(pid: u32, kept: &str, seccomp: &str) -> Check {
    let threads = threads(pid)?;
    for name in ["tcptrace", "signals", "web", "keeper", "levels"] {
        let fields = threads
            .get(name)
            .with_context(|| format!("no thread {name}"))?;
        let is_privileged = matches!(name, "keeper" | "levels");
        let capabilities = if is_privileged { kept } else { NONE };
        // Signals are taken before the settings are known.
        let seccomp = if name == "signals" { "2" } else { seccomp };
        for (field, expected) in [
            ("CapEff", capabilities),
            ("CapPrm", capabilities),
            ("CapInh", NONE),
            ("CapBnd", NONE),
            ("CapAmb", NONE),
            ("NoNewPrivs", "1"),
            ("Seccomp", seccomp),
        ] {
            let found = fields.get(field).map(String::as_str);
            ensure!(
                found == Some(expected),
                "{field} of {name} is {found:?}, not {expected}"
            );
        }
    }
    Ok(())
}

fn only_the_keeper_and_its_threads_have_capabilities() -> Check {
    let daemon = Daemon::start(&[])?;
    must_have(daemon.pid(), KEPT, "2")?;
    let said = daemon.stop(Signal::SIGTERM)?;
    said.must_end_with(0)?;
    ensure!(!said.stderr.contains("sandbox"), "{said:?}");
    Ok(())
}

fn a_capability_that_is_not_to_be_kept_is_given_up() -> Check {
    let daemon = Daemon::start(&["--capabilities.keep", "none"])?;
    must_have(daemon.pid(), NONE, "2")?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)?;
    let daemon = Daemon::start(&["--capabilities.keep", "cap_sys_admin"])?;
    must_have(daemon.pid(), "0000000000200000", "2")?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn without_the_sandbox_capabilities_are_given_up_all_the_same() -> Check {
    let daemon = Daemon::start(&["--sandbox", "off"])?;
    must_have(daemon.pid(), KEPT, "0")?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

/// Linux 5.13 is the first with Landlock, and a kernel may be built without.
fn has_landlock() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|names| names.contains("landlock"))
}

fn the_thread_that_faces_the_network_is_refused_all_else() -> Check {
    let mut command = tcptrace(&["daemon", "--web.listen-address", "127.0.0.1:0"]);
    let mut running = Running::start(command.env("TCPTRACE_ATTEMPTS", "1"))?;
    let address = listens(&mut running)?;
    let mut http = Http::connect(address)?;
    let (status, tried) = http.get("/-/attempts")?;
    if status == 404 {
        return Err(ignored("the binary has no debug assertions"));
    }
    let refused = |what: &str, error: &str| tried.contains(&format!("{what}: {error}"));
    let calls = [
        "socket",
        "connect",
        "execve",
        "ptrace",
        "setns",
        "bpf",
        "open_by_handle_at",
        "kill",
    ];
    for what in calls.into_iter().chain(["write"]) {
        ensure!(refused(what, "EPERM"), "{what}: {tried}");
    }
    ensure!(refused("open /proc/1/mem", "EACCES"), "{tried}");
    if has_landlock() {
        ensure!(refused("open /etc/shadow", "EACCES"), "{tried}");
    }
    wait_for("the log to say what was refused", || {
        let said = running.complaints();
        let names = |call: &&str| said.contains(&format!("the sandbox refused {call}()"));
        Ok(calls.iter().any(names).then_some(()))
    })?;
    running.signal(Signal::SIGTERM)?;
    running.wait()?.must_end_with(0)
}

fn files_of_the_web_server_are_read_again_in_the_sandbox() -> Check {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("web.yml");
    fs::write(&path, "http_server_config: {}\n")?;
    let name = path.to_str().context("a path")?;
    let mut daemon = Daemon::start(&["--web.config.file", name])?;
    // As an editor does: a new file takes the name.
    let mut new = tempfile::NamedTempFile::new_in(&directory)?;
    new.write_all(b"http_server_config:\n  headers:\n    X-Frame-Options: deny\n")?;
    new.persist(&path)?;
    wait_for("the file to be read again", || {
        daemon.get("/-/healthy")?;
        Ok(daemon.complaints().contains("was read again").then_some(()))
    })?;
    let said = daemon.stop(Signal::SIGTERM)?;
    said.must_end_with(0)?;
    ensure!(!said.stderr.contains("sandbox"), "{said:?}");
    Ok(())
}
