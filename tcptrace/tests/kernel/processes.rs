//! Whose a connection is: the right process, container and interface, or none; never a wrong one.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, FromRawFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use io_uring::{IoUring, opcode, types};
use nix::{errno::Errno, sys::signal::Signal};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tcptrace::testing::{cgroup, monotonic_ns};
use tcptrace_common::CGROUP_PATH;
use tempfile::tempdir;

use crate::{
    peer::{HERE_ON_LINK, PEER_ON_LINK, Peer},
    support::{
        Check,
        bpf::Steering,
        hooks::{listened_by, sees_accept, traces_functions},
        ignored, mptcp,
        namespace::Namespace,
        program::{Running, tcptrace},
        record::{Record, Records, between},
        tail::Tail,
        test_process::TestProcess,
        tests, wait_for,
    },
};

tests![
    of_two_that_share_a_port_each_has_its_own,
    a_listener_of_ipv6_only_has_no_connection_of_ipv4,
    a_connection_steered_past_a_listener_is_not_the_listeners,
    a_listener_has_its_name_of_the_moment,
    a_listener_that_is_gone_is_named_as_gone,
    a_connection_belongs_to_the_process_that_accepts_it,
    an_accept_by_io_uring_is_seen_where_functions_can_be_traced,
    an_accept_that_comes_late_is_waited_for_so_long,
    a_container_is_named_when_it_is_gone_too,
    a_cgroup_that_is_gone_before_anybody_looks_is_named,
    a_cgroup_is_asked_for_by_its_unit,
    a_capture_holds_the_names_too,
    on_a_link_local_address_the_interface_is_told,
    a_path_that_the_kernel_opens_is_no_thread_of_the_kernels,
];

/// What the process of a record is called.
fn comm(record: &Record) -> Option<&str> {
    record.text("comm")
}

/// The passive side of the connection from there.
fn passive_from<'a>(records: &'a Records, kind: &str, port: u16) -> anyhow::Result<&'a Record> {
    records.only(kind, &json!({"role": "passive", "remote_port": port}))
}

/// The older one listened before the tail began (a rolling restart), where no walk finds it: no
/// process is in that namespace.
fn of_two_that_share_a_port_each_has_its_own() -> Check {
    const CLIENTS: usize = 12;
    let namespace = Namespace::new()?;
    let old = namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())?;
        socket.listen(16)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener::from(socket))
    })?;
    let address = old.local_addr()?;
    let mut tail = Tail::start(&namespace, &[])?;
    let mut new = TestProcess::start(&namespace, "tt-new")?;
    new.tell(&format!("listen-sharing {address}"))?;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(namespace.connect(address)?);
    }
    tail.wait_count("handshake", 2 * CLIENTS)?;
    let own = std::process::id();
    let mut taken = Vec::new();
    while let Ok((_, from)) = old.accept() {
        taken.push((from.port(), own));
    }
    loop {
        let from = new.tell("accept-any")?;
        if from.is_empty() {
            break;
        }
        taken.push((from.parse::<SocketAddr>()?.port(), new.pid()));
    }
    drop(clients);
    let records = tail.finish_after(2 * CLIENTS)?;
    ensure!(taken.len() == CLIENTS, "{} were taken", taken.len());
    for (port, pid) in taken {
        let early = passive_from(&records, "handshake", port)?;
        let named = early.number("pid");
        ensure!(
            named.is_none() || named == Some(pid.into()),
            "{pid} took what is said to be another's: {early}"
        );
        let late = passive_from(&records, "connection", port)?;
        if sees_accept() {
            late.must_have(&json!({"pid": pid, "pid_source": "accept"}))?;
        }
    }
    Ok(())
}

/// The other one listened before the tail began, where no walk finds it.
fn a_listener_of_ipv6_only_has_no_connection_of_ipv4() -> Check {
    let namespace = Namespace::new()?;
    let (_other, v4) = namespace.listen("0.0.0.0:0")?;
    let mut tail = Tail::start(&namespace, &[])?;
    let mut only = TestProcess::start(&namespace, "tt-v6")?;
    only.tell(&format!("listen-v6-only [::]:{}", v4.port()))
        .map_err(|error| ignored(format!("no IPv6 here: {error:#}")))?;
    let v4 = namespace.connect(([127, 0, 0, 1], v4.port()).into())?;
    let v6 = namespace.connect((Ipv6Addr::LOCALHOST, v4.peer_addr()?.port()).into())?;
    tail.wait_count("handshake", 4)?;
    let records = tail.finish()?;
    let named = passive_from(&records, "handshake", v4.local_addr()?.port())?;
    ensure!(comm(named) != Some("tt-v6"), "of IPv6 only: {named}");
    passive_from(&records, "handshake", v6.local_addr()?.port())?
        .must_have(&json!({"comm": "tt-v6", "pid_source": listened_by()}))
}

fn a_connection_steered_past_a_listener_is_not_the_listeners() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &[])?;
    let mut server = TestProcess::start(&namespace, "tt-server")?;
    let address = server.listen("127.0.0.1:0")?;
    let (proxy, _) = namespace.listen("127.0.0.1:0")?;
    let before = namespace.connect(address)?;
    let steering = Steering::of_port(namespace.handle(), address.port(), &proxy)
        .map_err(|error| ignored(format!("no sk_lookup program can be attached: {error}")))?;
    let steered = namespace.connect(address)?;
    tail.wait_count("handshake", 4)?;
    let (accepted, from) = proxy.accept()?;
    ensure!(from == steered.local_addr()?, "somebody else's");
    let port = from.port();
    drop((steered, accepted));
    tail.wait_count("connection", 2)?;
    drop(steering);
    let records = tail.finish()?;
    passive_from(&records, "handshake", before.local_addr()?.port())?
        .must_have(&json!({"comm": "tt-server"}))?;
    let own = std::process::id();
    for kind in ["handshake", "connection"] {
        let record = passive_from(&records, kind, port)?;
        let pid = record.number("pid");
        ensure!(
            pid.is_none() || pid == Some(own.into()),
            "it is the proxy's: {record}"
        );
    }
    passive_from(&records, "connection", port)?
        .must_have(&json!({"pid": own, "local_port": address.port()}))
}

/// By exec, and by its own choice.
fn a_listener_has_its_name_of_the_moment() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &[])?;
    let mut server = TestProcess::start(&namespace, "tt-first")?;
    let address = server.listen("127.0.0.1:0")?;
    let mut clients = vec![(namespace.connect(address)?, "tt-first")];
    for (order, name) in [("rename", "tt-second"), ("exec", "tt-third")] {
        let pid = server.tell(&format!("{order} {name}"))?;
        ensure!(
            pid.is_empty() || pid == server.pid().to_string(),
            "another process"
        );
        clients.push((namespace.connect(address)?, name));
    }
    tail.wait_count("handshake", 2 * clients.len())?;
    let records = tail.finish()?;
    for (client, name) in clients {
        let record = passive_from(&records, "handshake", client.local_addr()?.port())?;
        record.must_have(&json!({
            "comm": name, "pid": server.pid(), "pid_source": listened_by(),
        }))?;
        record.must_lack(&["pid_gone"])?;
    }
    Ok(())
}

/// A daemon's parent listens, leaves its socket to a child, and exits.
fn a_listener_that_is_gone_is_named_as_gone() -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, &[])?;
    let mut server = TestProcess::start(&namespace, "tt-parent")?;
    let address = server.listen("127.0.0.1:0")?;
    let heir: u32 = server.tell("leave-to tt-heir")?.parse()?;
    wait_for("the parent to be gone", || {
        let state = fs::read_to_string(format!("/proc/{}/stat", server.pid()))?;
        Ok(state.contains(") Z ").then_some(()))
    })?;
    // One that is accepted, and one that never is.
    let accepted = namespace.connect(address)?;
    server.tell("accept")?;
    let waiting = namespace.connect(address)?;
    let ports = [accepted.local_addr()?.port(), waiting.local_addr()?.port()];
    drop((accepted, waiting));
    server.tell("close")?;
    server.tell("stop-listening")?;
    let records = tail.finish_after(4)?;
    let gone = json!({
        "comm": "tt-parent", "pid": server.pid(), "pid_gone": true, "pid_source": listened_by(),
    });
    for port in ports {
        passive_from(&records, "handshake", port)?.must_have(&gone)?;
    }
    let accepted = passive_from(&records, "connection", ports[0])?;
    accepted.must_have(&json!({"comm": "tt-heir", "pid": heir}))?;
    accepted.must_lack(&["pid_gone"])?;
    let never = passive_from(&records, "connection", ports[1])?;
    let closed_by_heir = json!({"comm": "tt-heir", "pid": heir, "pid_source": "close"});
    ensure!(
        never.must_have(&gone).is_ok() || never.must_have(&closed_by_heir).is_ok(),
        "{never}"
    );
    Ok(())
}

/// A supervisor that hands its socket to a child, as inetd, a socket activation and a server that
/// forks its workers first do; a listener that is passed on; a thread.
fn a_connection_belongs_to_the_process_that_accepts_it() -> Check {
    if !sees_accept() {
        return Err(ignored("no accept() is seen here"));
    }
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, &[])?;
    let mut supervisor = TestProcess::start(&namespace, "tt-supervisor")?;
    let address = supervisor.listen("127.0.0.1:0")?;
    let worker: u32 = supervisor.tell("hand-over tt-worker")?.parse()?;
    let fd = supervisor.tell("listener")?;
    let mut stranger = TestProcess::start(&namespace, "tt-stranger")?;
    stranger.tell(&format!("take {worker} {fd}"))?;
    let mut served = Vec::new();
    let mut serve =
        |process: &mut TestProcess, order: &str, pid: u32, name: &'static str| -> Check {
            let client = namespace.connect(address)?;
            process.tell(order)?;
            served.push((client.local_addr()?.port(), pid, name));
            drop(client);
            process.tell("receive-end")?;
            process.tell("close")?;
            Ok(())
        };
    let other = stranger.pid();
    serve(&mut supervisor, "accept", worker, "tt-worker")?;
    serve(&mut stranger, "accept", other, "tt-stranger")?;
    serve(&mut supervisor, "accept-as tt-thread", worker, "tt-worker")?;
    let records = tail.finish_after(2 * served.len())?;
    for (port, pid, name) in served {
        passive_from(&records, "connection", port)?.must_have(&json!({
            "pid": pid, "comm": name, "pid_source": "accept",
        }))?;
    }
    Ok(())
}

fn an_accept_that_comes_late_is_waited_for_so_long() -> Check {
    if !sees_accept() {
        return Err(ignored("no accept() is seen here"));
    }
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, &[])?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let before = monotonic_ns();
    let client = namespace.connect(address)?;
    let connected = monotonic_ns();
    thread::sleep(Duration::from_millis(300));
    let asked = monotonic_ns();
    let (accepted, _) = listener.accept()?;
    let returned = monotonic_ns();
    drop(client);
    drop(accepted);
    let records = tail.finish_after(2)?;
    let record = records.only("connection", &json!({"role": "passive"}))?;
    // On loopback the server is established before connect() returns.
    between(
        record,
        "accept_wait_us",
        asked - connected,
        returned - before,
    )
}

/// accept() by a ring of requests, without the system call of that name.
fn accept_by_ring(listener: &TcpListener) -> anyhow::Result<TcpStream> {
    let unusable = |error| ignored(format!("no io_uring here: {error}"));
    let mut ring = IoUring::new(2).map_err(unusable)?;
    let fd = types::Fd(listener.as_raw_fd());
    let accept = opcode::Accept::new(fd, std::ptr::null_mut(), std::ptr::null_mut()).build();
    // SAFETY: the request has no memory of its own, and the listener stays open.
    unsafe { ring.submission().push(&accept)? };
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().context("no completion")?;
    let stream = Errno::result(done.result())?;
    // SAFETY: the kernel just gave it out.
    Ok(unsafe { TcpStream::from_raw_fd(stream) })
}

fn an_accept_by_io_uring_is_seen_where_functions_can_be_traced() -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, &[])?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let client = namespace.connect(address)?;
    let server = accept_by_ring(&listener)?;
    drop(client);
    drop(server);
    let records = tail.finish_after(2)?;
    let record = records.only("connection", &json!({"role": "passive"}))?;
    record.must_have(&json!({"pid": std::process::id()}))?;
    if traces_functions() {
        record.must_have(&json!({"pid_source": "accept"}))?;
        ensure!(record.number("accept_wait_us").is_some(), "{record}");
        Ok(())
    } else {
        record.must_have(&json!({"pid_source": "close"}))?;
        record.must_lack(&["accept_wait_us"])
    }
}

/// A directory of the cgroup v2 hierarchy, and those above it that were made for it. They go with
/// this.
struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    fn make(path: &str) -> anyhow::Result<Self> {
        let root = cgroup::hierarchy().ok_or_else(|| ignored("no cgroup v2 hierarchy"))?;
        let mut made = Self(Vec::new());
        let mut directory = root;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            directory.push(name);
            match fs::create_dir(&directory) {
                Ok(()) => made.0.push(directory.clone()),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(ignored(format!("no cgroup can be made: {error}"))),
            }
        }
        Ok(made)
    }

    fn directory(&self) -> anyhow::Result<&Path> {
        Ok(self.0.last().context("it was there before")?)
    }

    /// Removes it; the kernel lets go of it once its processes are gone.
    fn remove(&mut self) -> Check {
        while let Some(directory) = self.0.last() {
            wait_for("a cgroup to be removed", || {
                match fs::remove_dir(directory) {
                    Ok(()) => Ok(Some(())),
                    Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(None),
                    Err(error) => Err(error.into()),
                }
            })?;
            self.0.pop();
        }
        Ok(())
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("a cgroup could not be removed: {error:#}");
        }
    }
}

/// Each engine's layout, with both drivers.
fn a_container_is_named_when_it_is_gone_too() -> Check {
    const POD: &str = "2c48913c-b29f-11e7-9350-020968147796";
    let id = |digit: &str| digit.repeat(64);
    let slice = format!("kubepods-burstable-pod{}.slice", POD.replace('-', "_"));
    let layouts = [
        (id("1"), format!("/tt-docker/{}", id("1")), None),
        (id("2"), format!("/tt.slice/docker-{}.scope", id("2")), None),
        (
            id("3"),
            format!("/tt.slice/libpod-{}.scope/container", id("3")),
            None,
        ),
        (
            id("4"),
            format!("/tt-kubepods/burstable/pod{POD}/{}", id("4")),
            Some(POD),
        ),
        (
            id("5"),
            format!("/tt.slice/{slice}/cri-containerd-{}.scope", id("5")),
            Some(POD),
        ),
        (
            id("6"),
            format!("/tt.slice/{slice}/crio-{}.scope", id("6")),
            Some(POD),
        ),
    ];
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &[])?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut ports = Vec::new();
    for (_, path, _) in &layouts {
        let mut cgroup = Cgroup::make(path)?;
        let mut process = TestProcess::start(&namespace, "tt-contained")?;
        process.enter(cgroup.directory()?)?;
        ports.push(process.connect(address)?.port());
        tail.wait_count("handshake", 2 * ports.len())?;
        drop(process);
        cgroup.remove()?;
        drop(listener.accept()?);
    }
    let records = tail.finish_after(2 * layouts.len())?;
    for ((id, path, pod), port) in layouts.iter().zip(ports) {
        for kind in ["handshake", "connection"] {
            let side = json!({"role": "active", "local_port": port});
            let record = records.only(kind, &side)?;
            record.must_have(&json!({
                "cgroup": path, "container_id": id, "comm": "tt-contained",
            }))?;
            ensure!(record.text("pod_uid") == *pod, "{record}");
            record.must_lack(&["unit"])?;
        }
        // The listener is this process's.
        passive_from(&records, "connection", port)?.must_lack(&["container_id"])?;
    }
    Ok(())
}

fn a_cgroup_that_is_gone_before_anybody_looks_is_named() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &[])?;
    // The tail sees nothing of it until all is over.
    tail.running().signal(Signal::SIGSTOP)?;
    // As long as all that has room.
    let path = format!("/tt.slice/{}/{}", "a".repeat(250), "b".repeat(249));
    ensure!(path.len() == CGROUP_PATH - 2);
    let mut cgroup = Cgroup::make(&path)?;
    let mut inside = TestProcess::start(&namespace, "tt-short")?;
    inside.enter(cgroup.directory()?)?;
    let port = inside.connect(address)?.port();
    drop(inside);
    drop(listener.accept()?);
    cgroup.remove()?;
    tail.running().signal(Signal::SIGCONT)?;
    let records = tail.finish_after(2)?;
    let side = json!({"role": "active", "local_port": port});
    records
        .only("connection", &side)?
        .must_have(&json!({"cgroup": path, "comm": "tt-short"}))
}

fn a_cgroup_is_asked_for_by_its_unit() -> Check {
    let cgroup = Cgroup::make("/tt-system.slice/tt-web.service/worker")?;
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let number = fs::metadata(cgroup.directory()?)?.ino();
    // The sentinels are in no unit of this test: what shows that the tail sees is one with a port.
    let mut tail = Tail::start(&namespace, &[])?;
    let mut inside = TestProcess::start(&namespace, "tt-inside")?;
    inside.enter(cgroup.directory()?)?;
    inside.connect(address)?;
    tail.wait_count("handshake", 2)?;
    drop(inside);
    drop(listener.accept()?);
    tail.finish_after(2)?
        .only("connection", &json!({"role": "active"}))?
        .must_have(&json!({
            "cgroup": "/tt-system.slice/tt-web.service/worker", "cgroup_id": number,
            "unit": "tt-web.service",
        }))
}

fn a_capture_holds_the_names_too() -> Check {
    let path = "/tt-captured.slice/tt-web.service";
    let mut cgroup = Cgroup::make(path)?;
    let namespace = Namespace::new()?;
    let (_listener, address) = namespace.listen("127.0.0.1:0")?;
    let directory = tempdir()?;
    let file = directory.path().join("names");
    let name = file.to_str().context("a path that is not UTF-8")?;
    let mut capture = Running::start(&mut tcptrace(&["capture", name]))?;
    // It appears once all is attached.
    wait_for("the capture", || Ok(file.exists().then_some(())))?;
    let mut inside = TestProcess::start(&namespace, "tt-inside")?;
    inside.enter(cgroup.directory()?)?;
    let port = inside.connect(address)?.port();
    drop(inside);
    capture.signal(Signal::SIGINT)?;
    capture.wait()?.must_end_with(0)?;
    cgroup.remove()?;
    let arguments = [
        "replay",
        name,
        "--format",
        "json",
        "--cgroup",
        "tt-web.service",
    ];
    let output = Running::to_end(&mut tcptrace(&arguments))?;
    output.must_end_with(0)?;
    let lines = output.stdout.lines().map(Record::parse);
    let records = Records(lines.collect::<Result<_, _>>()?);
    for record in &records.0 {
        record.must_have(&json!({
            "local_port": port, "comm": "tt-inside", "cgroup": path, "unit": "tt-web.service",
        }))?;
    }
    ensure!(records.len() == 2, "not a handshake and an end:\n{records}");
    Ok(())
}

fn on_a_link_local_address_the_interface_is_told() -> Check {
    const PORT: u16 = 8080;
    let namespace = Namespace::new()?;
    let peer = Peer::new(&namespace)?;
    // A namespace is found by its processes, and its interfaces with it.
    let _resident = TestProcess::start(&namespace, "tt-resident")?;
    let mut tail = Tail::start(&namespace, &[])?;
    let zone = namespace.run(|| {
        // SAFETY: the name ends in a NUL.
        Ok(unsafe { libc::if_nametoindex(c"peer".as_ptr()) })
    })?;
    let (_listener, _) = namespace.listen(&format!("[::]:{PORT}"))?;
    wait_for("the interface's name", || {
        let mut flow = peer.listen_at((PEER_ON_LINK, PORT).into());
        let to = SocketAddrV6::new(PEER_ON_LINK, PORT, 0, zone);
        let client = thread::scope(|scope| -> anyhow::Result<TcpStream> {
            let connecting = scope.spawn(|| namespace.connect(to.into()));
            flow.open()?;
            connecting
                .join()
                .map_err(|_| anyhow::anyhow!("it panicked"))?
        })?;
        let port = client.local_addr()?.port();
        let side = json!({"role": "active", "local_port": port});
        tail.wait("its handshake", |records| {
            records.only("handshake", &side).is_ok()
        })?;
        drop(client);
        flow.expect_fin()?;
        flow.send_fin()?;
        let record = tail.so_far()?.only("handshake", &side)?;
        let zone = record.text("interface").context("no interface")?.to_owned();
        record.must_have(&json!({
            "remote_address": format!("fe80::2%{zone}"), "local_address": format!("fe80::1%{zone}"),
        }))?;
        Ok((zone == "peer").then_some(()))
    })?;
    let mut child = peer.connect_to((HERE_ON_LINK, PORT).into());
    child.open()?;
    let from = child.peer().port();
    tail.wait("its handshake", |records| {
        passive_from(records, "handshake", from).is_ok()
    })?;
    let records = tail.finish()?;
    let record = passive_from(&records, "handshake", from)?;
    record.must_have(&json!({
        "local_address": "fe80::1%peer", "remote_address": "fe80::2%peer", "interface": "peer",
    }))?;
    ensure!(
        traces_functions() || record.text("pid_source") == Some(listened_by()),
        "{record}"
    );
    Ok(())
}

/// Multipath TCP (RFC 8684): a worker of the kernel's opens the second one.
fn a_path_that_the_kernel_opens_is_no_thread_of_the_kernels() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &[])?;
    let second = json!({"role": "active", "local_address": "127.0.0.2"});
    let (listener, mut client) = namespace.run(|| {
        mptcp::add_path_from([127, 0, 0, 2].into())
            .map_err(|error| ignored(format!("no path can be added: {error:#}")))?;
        let (listener, address) = mptcp::listen(([127, 0, 0, 1], 0).into())?;
        Ok((listener, mptcp::connect(address)?))
    })?;
    let (mut server, _) = listener.accept()?;
    // The second path follows once data went both ways.
    let mut byte = [0];
    client.write_all(b"x")?;
    server.read_exact(&mut byte)?;
    server.write_all(b"y")?;
    client.read_exact(&mut byte)?;
    tail.wait("the second path", |records| {
        records.only("handshake", &second).is_ok()
    })?;
    drop(client);
    drop(server);
    let records = tail.finish_after(4)?;
    records
        .only("handshake", &second)?
        .must_lack(&["pid", "comm", "pid_source"])?;
    for record in records.of("connection") {
        let pid = record.number("pid");
        ensure!(
            pid.is_none() || pid == Some(std::process::id().into()),
            "somebody else's: {record}"
        );
    }
    let first = json!({"role": "active", "local_address": "127.0.0.1"});
    records
        .only("connection", &first)?
        .must_have(&json!({"pid": std::process::id(), "pid_source": "connect"}))
}
