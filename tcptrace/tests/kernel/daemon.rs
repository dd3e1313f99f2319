//! `tcptrace daemon`: what it serves after traffic that is known.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    os::{fd::AsRawFd, unix::process::CommandExt},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use crate::support::{
    Check,
    daemon::{Daemon, Http, listens},
    exposition::Metrics,
    hooks::{handshake_source, sees_accept, traces_functions},
    ignored,
    namespace::Namespace,
    program::{Running, takes_signals, tcptrace},
    sockets::abort_at_close,
    tests, wait_for,
};

tests![
    known_traffic_is_counted_exactly,
    connections_that_were_there_before_are_counted_apart,
    short_lived_servers_on_random_ports_take_no_label,
    an_attempt_is_one_of_established_failed_and_pending,
    every_hook_and_the_build_are_told,
    a_port_that_is_taken_is_a_clear_failure,
    sockets_that_systemd_hands_over_are_served,
    a_hangup_reloads_the_settings,
    settings_are_checked_without_tracing,
    every_line_of_a_log_has_its_format,
    a_termination_ends_it_well,
    an_interrupt_ends_it_well,
    a_stop_at_any_moment_of_the_start_ends_it_well,
    runs_of_programs_are_counted_if_that_is_asked_for,
    running_out_of_descriptors_is_logged_once_and_passes,
    promtool_accepts_the_exposition,
    the_rules_for_prometheus_pass_their_tests,
];

const GRACEFUL: u64 = 10;
const REFUSED: u64 = 3;
const RESET: u64 = 2;
const OPEN: u64 = 2;
const QUESTION: &[u8] = b"question";
const ANSWER: &[u8] = b"a longer answer";

/// Series of one service's port and one side.
fn of_side<'a>(role: &'a str, port: &'a str) -> [(&'static str, &'a str); 2] {
    [("role", role), ("port", port)]
}

fn must_count(metrics: &Metrics, name: &str, labels: &[(&str, &str)], expected: u64) -> Check {
    let count = metrics.count(name, labels);
    ensure!(
        u64::try_from(count) == Ok(expected),
        "{name} {labels:?} is {count}, not {expected}, in:\n{metrics}"
    );
    Ok(())
}

fn known_traffic_is_counted_exactly() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let port = address.port().to_string();
    let mut daemon = Daemon::start(&["--metrics.ports", &port])?;
    for index in 0..GRACEFUL {
        let (mut client, mut server) = namespace.pair(&listener)?;
        client.write_all(QUESTION)?;
        server.read_exact(&mut [0; QUESTION.len()])?;
        server.write_all(ANSWER)?;
        client.read_exact(&mut [0; ANSWER.len()])?;
        // Half of them are closed by each side.
        let (first, mut second) = if index % 2 == 0 {
            (client, server)
        } else {
            (server, client)
        };
        drop(first);
        ensure!(second.read(&mut [0])? == 0, "more data");
    }
    for _ in 0..RESET {
        let (client, server) = namespace.pair(&listener)?;
        abort_at_close(&client)?;
        drop(client);
        ensure!((&server).read(&mut [0]).is_err(), "no reset");
    }
    let _open = (0..OPEN)
        .map(|_| namespace.pair(&listener))
        .collect::<anyhow::Result<Vec<_>>>()?;
    drop(listener);
    for _ in 0..REFUSED {
        ensure!(namespace.connect(address).is_err(), "somebody listens");
    }
    let active = of_side("active", &port);
    let passive = of_side("passive", &port);
    let closed = GRACEFUL + RESET;
    let metrics = daemon.scrape_until("the ends", |metrics| {
        let ends = |labels| metrics.count("tcptrace_connections_closed_total", labels);
        let failures = metrics.count("tcptrace_handshake_failures_total", &active);
        ends(&active) + ends(&passive) + failures
            >= i64::try_from(2 * closed + REFUSED).unwrap_or(0)
    })?;
    let count = |name: &str, labels: &[(&str, &str)], expected| {
        must_count(&metrics, name, labels, expected)
    };
    for (side, attempts) in [(active, closed + OPEN + REFUSED), (passive, closed + OPEN)] {
        count("tcptrace_connection_attempts_total", &side, attempts)?;
        count(
            "tcptrace_connections_established_total",
            &side,
            closed + OPEN,
        )?;
        count("tcptrace_connections_closed_total", &side, closed)?;
        for by in ["local", "remote"] {
            let ends = [&side[..], &[("verdict", "graceful"), ("closed_by", by)]].concat();
            count("tcptrace_connections_closed_total", &ends, GRACEFUL / 2)?;
        }
    }
    for (side, verdict) in [(active, "reset_by_us"), (passive, "reset_received")] {
        let ends = [&side[..], &[("verdict", verdict)]].concat();
        count("tcptrace_connections_closed_total", &ends, RESET)?;
    }
    let refused = [&active[..], &[("verdict", "refused")]].concat();
    count("tcptrace_handshake_failures_total", &refused, REFUSED)?;
    count(
        "tcptrace_handshake_failures_total",
        &[("port", &port)],
        REFUSED,
    )?;
    count(
        "tcptrace_handshake_duration_seconds_count",
        &active,
        closed + OPEN,
    )?;
    count(
        "tcptrace_handshake_duration_seconds_count",
        &passive,
        closed + OPEN,
    )?;
    let source = [("role", "passive"), ("source", handshake_source())];
    ensure!(
        metrics.count("tcptrace_handshakes_measured_total", &source)
            >= i64::try_from(closed + OPEN).unwrap_or(0),
        "the passive handshakes come from elsewhere:\n{metrics}"
    );
    if sees_accept() {
        let port = [("port", port.as_str())];
        count(
            "tcptrace_accept_wait_duration_seconds_count",
            &port,
            closed + OPEN,
        )?;
    }
    // Each side closed first as often; the other side's FIN came to the timewait socket.
    if traces_functions() {
        for side in [active, passive] {
            count("tcptrace_time_wait_entered_total", &side, GRACEFUL / 2)?;
        }
    }
    for (side, sent, received) in [(active, QUESTION, ANSWER), (passive, ANSWER, QUESTION)] {
        for (direction, bytes) in [("sent", sent), ("received", received)] {
            let labels = [&side[..], &[("direction", direction)]].concat();
            let expected = GRACEFUL * bytes.len() as u64;
            count("tcptrace_closed_connection_bytes_total", &labels, expected)?;
        }
    }
    ensure!(metrics.len() < 2_000, "{} series", metrics.len());
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn connections_that_were_there_before_are_counted_apart() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let (client, server) = namespace.pair(&listener)?;
    let port = address.port().to_string();
    let mut daemon = Daemon::start(&["--metrics.ports", &port])?;
    let before = daemon.scrape()?;
    drop(client);
    drop(server);
    let after = daemon.scrape_until("the ends", |metrics| {
        let name = "tcptrace_connections_closed_total";
        let unknown = [("role", "unknown")];
        metrics.count(name, &unknown) >= before.count(name, &unknown) + 2
    })?;
    let name = "tcptrace_connections_seeded_total";
    ensure!(
        after.count(name, &[]) >= before.count(name, &[]) + 2,
        "not counted as seeded:\n{after}"
    );
    for name in [
        "tcptrace_connection_attempts_total",
        "tcptrace_connections_established_total",
    ] {
        must_count(&after, name, &[("port", &port)], 0)?;
    }
    Ok(())
}

/// Twenty servers for one connection each, and then a service.
fn short_lived_servers_on_random_ports_take_no_label() -> Check {
    const CONNECTIONS: i64 = 300;
    let namespace = Namespace::new()?;
    let mut daemon = Daemon::start(&[])?;
    // The kernel may choose one twice.
    let mut ports = BTreeSet::new();
    for _ in 0..20 {
        let (listener, address) = namespace.listen("127.0.0.1:0")?;
        drop(namespace.pair(&listener)?);
        ports.insert(address.port().to_string());
    }
    let (listener, _) = namespace.listen("127.0.0.1:443")?;
    for _ in 0..CONNECTIONS {
        drop(namespace.pair(&listener)?);
    }
    let https = [("role", "passive"), ("port", "443")];
    let name = "tcptrace_connections_established_total";
    // Other services of this host may have half of the labels already.
    let metrics = daemon.scrape_until("443 to have a label", |metrics| {
        metrics.count(name, &https) > CONNECTIONS - 16
    })?;
    // Whoever scrapes connects to a listener of before.
    ports.remove(&daemon.address().port().to_string());
    for port in ports {
        ensure!(
            !metrics.has(name, &[("port", &port)]),
            "{port} has a label:\n{metrics}"
        );
    }
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

/// The identities of the metrics page, over all series, in one scrape.
pub(crate) fn check_identities(metrics: &Metrics) -> Check {
    let count = |name: &str| metrics.count(name, &[]);
    let held = |state: &str| metrics.count("tcptrace_connections", &[("state", state)]);
    let attempts = count("tcptrace_connection_attempts_total");
    let established = count("tcptrace_connections_established_total");
    let seeded = count("tcptrace_connections_seeded_total");
    let failed = count("tcptrace_handshake_failures_total");
    let closed = count("tcptrace_connections_closed_total");
    let evicted = count("tcptrace_tracker_evictions_total");
    let all_held = count("tcptrace_connections");
    let pending = held("SYN_SENT") + held("SYN_RECV");
    ensure!(
        attempts + seeded == failed + closed + evicted + all_held,
        "attempts + seeded is not failed + closed + evicted + held in:\n{metrics}"
    );
    // Those that wait for their record may be of either kind.
    let waiting = held("CLOSE");
    ensure!(
        (0..=waiting).contains(&(attempts - established - failed - pending)),
        "attempts is not established + failed + pending in:\n{metrics}"
    );
    ensure!(
        (0..=waiting).contains(&(established + seeded - closed - (all_held - pending - waiting))),
        "established + seeded is not closed + live in:\n{metrics}"
    );
    Ok(())
}

fn an_attempt_is_one_of_established_failed_and_pending() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let before = namespace.pair(&listener)?;
    let mut daemon = Daemon::start(&[])?;
    let mut open = Vec::new();
    for index in 0..30 {
        let pair = namespace.pair(&listener)?;
        if index % 3 == 0 {
            open.push(pair);
        }
        check_identities(&daemon.scrape()?)?;
    }
    drop(listener);
    for _ in 0..5 {
        ensure!(namespace.connect(address).is_err(), "somebody listens");
        check_identities(&daemon.scrape()?)?;
    }
    drop(before);
    drop(open);
    check_identities(&daemon.scrape()?)?;
    let nobody_waits =
        |metrics: &Metrics| metrics.count("tcptrace_connections", &[("state", "CLOSE")]) == 0;
    let quiet = daemon.scrape_until("every record to be written", nobody_waits)?;
    check_identities(&quiet)
}

fn every_hook_and_the_build_are_told() -> Check {
    let mut daemon = Daemon::start(&[])?;
    let metrics = daemon.scrape()?;
    for (hook, source) in [
        ("inet_sock_set_state", "tp_btf"),
        ("tcp_receive_reset", "tp_btf"),
        ("tcp_send_reset", "tp_btf"),
    ] {
        let labels = [("hook", hook), ("source", source)];
        must_count(&metrics, "tcptrace_hook_attached", &labels, 1)?;
    }
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    must_count(&metrics, "tcptrace_build_info", &build, 1)?;
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "tcptrace_tracker_limit",
    ] {
        ensure!(metrics.sum(name, &[]) > 0.0, "no {name} in:\n{metrics}");
    }
    for name in [
        "tcptrace_events_lost_total",
        "tcptrace_tracker_anomalies_total",
    ] {
        ensure!(metrics.has(name, &[]), "no {name} in:\n{metrics}");
        must_count(&metrics, name, &[], 0)?;
    }
    for (path, status) in [
        ("/", 200),
        ("/-/healthy", 200),
        ("/-/ready", 200),
        ("/no", 404),
    ] {
        let (answer, body) = daemon.get(path)?;
        ensure!(answer == status, "{path} is answered with {answer}: {body}");
    }
    Ok(())
}

fn a_port_that_is_taken_is_a_clear_failure() -> Check {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let arguments = ["daemon", "--web.listen-address", &address];
    let output = Running::to_end(&mut tcptrace(&arguments))?;
    output.must_end_with(1)?;
    output.must_complain(&address)?;
    output.must_complain("in use")?;
    ensure!(output.stdout.is_empty(), "{output:?}");
    Ok(())
}

/// As sd_listen_fds(3) has it: the first is descriptor 3, and the process is named.
fn sockets_that_systemd_hands_over_are_served() -> Check {
    let handed = TcpListener::bind("127.0.0.1:0")?;
    let fd = handed.as_raw_fd();
    let arguments = ["daemon", "--web.systemd-socket"];
    let none = Running::to_end(&mut tcptrace(&arguments))?;
    none.must_end_with(1)?;
    none.must_complain("systemd passed no socket")?;
    let daemon = tcptrace(&arguments);
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\""])
        .arg(daemon.get_program())
        .args(daemon.get_args());
    // SAFETY: system calls; the copy stays open in the program.
    unsafe {
        command.pre_exec(move || {
            // It may be that one already, and would be closed.
            if libc::dup2(fd, 3) < 0 || libc::fcntl(3, libc::F_SETFD, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut running = Running::start(&mut command)
        .map_err(|error| ignored(format!("sh cannot be run: {error:#}")))?;
    let address = listens(&mut running)?;
    ensure!(address == handed.local_addr()?, "it serves on {address}");
    drop(handed);
    let (status, _) = Http::connect(address)?.get("/-/healthy")?;
    ensure!(status == 200, "{status}");
    running.signal(Signal::SIGTERM)?;
    running.wait()?.must_end_with(0)
}

fn a_hangup_reloads_the_settings() -> Check {
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("tcptrace.toml");
    let write = |text: &str| std::fs::write(&file, text);
    write("metrics.max-ports = 4\n")?;
    let name = file.to_str().context("a path that is not UTF-8")?;
    let mut daemon = Daemon::start(&["--config", name])?;
    let reloaded = "tcptrace_config_last_reload_successful";
    for (text, said, successful) in [
        ("metrics.max-ports = 4\n", "the settings were read again", 1),
        (
            "metrics.max-port = 4\n",
            "did you mean metrics.max-ports?",
            0,
        ),
        ("metrics.max-ports = 5\n", "needed for metrics.max-ports", 1),
        (
            "metrics.max-ports = 4\nlog-level = \"debug\"\n",
            " DEBUG ",
            1,
        ),
    ] {
        write(text)?;
        daemon.signal(Signal::SIGHUP)?;
        wait_for(said, || {
            Ok(daemon.complaints().contains(said).then_some(()))
        })
        .with_context(|| daemon.complaints())?;
        must_count(&daemon.scrape()?, reloaded, &[], successful)?;
    }
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn settings_are_checked_without_tracing() -> Check {
    let check = |variable: &str| {
        let mut command = tcptrace(&["daemon", "--check-config"]);
        Running::to_end(command.env("TCPTRACE_METRICS_MAX_PORTS", variable))
    };
    // An empty variable is none.
    for variable in ["4", ""] {
        let valid = check(variable)?;
        valid.must_end_with(0)?;
        ensure!(valid.stdout == "the settings are valid\n", "{valid:?}");
    }
    let invalid = check("many")?;
    invalid.must_end_with(2)?;
    let named = "'TCPTRACE_METRICS_MAX_PORTS (--metrics.max-ports <N>)'";
    invalid.must_complain(&format!("invalid value 'many' for {named}"))?;
    // What is typed goes before a variable, and is named as it was typed.
    let mut command = tcptrace(&["daemon", "--check-config", "--metrics.max-ports=few"]);
    let invalid = Running::to_end(command.env("TCPTRACE_METRICS_MAX_PORTS", "many"))?;
    invalid.must_complain("invalid value 'few' for '--metrics.max-ports <N>'")?;
    // Whichever file it is that is not valid.
    let directory = tempfile::tempdir()?;
    let file = directory.path().join("settings");
    let file = file.to_str().context("a path of UTF-8")?;
    for (flag, text, why) in [
        ("--config", "\nports = 4\n", "line 2: unknown setting ports"),
        ("--web.config.file", "tls: 1\n", "unknown field"),
    ] {
        for more in [&["--check-config"][..], &[]] {
            std::fs::write(file, text)?;
            let arguments = [&["daemon", flag, file], more].concat();
            let invalid = Running::to_end(&mut tcptrace(&arguments))?;
            invalid.must_end_with(2)?;
            invalid.must_complain(&format!("{flag} {file}: "))?;
            invalid.must_complain(why)?;
        }
    }
    for (arguments, why) in [
        (
            &["--metrics.cgroup-label=unit"][..],
            "Set --metrics.cgroups",
        ),
        (&["--metrics.cgroup-pattern=(a)"], "Set --metrics.cgroups"),
        (
            &[
                "--metrics.cgroups=9",
                "--metrics.cgroup-pattern=(a)",
                "--metrics.cgroup-label=pod",
            ],
            "leave one of them out",
        ),
    ] {
        let arguments = [&["daemon", "--check-config"], arguments].concat();
        let invalid = Running::to_end(&mut tcptrace(&arguments))?;
        invalid.must_end_with(2)?;
        invalid.must_complain(why)?;
    }
    Ok(())
}

fn every_line_of_a_log_has_its_format() -> Check {
    let is_json = |line: &str| -> Check {
        let line = serde_json::from_str::<serde_json::Value>(line).context(line.to_owned())?;
        for field in ["timestamp", "level", "message"] {
            ensure!(line[field].is_string(), "no {field}: {line}");
        }
        Ok(())
    };
    let log = ["daemon", "--log-format", "json", "--log-level", "debug"];
    let arguments = [&log[..], &["--web.listen-address", "127.0.0.1:0"]].concat();
    let mut daemon = Running::start(&mut tcptrace(&arguments))?;
    wait_for("the daemon to trace", || {
        let is_tracing = daemon.complaints().contains("tracing TCP connections");
        Ok(is_tracing.then_some(()))
    })?;
    daemon.signal(Signal::SIGTERM)?;
    let output = daemon.wait()?;
    output.must_end_with(0)?;
    ensure!(output.stderr.lines().count() > 2, "{output:?}");
    output.stderr.lines().try_for_each(is_json)?;
    // An error that ends it too. No interface has that address (RFC 5737).
    let arguments = [&log[..], &["--web.listen-address", "192.0.2.1:9823"]].concat();
    let output = Running::to_end(&mut tcptrace(&arguments))?;
    output.must_end_with(1)?;
    output.must_complain("cannot listen on 192.0.2.1:9823")?;
    output.stderr.lines().try_for_each(is_json)?;
    // A tail says all of itself alike.
    let arguments = ["tail", "--duration", "1s", "--log-level", "debug"];
    let output = Running::to_end(&mut tcptrace(&arguments))?;
    output.must_end_with(0)?;
    let last = output.stderr.lines().last().unwrap_or_default();
    for line in output.stderr.lines().filter(|line| *line != last) {
        ensure!(line.starts_with("tcptrace: "), "{line:?}");
    }
    Ok(())
}

fn a_termination_ends_it_well() -> Check {
    ends_well(Signal::SIGTERM)
}

fn an_interrupt_ends_it_well() -> Check {
    ends_well(Signal::SIGINT)
}

fn ends_well(signal: Signal) -> Check {
    let daemon = Daemon::start(&[])?;
    let address: SocketAddr = daemon.address();
    let output = daemon.stop(signal)?;
    output.must_end_with(0)?;
    ensure!(output.stdout.is_empty(), "{output:?}");
    let complaints = output
        .stderr
        .lines()
        .filter(|line| !line.contains(" INFO "));
    ensure!(complaints.count() == 0, "it complains: {output:?}");
    // The port is free again at once.
    TcpListener::bind(address).context("listening where the daemon did")?;
    Ok(())
}

/// Runs promtool, which must be content.
fn promtool(arguments: &[&str], directory: &str, input: &str) -> Check {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| ignored(format!("promtool cannot be run: {error}")))?;
    let mut stdin = promtool.stdin.take().context("its standard input")?;
    stdin.write_all(input.as_bytes())?;
    drop(stdin);
    let output = promtool.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // Of metrics it says nothing that are well.
    let is_content = output.status.success() && (input.is_empty() || said.is_empty());
    ensure!(is_content, "{}: {said}", output.status);
    Ok(())
}

fn a_stop_at_any_moment_of_the_start_ends_it_well() -> Check {
    // From before it loads anything to after it is ready, however slow the machine is.
    let mut moment = Duration::ZERO;
    loop {
        let mut command = tcptrace(&["daemon", "--web.listen-address", "127.0.0.1:0"]);
        let mut running = Running::start(&mut command)?;
        wait_for("it to take signals", || Ok(takes_signals(running.pid())))?;
        std::thread::sleep(moment);
        running.signal(Signal::SIGTERM)?;
        let output = running.wait()?;
        output.must_end_with(0)?;
        let said = &output.stderr;
        ensure!(!said.contains("panicked"), "after {moment:?}: {said}");
        ensure!(!said.contains("ERROR"), "after {moment:?}: {said}");
        if said.contains("stop with SIGTERM") {
            return Ok(());
        }
        moment += moment / 4 + Duration::from_millis(10);
    }
}

fn runs_of_programs_are_counted_if_that_is_asked_for() -> Check {
    let mut daemon = Daemon::start(&["--program-stats"])?;
    let namespace = Namespace::new()?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    // A transition each, at the least.
    for _ in 0..GRACEFUL {
        drop(namespace.pair(&listener)?);
    }
    let runs = "tcptrace_program_runs_total";
    let transitions = i64::try_from(GRACEFUL)?;
    let metrics = daemon.scrape_until("runs of the programs", |metrics| {
        let names = ["set_state_btf", "set_state_classic"];
        let of = |name| metrics.count(runs, &[("program", name)]);
        names.map(of).iter().sum::<i64>() >= transitions
    })?;
    let seconds = metrics.sum("tcptrace_program_run_seconds_total", &[]);
    ensure!(seconds > 0.0, "{metrics}");
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn running_out_of_descriptors_is_logged_once_and_passes() -> Check {
    let daemon = Daemon::start(&["--poll-interval", "off", "--resync-interval", "off"])?;
    let pid = daemon.pid().try_into()?;
    let mut before = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: what is written outlives the call.
    let read =
        unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before) };
    ensure!(read == 0, "prlimit: {}", std::io::Error::last_os_error());
    let limit = |descriptors| -> Check {
        let new = libc::rlimit {
            rlim_cur: descriptors,
            ..before
        };
        // SAFETY: what is read outlives the call.
        let set = unsafe {
            libc::prlimit(
                pid,
                libc::RLIMIT_NOFILE,
                &raw const new,
                std::ptr::null_mut(),
            )
        };
        ensure!(set == 0, "prlimit: {}", std::io::Error::last_os_error());
        Ok(())
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid()))?.count();
    // Numbers that were given back are free as well.
    limit(u64::try_from(open)?)?;
    let mut clients = (0..open + 10)
        .map(|_| Http::connect(daemon.address()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let line = "cannot accept connections";
    wait_for("the log to say so", || {
        Ok(daemon.complaints().contains(line).then_some(()))
    })?;
    // It tries again and again meanwhile.
    std::thread::sleep(Duration::from_secs(2));
    limit(before.rlim_cur)?;
    for client in &mut clients {
        let (status, _) = client.get("/-/healthy")?;
        ensure!(status == 200, "{status}");
    }
    let said = daemon.complaints();
    ensure!(said.matches(line).count() == 1, "{said}");
    drop(clients);
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn promtool_accepts_the_exposition() -> Check {
    let mut daemon = Daemon::start(&[])?;
    let metrics = daemon.scrape()?;
    promtool(&["check", "metrics"], ".", metrics.text())
}

fn the_rules_for_prometheus_pass_their_tests() -> Check {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus");
    if !Path::new(directory).is_dir() {
        return Err(ignored("the repository is not here"));
    }
    promtool(&["check", "rules", "rules.yml"], directory, "")?;
    promtool(&["test", "rules", "tests.yml"], directory, "")
}
