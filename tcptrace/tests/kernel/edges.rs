//! At the edges: namespaces that go and whose numbers come again, and views that are not the
//! host's.

use std::{
    fs, io,
    net::TcpStream,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::{
    mount::{MntFlags, MsFlags},
    sys::signal::Signal,
};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tcptrace::testing::{cgroup, monotonic_ns};

use crate::{
    peer::Peer,
    support::{
        Check, Deadline,
        bpf::OfCgroup,
        daemon::Daemon,
        hooks::{sees_connect, traces_functions},
        ignored,
        load::Load,
        namespace::{Namespace, configure, request, set_link},
        program::tcptrace,
        record::Record,
        sockets::begin_connect,
        tail::Tail,
        test_process::TestProcess,
        tests,
    },
};

tests![
    connections_of_a_deleted_namespace_are_ended,
    a_filter_means_the_namespace_that_has_the_number_now,
    a_time_namespace_changes_no_times,
    a_container_tells_no_host_and_no_paths_of_its_own,
    without_a_boot_id_ids_are_still_unique,
    a_connect_that_a_cgroups_program_forbids_is_told,
    a_connect_that_a_security_module_forbids_is_told,
    an_interface_has_the_name_that_it_has_then,
];

/// No more than is looked at.
const ENDS: [&str; 2] = ["--show", "connections"];
const PAIRS: usize = 300;
const HELD: [(&str, &str); 1] = [("state", "ESTABLISHED")];

/// A daemon that is stopped loses the ends of connections, and then their namespace is deleted.
fn connections_of_a_deleted_namespace_are_ended() -> Check {
    let mut daemon = Daemon::start(&["--ring-size", "16KiB", "--resync-interval", "1s"])?;
    let namespace = Namespace::new()?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let mut pairs = Vec::new();
    let held = "tcptrace_connections";
    let before = daemon.scrape()?.count(held, &HELD);
    for _ in 0..PAIRS {
        pairs.push(namespace.pair(&listener)?);
        // They are no burst.
        thread::sleep(Duration::from_millis(1));
    }
    let all = i64::try_from(2 * PAIRS)?;
    daemon.scrape_until("the connections to be held", |metrics| {
        metrics.count(held, &HELD) >= before + all
    })?;
    // No process is in that namespace, but one elsewhere holds its sockets.
    let walks = |daemon: &mut Daemon| -> anyhow::Result<()> {
        thread::sleep(Duration::from_millis(2_500));
        daemon.scrape_until("a comparison", |metrics| {
            metrics.count("tcptrace_tracker_uncompared", &[]) == 0
        })?;
        Ok(())
    };
    walks(&mut daemon)?;
    let metrics = daemon.scrape()?;
    ensure!(
        metrics.count(held, &HELD) >= before + all,
        "connections that live were given up: {metrics}"
    );
    daemon.signal(Signal::SIGSTOP)?;
    // The ring is full before they end.
    let elsewhere = Namespace::new()?;
    Load::new(&elsewhere)?.run(Duration::from_secs(3), 100)?;
    drop(pairs);
    drop(listener);
    drop(namespace);
    daemon.signal(Signal::SIGCONT)?;
    let metrics = daemon.scrape_until("all to be given up", |metrics| {
        // Those that were seen to close may go on alone, and keep the namespace.
        metrics.count(held, &HELD) < before + all / 10
            && metrics.count("tcptrace_tracker_uncompared", &[]) < all / 10
    })?;
    let lost = metrics.count("tcptrace_events_lost_total", &[("reason", "ring_full")]);
    ensure!(lost > all / 2, "only {lost} events were lost");
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

/// The kernel gives out the lowest number that is free.
fn a_filter_means_the_namespace_that_has_the_number_now() -> Check {
    let blue = Namespace::new()?;
    let (wanted, inode) = (Namespace::new()?, blue.inode());
    // As a name below /run/netns leads to it.
    let path = format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        blue.handle().as_raw_fd()
    );
    let both = format!("{path},{}", wanted.inode());
    let mut command = tcptrace(&["tail", "--format", "json", "--netns", &both]);
    let mut tail = Tail::start_as(&wanted, command.args(ENDS))?;
    drop(blue);
    // It is gone a little later than its last user.
    let deadline = Deadline::after(Duration::from_secs(10));
    let mut others = Vec::new();
    let green = loop {
        let next = Namespace::new()?;
        if next.inode() == inode {
            break Some(next);
        }
        // Lower numbers are given out first.
        if next.inode() < inode {
            others.push(next);
        }
        if deadline.is_over() {
            break None;
        }
        thread::sleep(Duration::from_millis(10));
    };
    let Some(green) = green else {
        // Where namespaces have no cookies the tail keeps its namespace, and so its number.
        ensure!(
            wanted.id()[1].is_none(),
            "the number {inode} did not come again"
        );
        tail.finish()?;
        return Ok(());
    };
    for namespace in [&green, &wanted] {
        let (listener, _) = namespace.listen("127.0.0.1:0")?;
        let (client, server) = namespace.pair(&listener)?;
        drop(client);
        drop(server);
    }
    tail.wait_count("connection", 2)?;
    for record in &tail.finish()?.0 {
        ensure!(record.is_in(&wanted), "another namespace's: {record}");
    }
    Ok(())
}

/// Starts what `command` says in namespaces that `prepare` makes, as a container's engine would.
fn contained(
    command: &mut Command,
    prepare: impl Fn() -> io::Result<()> + Send + Sync + 'static,
) -> &mut Command {
    // SAFETY: it makes system calls, and allocates nothing that another thread may hold locked: the
    // process that starts it has one thread that allocates at that moment.
    unsafe { command.pre_exec(prepare) }
}

/// unshare(2).
fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::unshare(flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// setns(2).
fn setns(path: &str, kind: libc::c_int) -> io::Result<()> {
    let namespace = fs::File::open(path)?;
    // SAFETY: no memory is involved.
    match unsafe { libc::setns(namespace.as_raw_fd(), kind) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn a_time_namespace_changes_no_times() -> Check {
    if !Path::new("/proc/self/ns/time").exists() {
        return Err(ignored("no time namespaces here"));
    }
    let day = 86_400;
    // Backwards no further than to the machine's start.
    let back = i64::try_from(monotonic_ns() / 2_000_000_000)?.min(day);
    for offset in [day, -back] {
        let namespace = Namespace::new()?;
        let (listener, _) = namespace.listen("127.0.0.1:0")?;
        let inode = namespace.inode().to_string();
        let mut command = tcptrace(&["tail", "--format", "json", "--netns", &inode]);
        let offsets = format!("monotonic {offset} 0\n");
        contained(command.args(ENDS), move || {
            unshare(libc::CLONE_NEWTIME)?;
            fs::write("/proc/self/timens_offsets", &offsets)?;
            // That was for its children. It enters itself, as no execve() does up to Linux 6.0.
            setns("/proc/self/ns/time_for_children", libc::CLONE_NEWTIME)
        });
        let tail = Tail::start_as(&namespace, &mut command)?;
        let before = jiff::Timestamp::now();
        let (client, server) = namespace.pair(&listener)?;
        drop(client);
        drop(server);
        let records = tail.finish_after(2)?;
        let after = jiff::Timestamp::now();
        for record in records.of("connection") {
            let closed: jiff::Timestamp =
                record.text("closed_at").context("it has ended")?.parse()?;
            let slack = jiff::SignedDuration::from_secs(1);
            ensure!(
                closed > before - slack && closed < after + slack,
                "{offset} s: {record}"
            );
        }
    }
    Ok(())
}

/// A directory of the cgroup v2 hierarchy that goes with this.
struct Cgroup(PathBuf);

impl Cgroup {
    fn make(name: &str) -> anyhow::Result<Self> {
        let root = cgroup::hierarchy().ok_or_else(|| ignored("no cgroup v2 hierarchy"))?;
        let path = root.join(name);
        fs::create_dir(&path)
            .map_err(|error| ignored(format!("no cgroup can be made: {error}")))?;
        Ok(Self(path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        eprintln!("{} could not be removed", self.0.display());
    }
}

fn mount(source: &str, target: &Path, kind: &str) -> io::Result<()> {
    let all = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    nix::mount::mount(None::<&str>, "/", None::<&str>, all, None::<&str>)?;
    if kind == "cgroup2" {
        nix::mount::umount2(target, MntFlags::MNT_DETACH)?;
    }
    nix::mount::mount(
        Some(source),
        target,
        Some(kind),
        MsFlags::empty(),
        None::<&str>,
    )?;
    Ok(())
}

/// A cgroup namespace and a host name of its own, as Docker's default has it.
fn a_container_tells_no_host_and_no_paths_of_its_own() -> Check {
    let root = cgroup::hierarchy().ok_or_else(|| ignored("no cgroup v2 hierarchy"))?;
    let cgroup = Cgroup::make("tt-container")?;
    let namespace = Namespace::new()?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let inode = namespace.inode().to_string();
    let mut command = tcptrace(&["tail", "--format", "json", "--netns", &inode]);
    let procs = cgroup.0.join("cgroup.procs");
    let point = root.clone();
    contained(command.args(ENDS), move || {
        fs::write(&procs, "0")?;
        unshare(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP | libc::CLONE_NEWUTS)?;
        mount("none", &point, "cgroup2")
    });
    let tail = Tail::start_as(&namespace, &mut command)?;
    let (client, server) = namespace.pair(&listener)?;
    drop(client);
    drop(server);
    let tail = tail.after_count("connection", 2)?;
    let (records, output) = tail.interrupt()?;
    output.must_end_with(0)?;
    for record in records.of("connection") {
        // The test's own cgroup is outside: it has a number, and no path from here.
        record.must_lack(&["host", "cgroup", "unit", "container_id"])?;
        ensure!(record.number("cgroup_id").is_some(), "{record}");
        if !traces_functions() && record.text("role") == Some("passive") {
            let source = record.text("handshake_source");
            ensure!(source != Some("sock_ops"), "{record}");
        }
    }
    for notice in ["records have no host", "cgroup_id"] {
        ensure!(output.stderr.contains(notice), "{output:?}");
    }
    Ok(())
}

/// /proc/sys is hidden, as some sandboxes do.
fn without_a_boot_id_ids_are_still_unique() -> Check {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let namespace = Namespace::new()?;
        let (listener, _) = namespace.listen("127.0.0.1:0")?;
        let inode = namespace.inode().to_string();
        let mut command = tcptrace(&["tail", "--format", "json", "--netns", &inode]);
        contained(command.args(ENDS), || {
            unshare(libc::CLONE_NEWNS)?;
            mount("none", Path::new("/proc/sys/kernel/random"), "tmpfs")
        });
        let tail = Tail::start_as(&namespace, &mut command)?;
        let (client, server) = namespace.pair(&listener)?;
        drop(client);
        drop(server);
        let records = tail.finish_after(2)?;
        let record: &Record = records.only("connection", &json!({"role": "active"}))?;
        record.must_lack(&["boot_id"])?;
        let run = record.text("run_id").context("a run")?;
        let (boot, _) = run.split_once('-').context("a run without a boot")?;
        ensure!(boot.len() == 8 && boot != "00000000", "{record}");
        runs.push(boot.to_owned());
    }
    ensure!(runs[0] != runs[1], "two runs are of one boot: {runs:?}");
    Ok(())
}

/// As systemd's IPAddressDeny and network policies do.
fn a_connect_that_a_cgroups_program_forbids_is_told() -> Check {
    if !sees_connect() {
        return Err(ignored("failed connects are not seen here"));
    }
    let cgroup = Cgroup::make("tt-forbidden")?;
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut process = TestProcess::start(&namespace, "tt-forbidden")?;
    process.enter(&cgroup.0)?;
    let _program = OfCgroup::forbid_connect(&cgroup.0)
        .map_err(|error| ignored(format!("no program of a cgroup: {error}")))?;
    let mut tail = Tail::start(&namespace, &ENDS)?;
    let forbidden = process.connect(address);
    ensure!(forbidden.is_err(), "nobody forbade it");
    tail.wait_count("connection", 1)?;
    let pid = process.pid();
    let records = tail.finish()?;
    records
        .only("connection", &json!({"role": "active"}))?
        .must_have(&json!({
            "verdict": "forbidden", "errno": "EPERM", "last_state": "CLOSE",
            "remote_address": "127.0.0.1", "remote_port": address.port(), "pid": pid,
            "pid_source": "connect",
        }))?;
    drop((process, listener));
    Ok(())
}

/// From now on this thread may connect to no port (landlock(7)).
fn restrict_connects() -> Check {
    /// `struct landlock_ruleset_attr` as of ABI 4 (Linux 6.7).
    #[repr(C)]
    struct Ruleset {
        handled_access_fs: u64,
        handled_access_net: u64,
    }
    const CONNECT_TCP: u64 = 1 << 1;
    let ruleset = Ruleset {
        handled_access_fs: 0,
        handled_access_net: CONNECT_TCP,
    };
    // SAFETY: the kernel reads the structure, whose size it is told.
    let created = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            &raw const ruleset,
            size_of::<Ruleset>(),
            0,
        )
    };
    let fd = i32::try_from(created)
        .ok()
        .filter(|&fd| fd >= 0)
        .ok_or_else(|| {
            let error = io::Error::last_os_error();
            ignored(format!("no Landlock for connects: {error}"))
        })?;
    // SAFETY: the descriptor is new, and nobody else's.
    let rules = unsafe { OwnedFd::from_raw_fd(fd) };
    nix::sys::prctl::set_no_new_privs()?;
    // SAFETY: no memory is involved.
    let restricted =
        unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    ensure!(restricted == 0, "{}", io::Error::last_os_error());
    Ok(())
}

fn a_connect_that_a_security_module_forbids_is_told() -> Check {
    if !sees_connect() {
        return Err(ignored("failed connects are not seen here"));
    }
    let namespace = Namespace::new()?;
    let (_listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &ENDS)?;
    let connected = namespace.run(|| {
        restrict_connects()?;
        Ok(TcpStream::connect(address).map(drop))
    })?;
    ensure!(connected.is_err(), "nobody forbade it");
    tail.wait_count("connection", 1)?;
    tail.finish()?
        .only("connection", &json!({"role": "active"}))?
        .must_have(&json!({
            "verdict": "forbidden", "errno": "EACCES", "last_state": "CLOSE",
            "remote_address": "127.0.0.1", "remote_port": address.port(),
            "pid": std::process::id(), "pid_source": "connect",
        }))
}

/// A socket that is bound to an interface begins to connect, and is closed.
fn connect_by(namespace: &Namespace, peer: &Peer, interface: &str) -> Check {
    let to = peer.address(443);
    namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind_device(Some(interface.as_bytes()))?;
        begin_connect(&socket, to)
    })
}

fn an_interface_has_the_name_that_it_has_then() -> Check {
    let namespace = Namespace::new()?;
    let peer = Peer::new(&namespace)?;
    // It is told of its own namespace's links.
    let mut tail = namespace.run(|| Tail::start(&namespace, &ENDS))?;
    connect_by(&namespace, &peer, "peer")?;
    tail.wait_count("connection", 1)?;
    namespace.run(|| {
        set_link("peer", false)?;
        let mut renamed = request("peer");
        renamed.ifr_ifru.ifru_newname = request("other").ifr_name;
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
        configure(&socket, libc::SIOCSIFNAME, &renamed)?;
        set_link("other", true)?;
        Ok(())
    })?;
    connect_by(&namespace, &peer, "other")?;
    let records = tail.finish_after(2)?;
    let names: Vec<_> = records
        .of("connection")
        .iter()
        .map(|record| record.text("interface"))
        .collect();
    ensure!(names == [Some("peer"), Some("other")], "{records}");
    Ok(())
}
