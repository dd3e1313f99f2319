//! Nothing is missed for good: what was there before is learnt, and what is lost is found out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::{
    daemon::check_identities,
    support::{
        Check, beside,
        daemon::Daemon,
        exposition::Metrics,
        load::Load,
        namespace::Namespace,
        record::{Record, Records},
        sockets::{begin_connect, bound, set_tcp_option},
        tail::Tail,
        test_process::TestProcess,
        tests, wait_for,
    },
};

tests![
    existing_connections_are_reported_once_however_busy_the_host_is,
    existing_connections_are_reported_once_without_an_iterator_too,
    the_gauge_is_the_kernels_own_count,
    the_process_of_an_older_listener_is_named_at_once,
    thousands_of_timeouts_at_once_leave_no_connection_behind,
    a_daemon_that_was_held_up_leaves_no_connection_behind,
    a_tail_that_was_killed_says_where_the_next_one_begins,
    namespaces_that_come_and_go_are_no_error,
    a_listener_from_before_has_a_label_at_its_first_connection,
];

/// States of connections that the daemon holds and the kernel lists.
const STATES: [&str; 8] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "CLOSE_WAIT",
    "LAST_ACK",
    "CLOSING",
];
const LONG_ONES: usize = 100;
/// No more than is looked at.
const ENDS: [&str; 2] = ["--show", "connections"];
/// Between two bursts of load: whoever reads the tail would otherwise never come to an end.
const BREATH: Duration = Duration::from_millis(150);

/// A namespace that others can find: a process is in it.
struct Findable {
    namespace: Namespace,
    _process: TestProcess,
}

impl Findable {
    fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        Ok(Self {
            _process: TestProcess::start(&namespace, "in-namespace")?,
            namespace,
        })
    }
}

/// Connections that stay open, and their listener.
struct LongOnes {
    listener: TcpListener,
    pairs: Vec<(TcpStream, TcpStream)>,
}

impl LongOnes {
    fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        let (listener, _) = namespace.listen("127.0.0.1:0")?;
        let pairs = (0..LONG_ONES)
            .map(|_| namespace.pair(&listener))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { listener, pairs })
    }

    /// The clients' ports, and the service's.
    fn ports(&self) -> anyhow::Result<(Vec<u16>, u16)> {
        let clients = self
            .pairs
            .iter()
            .map(|(client, _)| Ok(client.local_addr()?.port()))
            .collect::<anyhow::Result<_>>()?;
        Ok((clients, self.listener.local_addr()?.port()))
    }

    fn close(self) {
        for (client, server) in self.pairs {
            drop(client);
            drop(server);
        }
    }
}

/// Makes connections while `work` runs, and answers how many.
fn beside_load<T>(
    load: &Load,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(T, u64)> {
    let made = AtomicU64::new(0);
    let burst = || {
        let more = load.run(Duration::from_secs(1), 200)?;
        made.fetch_add(more, Ordering::Relaxed);
        thread::sleep(BREATH);
        Ok(())
    };
    let (done, _) = beside(burst, work)?;
    Ok((done, made.load(Ordering::Relaxed)))
}

/// The records of the long connections, by their server's port.
fn of_long_ones(records: &Records, server: u16) -> Records {
    let is_theirs = |record: &&&Record| {
        let is = |end| record.number(end) == Some(server.into());
        is("local_port") || is("remote_port")
    };
    let ends = records.of("connection");
    Records(
        ends.iter()
            .filter(is_theirs)
            .map(|&one| one.clone())
            .collect(),
    )
}

/// Both ends of every long connection have just one record, and were there before; who opened them
/// is known of those that a walk `found` before they ended.
fn must_tell_long_ones(
    records: &Records,
    (clients, server): &(Vec<u16>, u16),
    found: bool,
) -> Check {
    let records = of_long_ones(records, *server);
    for client in clients {
        for (role, ends) in [
            (
                "unknown",
                json!({"local_port": client, "remote_port": server}),
            ),
            (
                "passive",
                json!({"local_port": server, "remote_port": client}),
            ),
        ] {
            let record = records.only("connection", &ends)?;
            if found {
                record.must_have(&json!({"role": role}))?;
            }
            record.must_have(&json!({
                "completeness": "seeded",
                "verdict": "graceful",
                "established": true,
            }))?;
            record.must_lack(&["opened_at", "duration_us", "handshake_us"])?;
        }
    }
    Ok(())
}

fn tells_long_ones(records: &Records, server: u16) -> bool {
    of_long_ones(records, server).len() >= 2 * LONG_ONES
}

fn existing_connections_are_reported_once_however_busy_the_host_is() -> Check {
    start_amid_load(&ENDS)
}

fn existing_connections_are_reported_once_without_an_iterator_too() -> Check {
    start_amid_load(&[&ENDS[..], &["--without", "iter"]].concat())
}

fn start_amid_load(arguments: &[&str]) -> Check {
    let findable = Findable::new()?;
    let namespace = &findable.namespace;
    let long_ones = LongOnes::open(namespace)?;
    let ports = long_ones.ports()?;
    let load = Load::new(namespace)?;
    let ((mut tail, seen), before) = beside_load(&load, || {
        let mut tail = Tail::start(namespace, arguments)?;
        let seen = tail.so_far()?.of("connection").len();
        Ok((tail, seen))
    })?;
    let ((), after) = beside_load(&load, || {
        thread::sleep(Duration::from_secs(1));
        Ok(())
    })?;
    long_ones.close();
    tail.wait("the long ones", |records| tells_long_ones(records, ports.1))?;
    let (records, output) = tail.interrupt()?;
    output.must_end_with(0)?;
    must_tell_long_ones(&records, &ports, true)?;
    let connections = records.of("connection");
    let ids: BTreeSet<_> = connections.iter().map(|one| one.text("id")).collect();
    ensure!(ids.len() == connections.len(), "an id came twice");
    let lost = !output.stderr.ends_with(" 0 events lost\n");
    let of = |completeness: &str| {
        let fits = |one: &&&_| {
            let one: &Record = one;
            one.text("completeness") == Some(completeness)
        };
        connections.iter().filter(fits).count() as u64
    };
    let (full, all) = (of("full"), connections.len() as u64);
    eprintln!(
        "{before} connections before the tail saw, {after} after it; {seen} told by then; {full} of {all} whole; {}",
        output.stderr.trim_end()
    );
    ensure!(
        lost || of("gap") + of("partial") == 0,
        "a gap in:\n{records}"
    );
    ensure!(
        lost || full >= 2 * after,
        "{full} whole ones of {after} connections after the tail saw"
    );
    let most = 2 * (before + after + LONG_ONES as u64);
    ensure!(all <= most, "{all} records of at most {most} ends");
    Ok(())
}

/// What the tracker holds is what the kernel has, in every state.
fn holds_what_the_kernel_has(metrics: &Metrics) -> bool {
    STATES.iter().all(|state| {
        let state = [("state", *state)];
        metrics.count("tcptrace_connections", &state)
            == metrics.count("tcptrace_kernel_sockets", &state)
    })
}

fn has_no_drift(metrics: &Metrics) -> bool {
    metrics.has("tcptrace_tracker_drift", &[])
        && STATES
            .iter()
            .all(|state| metrics.count("tcptrace_tracker_drift", &[("state", state)]) == 0)
}

fn the_gauge_is_the_kernels_own_count() -> Check {
    let findable = Findable::new()?;
    let namespace = &findable.namespace;
    let long_ones = LongOnes::open(namespace)?;
    let port = long_ones.ports()?.1.to_string();
    let mut daemon = Daemon::start(&["--metrics.ports", &port, "--poll-interval", "1s"])?;
    let established = [("state", "ESTABLISHED")];
    let first = daemon.scrape()?.count("tcptrace_connections", &established);
    ensure!(
        first >= 2 * i64::try_from(LONG_ONES)?,
        "the first scrape shows {first} connections"
    );
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)?;

    let load = Load::new(namespace)?;
    let (daemon, made) = beside_load(&load, || {
        Daemon::start(&["--poll-interval", "1s", "--resync-interval", "1s"])
    })?;
    let mut daemon = daemon;
    eprintln!("{made} connections beside the start");
    daemon.scrape_until("the gauge to be the kernel's count", |metrics| {
        holds_what_the_kernel_has(metrics) && has_no_drift(metrics)
    })?;
    long_ones.close();
    let metrics = daemon.scrape_until("the long ones to be gone", |metrics| {
        holds_what_the_kernel_has(metrics)
            && metrics.count("tcptrace_connections", &established) < first
    })?;
    check_identities(&metrics)?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn the_process_of_an_older_listener_is_named_at_once() -> Check {
    let namespace = Namespace::new()?;
    let mut server = TestProcess::start(&namespace, "older-server")?;
    let address = server.listen("127.0.0.1:0")?;
    let (other, _) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &[])?;
    let mut others = 0;
    wait_for("the tail to know what was there before", || {
        drop(namespace.pair(&other)?);
        others += 2;
        tail.wait_count("handshake", others)?;
        let known = |record: &&Record| record.text("pid_source") == Some("proc");
        Ok(tail
            .so_far()?
            .of("handshake")
            .iter()
            .any(known)
            .then_some(()))
    })?;
    // It is not accepted.
    drop(namespace.connect(address)?);
    drop(server);
    let records = tail.finish_after(2)?;
    records
        .only(
            "handshake",
            &json!({"role": "passive", "local_port": address.port()}),
        )?
        .must_have(&json!({"comm": "older-server", "pid_source": "proc"}))
}

/// As many descriptors as this process may have.
fn raise_descriptors() -> anyhow::Result<usize> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard)?)
}

/// A socket that sends one SYN again, and then gives up.
fn impatient() -> anyhow::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    set_tcp_option(&socket, libc::TCP_SYNCNT, 1)?;
    Ok(socket)
}

fn thousands_of_timeouts_at_once_leave_no_connection_behind() -> Check {
    const MOST: usize = 2_000;
    let count = MOST.min(raise_descriptors()?.saturating_sub(200));
    let findable = Findable::new()?;
    let namespace = &findable.namespace;
    // Whoever comes once its queue is full is not answered.
    let full = namespace.run(|| {
        let socket = bound("127.0.0.1:0")?;
        socket.listen(0)?;
        Ok(TcpListener::from(socket))
    })?;
    let address = full.local_addr()?;
    let port = address.port().to_string();
    let port = [("port", port.as_str())];
    let refusing: SocketAddr = ([127, 0, 0, 1], namespace.free_port()?).into();
    let mut daemon = Daemon::start(&["--metrics.ports", port[0].1, "--resync-interval", "1s"])?;
    let _first = namespace.connect(address)?;
    let sockets = namespace.run(|| {
        let sockets = (0..count)
            .map(|_| impatient())
            .collect::<anyhow::Result<Vec<_>>>()?;
        for socket in &sockets {
            begin_connect(socket, address)?;
        }
        Ok(sockets)
    })?;
    let refused = || {
        let refused = namespace.run(|| Ok(TcpStream::connect(refusing).is_err()))?;
        ensure!(refused, "somebody listens");
        Ok(())
    };
    let mut waiting: Vec<_> = sockets.iter().collect();
    let (timed_out, _) = beside(refused, || {
        wait_for("every connect to time out", || {
            let mut connected = 0;
            waiting.retain(|socket| {
                connected += usize::from(socket.peer_addr().is_ok());
                !matches!(socket.take_error(), Ok(Some(_)))
            });
            Ok((waiting.len() == connected).then_some(count - connected))
        })
    })?;
    let timed_out = i64::try_from(timed_out)?;
    let failures = "tcptrace_handshake_failures_total";
    let of = |metrics: &Metrics, verdict| metrics.count(failures, &[port[0], ("verdict", verdict)]);
    let metrics = daemon.scrape_until("nobody to be left behind", |metrics| {
        metrics.count(failures, &port) >= timed_out
            && metrics.count("tcptrace_connections", &[("state", "SYN_SENT")]) == 0
    })?;
    let (told, unseen) = (of(&metrics, "handshake_timeout"), of(&metrics, "unknown"));
    let program = [("program", "set_state_btf")];
    let skipped = metrics.count("tcptrace_events_lost_total", &[("reason", "skipped")]);
    eprintln!(
        "{told} of {timed_out} timeouts told, {unseen} found out; {} runs skipped, {} of them made up for, {skipped} lost",
        metrics.count("tcptrace_program_misses_total", &program),
        metrics.count("tcptrace_program_recovered_total", &program),
    );
    ensure!(told + unseen == timed_out, "of {timed_out}:\n{metrics}");
    check_identities(&metrics)?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn a_daemon_that_was_held_up_leaves_no_connection_behind() -> Check {
    let findable = Findable::new()?;
    let namespace = &findable.namespace;
    let load = Load::new(namespace)?;
    // No walk but that which a loss makes.
    let mut daemon = Daemon::start(&[
        "--ring-size",
        "64KiB",
        "--poll-interval",
        "1s",
        "--resync-interval",
        "off",
    ])?;
    let long_ones = LongOnes::open(namespace)?;
    daemon.scrape_until("the long ones", holds_what_the_kernel_has)?;
    daemon.signal(Signal::SIGSTOP)?;
    load.run(Duration::from_secs(2), 20_000)?;
    long_ones.close();
    daemon.signal(Signal::SIGCONT)?;
    let metrics = daemon.scrape_until("nobody to be left behind", |metrics| {
        holds_what_the_kernel_has(metrics) && metrics.count("tcptrace_tracker_gaps_total", &[]) > 0
    })?;
    let lost = [("reason", "ring_full")];
    ensure!(
        metrics.count("tcptrace_events_lost_total", &lost) > 0,
        "nothing was lost:\n{metrics}"
    );
    check_identities(&metrics)?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn a_tail_that_was_killed_says_where_the_next_one_begins() -> Check {
    let findable = Findable::new()?;
    let namespace = &findable.namespace;
    let load = Load::new(namespace)?;
    let mut first = Tail::start(namespace, &ENDS)?;
    let long_ones = LongOnes::open(namespace)?;
    let ports = long_ones.ports()?;
    let (tails, _) = beside_load(&load, || {
        first.wait_count("connection", 1)?;
        Ok((first.kill()?, Tail::start(namespace, &ENDS)?))
    })?;
    let (before, mut second) = tails;
    long_ones.close();
    second.wait("the long ones", |records| tells_long_ones(records, ports.1))?;
    let (after, output) = second.interrupt()?;
    output.must_end_with(0)?;
    must_tell_long_ones(&after, &ports, false)?;
    let runs = |records: &Records| -> anyhow::Result<String> {
        let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
        for record in &records.0 {
            *runs
                .entry(record.text("run_id").context("no run_id")?)
                .or_default() += 1;
        }
        ensure!(runs.len() == 1, "not one run: {runs:?}");
        Ok(runs.into_keys().collect())
    };
    ensure!(runs(&before)? != runs(&after)?, "two runs have one id");
    let ids = |records: &Records| -> BTreeSet<String> {
        let ids = records.0.iter().filter_map(|record| record.text("id"));
        ids.map(str::to_owned).collect()
    };
    ensure!(ids(&before).is_disjoint(&ids(&after)), "an id came twice");
    Ok(())
}

fn namespaces_that_come_and_go_are_no_error() -> Check {
    const AT_ONCE: usize = 40;
    let make =
        || -> anyhow::Result<Vec<Findable>> { (0..AT_ONCE).map(|_| Findable::new()).collect() };
    let first = make()?;
    let mut daemon = Daemon::start(&["--resync-interval", "1s", "--poll-interval", "1s"])?;
    let descriptors = |daemon: &Daemon| -> anyhow::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count())
    };
    drop(first);
    drop(make()?);
    daemon.scrape_until("a walk", has_no_drift)?;
    let before = descriptors(&daemon)?;
    drop(make()?);
    wait_for("as many descriptors as before", || {
        Ok((descriptors(&daemon)? <= before).then_some(()))
    })?;
    let said = daemon.complaints();
    ensure!(!said.contains("sockets could be listed"), "{said}");
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

/// In the ephemeral range, where one connection earns no other a label.
fn a_listener_from_before_has_a_label_at_its_first_connection() -> Check {
    let findable = Findable::new()?;
    let (listener, address) = findable.namespace.listen("127.0.0.1:0")?;
    let mut daemon = Daemon::start(&[])?;
    drop(findable.namespace.pair(&listener)?);
    let port = address.port().to_string();
    let labels = [("role", "passive"), ("port", port.as_str())];
    daemon.scrape_until("its connection under its label", |metrics| {
        metrics.count("tcptrace_connections_established_total", &labels) == 1
    })?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}
