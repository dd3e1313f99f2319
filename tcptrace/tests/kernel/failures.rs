//! What goes wrong around a daemon: no number is wrong, and what is said has the way out.

use std::{
    fs, hint,
    net::TcpListener,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context, bail, ensure};
use nix::{
    errno::Errno,
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::signal::Signal,
    unistd::Pid,
};
use tcptrace::testing::cgroup;

use crate::support::{
    Check,
    daemon::Daemon,
    exposition::Metrics,
    ignored,
    namespace::Namespace,
    program::{Running, tcptrace},
    surroundings::Surroundings,
    test_process::TestProcess,
    tests, wait_for,
};

tests![
    a_program_that_somebody_detaches_is_missed,
    a_program_that_the_verifier_refuses_is_explained,
    a_memory_limit_below_the_ring_is_explained,
    two_daemons_at_once_count_the_same,
    after_a_kill_the_next_daemon_knows_what_is_open,
    a_daemon_that_is_last_in_line_on_one_processor_counts_all,
    a_thousand_namespaces_come_and_go_and_nothing_is_left,
];

const ESTABLISHED: &str = "tcptrace_connections_established_total";
const CLOSED: &str = "tcptrace_connections_closed_total";

/// Detaches a link by its number, as `bpftool link detach` does.
fn detach_link(id: u32) -> anyhow::Result<()> {
    const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
    const BPF_LINK_DETACH: libc::c_int = 34;
    /// The beginning of `union bpf_attr`, zero behind its first number.
    #[repr(C)]
    struct Attributes([u32; 4]);
    let call = |command: libc::c_int, first: u32| {
        let mut attributes = Attributes([first, 0, 0, 0]);
        // SAFETY: the kernel reads as many bytes of `attributes` as its size says.
        let returned = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                command,
                &raw mut attributes,
                size_of::<Attributes>(),
            )
        };
        Ok::<_, anyhow::Error>(Errno::result(returned)?)
    };
    let link = i32::try_from(call(BPF_LINK_GET_FD_BY_ID, id)?)?;
    // SAFETY: the kernel has just made it for us.
    let link = unsafe { OwnedFd::from_raw_fd(link) };
    call(BPF_LINK_DETACH, link.as_raw_fd().try_into()?)?;
    Ok(())
}

fn a_program_that_somebody_detaches_is_missed() -> Check {
    let mut daemon = Daemon::start(&[])?;
    let mut id = None;
    for file in fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid()))? {
        let text = fs::read_to_string(file?.path()).unwrap_or_default();
        if text.contains("link_type:\tcgroup") {
            let line = text.lines().find_map(|line| line.strip_prefix("link_id:"));
            id = line.and_then(|line| line.trim().parse().ok());
        }
    }
    let id = id.ok_or_else(|| ignored("no program is attached by a link that can be detached"))?;
    let (name, hook) = ("tcptrace_hook_attached", "tcp_create_openreq_child");
    let before = daemon.scrape()?;
    ensure!(before.count(name, &[("hook", hook), ("source", "sock_ops")]) == 1);
    ensure!(before.count("tcptrace_hook_detachments_total", &[]) == 0);
    detach_link(id)?;
    let gone = [("hook", hook), ("source", "none")];
    let after = daemon.scrape_until("the detached program", |metrics| metrics.has(name, &gone))?;
    ensure!(after.count(name, &gone) == 0, "{after}");
    ensure!(after.count("tcptrace_hook_detachments_total", &[]) == 1);
    let said = daemon.complaints();
    ensure!(
        said.contains("somebody else detached the sock_ops program"),
        "{said}"
    );
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

/// BTF that says of a field that it is behind the end of its struct.
fn a_program_that_the_verifier_refuses_is_explained() -> Check {
    let directory = tempfile::tempdir()?;
    let types = fs::read("/sys/kernel/btf/vmlinux")
        .map_err(|why| ignored(format!("this kernel has no BTF: {why}")))?;
    let path = directory.path().join("vmlinux");
    fs::write(&path, with_field_behind_the_end(types, "inet_sport")?)?;
    let mut command = tcptrace(&["tail", "--attach", "tp_btf"]);
    command.env("TMPDIR", directory.path());
    let output = Surroundings {
        tracefs: true,
        btf: true,
    }
    .run_with_types(&path, || Running::to_end(&mut command))?;
    output.must_end_with(1)?;
    ensure!(output.stderr.lines().count() == 1, "{output:?}");
    let kept = "The verifier says: ";
    let (_, said) = output.stderr.split_once(kept).context("no objection")?;
    let (objection, rest) = said
        .split_once(" (its whole log is in ")
        .context("no file")?;
    let (path, _) = rest.split_once(')').context("no file")?;
    let log = fs::read_to_string(path)?;
    ensure!(
        log.contains(objection) && log.lines().count() > 10,
        "{objection}: {log}"
    );
    Ok(())
}

/// Moves the only member of a name far behind the end of its struct.
fn with_field_behind_the_end(mut types: Vec<u8>, field: &str) -> anyhow::Result<Vec<u8>> {
    let word = |at: usize| -> anyhow::Result<usize> {
        let bytes = types.get(at..at + 4).context("BTF ends early")?;
        Ok(u32::from_ne_bytes(bytes.try_into()?) as usize)
    };
    let (header, strings) = (word(4)?, word(16)?);
    let name = format!("\0{field}\0");
    let start = header + strings;
    let found = types[start..]
        .windows(name.len())
        .position(|window| window == name.as_bytes());
    let name = u32::try_from(found.context("no such name")? + 1)?.to_ne_bytes();
    // A member is its name, its type and its offset in bits.
    let members: Vec<usize> = (header..start - 12)
        .step_by(4)
        .filter(|&at| types[at..at + 4] == name)
        .collect();
    let [member] = members[..] else {
        bail!("{} members are called {field}", members.len());
    };
    types[member + 8..member + 12].copy_from_slice(&(30_000_u32 * 8).to_ne_bytes());
    Ok(types)
}

/// A cgroup with a limit on memory.
struct MemoryLimit(PathBuf);

impl MemoryLimit {
    fn new(name: &str, bytes: u64) -> anyhow::Result<Self> {
        let first = Path::new("/sys/fs/cgroup/memory");
        let (root, file) = match cgroup::hierarchy() {
            _ if first.join("memory.limit_in_bytes").exists() => {
                (first.to_owned(), "memory.limit_in_bytes")
            }
            Some(second) => {
                let enabled = fs::write(second.join("cgroup.subtree_control"), "+memory");
                enabled.map_err(|why| ignored(format!("no limit on memory: {why}")))?;
                (second, "memory.max")
            }
            None => return Err(ignored("no cgroups")),
        };
        let path = root.join(name);
        fs::create_dir(&path).map_err(|why| ignored(format!("no cgroup can be made: {why}")))?;
        let limit = Self(path);
        fs::write(limit.0.join(file), bytes.to_string()).context("limiting memory")?;
        Ok(limit)
    }

    /// Has a program run in it.
    fn apply<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let procs = self.0.join("cgroup.procs");
        // SAFETY: one system call or a few, with a path that was made before.
        unsafe { command.pre_exec(move || fs::write(&procs, "0")) }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let removed = wait_for(
            "the cgroup to be empty",
            || Ok(fs::remove_dir(&self.0).ok()),
        );
        if let Err(why) = removed {
            eprintln!("{}: {why}", self.0.display());
        }
    }
}

fn a_memory_limit_below_the_ring_is_explained() -> Check {
    let limit = MemoryLimit::new("tt-memory", 48 << 20)?;
    let mut command = tcptrace(&["tail", "--ring-size", "64MiB", "--duration", "1ms"]);
    let output = Running::to_end(limit.apply(&mut command))?;
    if output.status.success() {
        return Err(ignored("this kernel counts no map (before Linux 5.11)"));
    }
    output.must_end_with(1)?;
    ensure!(
        output
            .stderr
            .contains("67108864 bytes: choose a smaller --ring-size"),
        "{output:?}"
    );
    let mut command = tcptrace(&["tail", "--ring-size", "1MiB", "--duration", "1ms"]);
    Running::to_end(limit.apply(&mut command))?.must_end_with(0)
}

/// How many connections of a port the passive side has counted, by a metric.
fn passive(metrics: &Metrics, name: &str, port: &str) -> u64 {
    let count = metrics.count(name, &[("role", "passive"), ("port", port)]);
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn loses_nothing(metrics: &Metrics) -> Check {
    let lost = metrics.count("tcptrace_events_lost_total", &[]);
    ensure!(lost == 0, "{lost} events were lost:\n{metrics}");
    Ok(())
}

fn two_daemons_at_once_count_the_same() -> Check {
    const CONNECTIONS: u64 = 50;
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let port = address.port().to_string();
    let mut daemons = [
        Daemon::start(&["--metrics.ports", &port])?,
        Daemon::start(&["--metrics.ports", &port])?,
    ];
    for _ in 0..CONNECTIONS {
        drop(namespace.pair(&listener)?);
    }
    for daemon in &mut daemons {
        let metrics = daemon.scrape_until("every end", |metrics| {
            passive(metrics, CLOSED, &port) >= CONNECTIONS
        })?;
        loses_nothing(&metrics)?;
        for name in [ESTABLISHED, CLOSED] {
            ensure!(
                passive(&metrics, name, &port) == CONNECTIONS,
                "{name}: {metrics}"
            );
        }
    }
    // The end of one is nothing to the other.
    let [first, mut second] = daemons;
    first.stop(Signal::SIGTERM)?.must_end_with(0)?;
    drop(namespace.pair(&listener)?);
    let metrics = second.scrape_until("one more", |metrics| {
        passive(metrics, CLOSED, &port) > CONNECTIONS
    })?;
    ensure!(
        passive(&metrics, CLOSED, &port) == CONNECTIONS + 1,
        "{metrics}"
    );
    second.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn after_a_kill_the_next_daemon_knows_what_is_open() -> Check {
    const OPEN: usize = 20;
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let port = address.port().to_string();
    let daemon = Daemon::start(&["--metrics.ports", &port])?;
    let at = daemon.address().to_string();
    let open: Vec<_> = (0..OPEN)
        .map(|_| namespace.pair(&listener))
        .collect::<Result<_, _>>()?;
    let killed = daemon.stop(Signal::SIGKILL)?;
    ensure!(!killed.status.success(), "{killed:?}");
    let arguments = [
        "daemon",
        "--web.listen-address",
        &at,
        "--metrics.ports",
        &port,
    ];
    let mut next = Daemon::start_as(&mut tcptrace(&arguments))?;
    let before = next.scrape()?;
    drop(open);
    let unknown = [("role", "unknown")];
    let after = next.scrape_until("their ends", |metrics| {
        let ended = metrics.count(CLOSED, &unknown) - before.count(CLOSED, &unknown);
        usize::try_from(ended).is_ok_and(|ended| ended >= 2 * OPEN)
    })?;
    loses_nothing(&after)?;
    // It did not see them open.
    ensure!(passive(&after, ESTABLISHED, &port) == 0, "{after}");
    next.stop(Signal::SIGTERM)?.must_end_with(0)
}

/// Something else always wants the one processor that it may use, and goes first. Meanwhile the
/// daemon may say that it cannot tell; then it has missed nothing.
fn a_daemon_that_is_last_in_line_on_one_processor_counts_all() -> Check {
    const CONNECTIONS: u64 = 300;
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let port = address.port().to_string();
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let processor = (0..CpuSet::count())
        .find(|&processor| allowed.is_set(processor).unwrap_or(false))
        .context("a processor")?;
    let mut one = CpuSet::new();
    one.set(processor)?;
    let mut daemon = Daemon::start(&["--metrics.ports", &port])?;
    for thread in fs::read_dir(format!("/proc/{}/task", daemon.pid()))? {
        let name = thread?.file_name();
        let thread: i32 = name
            .to_string_lossy()
            .parse()
            .context("a thread's number")?;
        sched_setaffinity(Pid::from_raw(thread), &one)?;
        let last = libc::sched_param { sched_priority: 0 };
        // SAFETY: the kernel reads `last`.
        let set = unsafe { libc::sched_setscheduler(thread, libc::SCHED_IDLE, &raw const last) };
        Errno::result(set)?;
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let bound = sched_setaffinity(Pid::from_raw(0), &one);
            while bound.is_ok() && !ended.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        });
        let starved = (|| {
            for _ in 0..CONNECTIONS {
                drop(namespace.pair(&listener)?);
            }
            let (status, said) = daemon.get("/metrics")?;
            ensure!(
                status == 200 || (status == 503 && said.contains("it is overloaded or stuck")),
                "{status}: {said}"
            );
            Ok(())
        })();
        ended.store(true, Ordering::Relaxed);
        starved
    })?;
    let metrics = daemon.scrape_until("every end", |metrics| {
        passive(metrics, CLOSED, &port) >= CONNECTIONS
    })?;
    loses_nothing(&metrics)?;
    ensure!(passive(&metrics, CLOSED, &port) == CONNECTIONS, "{metrics}");
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

/// With a connection in each, and a process in some, so that walks find them on their way.
fn a_thousand_namespaces_come_and_go_and_nothing_is_left() -> Check {
    const NAMESPACES: u64 = 1000;
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let port = free.port().to_string();
    let mut daemon = Daemon::start(&[
        "--metrics.ports",
        &port,
        "--resync-interval",
        "1s",
        "--poll-interval",
        "1s",
    ])?;
    let descriptors = |daemon: &Daemon| -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count())
    };
    let before = descriptors(&daemon)?;
    for number in 0..NAMESPACES {
        let namespace = Namespace::new()?;
        let (listener, _) = namespace.listen(&free.to_string())?;
        let process = (number % 20 == 0)
            .then(|| TestProcess::start(&namespace, "in-namespace"))
            .transpose()?;
        drop(namespace.pair(&listener)?);
        drop(process);
    }
    let metrics = daemon.scrape_until("every end", |metrics| {
        passive(metrics, CLOSED, &port) >= NAMESPACES
    })?;
    loses_nothing(&metrics)?;
    ensure!(passive(&metrics, CLOSED, &port) == NAMESPACES, "{metrics}");
    wait_for("no descriptor to be left", || {
        Ok((descriptors(&daemon)? <= before).then_some(()))
    })?;
    let said = daemon.complaints();
    ensure!(!said.contains("sockets could be listed"), "{said}");
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}
