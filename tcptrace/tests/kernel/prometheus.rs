//! A real Prometheus scrapes the daemon, by TLS and with a password, while connections are made.

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::support::{
    Check,
    daemon::{Http, listens},
    ignored,
    namespace::{Namespace, set_address},
    program::{Running, tcptrace},
    sockets::{abort_at_close, begin_connect, state, wait_state},
    tail::Tail,
    tests, wait_for,
};

tests![prometheus_has_the_true_numbers_and_rules_and_dashboard_have_data];

const GRACEFUL: u64 = 40;
const REFUSED: u64 = 7;
const RESET: u64 = 3;
/// Connections to the listener that takes up one at a time: each of them graceful.
const SLOW: u64 = 2;
const TIMED_OUT: u64 = 2;
/// An address that is not of the loopback's.
const SITE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// TCP_ESTABLISHED and so on.
const ESTABLISHED: u8 = 1;
const SYN_SENT: u8 = 2;
const CLOSED: u8 = 7;

/// A Prometheus that is asked.
struct Prometheus {
    address: SocketAddr,
    /// Dropping it kills it.
    _running: Running,
}

impl Prometheus {
    fn start(directory: &Path, scraped: SocketAddr) -> anyhow::Result<Self> {
        let rules = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../deploy/prometheus/rules.yml"
        );
        if !Path::new(rules).is_file() {
            return Err(ignored("the repository is not here"));
        }
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\n\
             rule_files: [ {rules} ]\n\
             scrape_configs:\n\
             - job_name: tcptrace\n\
             \x20 scheme: https\n\
             \x20 tls_config: {{ ca_file: server.pem, server_name: localhost }}\n\
             \x20 basic_auth: {{ username: prometheus, password: secret }}\n\
             \x20 static_configs: [ {{ targets: [ '{scraped}' ] }} ]\n"
        );
        fs::write(directory.join("prometheus.yml"), config)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = Command::new("prometheus");
        command
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg(format!("--web.listen-address={address}"))
            .current_dir(directory);
        let version = Command::new("prometheus")
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        version.map_err(|error| ignored(format!("prometheus cannot be run: {error}")))?;
        let prometheus = Self {
            address,
            _running: Running::start(&mut command)?,
        };
        wait_for("Prometheus to be ready", || {
            let ready = prometheus.get("/-/ready");
            Ok(ready.is_ok_and(|(status, _)| status == 200).then_some(()))
        })?;
        Ok(prometheus)
    }

    fn get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        Http::connect(self.address)?.get(path)
    }

    /// The series that a query answers with: their labels and values.
    fn series(&self, query: &str) -> anyhow::Result<Vec<(Value, f64)>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, body) = self.get(&format!("/api/v1/query?query={encoded}"))?;
        ensure!(status == 200, "{query}: {status}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        let series = answer["data"]["result"].as_array();
        let series = series.with_context(|| format!("{query}: {body}"))?.iter();
        series
            .map(|series| {
                let value = series["value"][1].as_str().context("no value")?;
                Ok((series["metric"].clone(), value.parse()?))
            })
            .collect()
    }

    /// The number that a query answers with first, if it does.
    fn query(&self, query: &str) -> anyhow::Result<Option<f64>> {
        Ok(self.series(query)?.first().map(|(_, value)| *value))
    }

    fn must_say(&self, query: &str, expected: u64) -> Check {
        let mut last = None;
        let found = wait_for(query, || {
            last = self.query(query)?;
            Ok((last == Some(expected as f64)).then_some(()))
        });
        found.with_context(|| format!("{last:?}, not {expected}"))
    }

    /// Every rule, once each has run.
    fn rules(&self) -> anyhow::Result<Vec<Value>> {
        wait_for("every rule to have run", || {
            let (_, body) = self.get("/api/v1/rules")?;
            let answer: Value = serde_json::from_str(&body)?;
            let groups = answer["data"]["groups"].as_array().cloned();
            let rules: Vec<Value> = groups
                .unwrap_or_default()
                .iter()
                .filter_map(|group| group["rules"].as_array())
                .flatten()
                .cloned()
                .collect();
            let have_run = rules.iter().all(|rule| rule["health"] != "unknown");
            Ok((have_run && !rules.is_empty()).then_some(rules))
        })
    }
}

/// Connections that are made, closed, reset and refused at once.
fn connect_quickly(namespace: &Namespace, listener: &TcpListener, graceful: u64) -> Check {
    for _ in 0..graceful {
        let (client, mut server) = namespace.pair(listener)?;
        drop(client);
        server.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// Connections to a listener that has room for one at a time: what waits has its SYN dropped, and
/// sends it again once.
fn connect_slowly(namespace: &Namespace, listener: &TcpListener, first: TcpStream) -> Check {
    let address = listener.local_addr()?;
    let waiting = || {
        let socket = namespace.run(|| Ok(Socket::new(Domain::IPV4, Type::STREAM, None)?))?;
        begin_connect(&socket, address)?;
        ensure!(state(&socket)? == SYN_SENT, "there was room");
        Ok(socket)
    };
    let second = waiting()?;
    let (first_server, _) = listener.accept()?;
    // It has the listener's room as soon as it has sent its SYN again.
    wait_state(&second, ESTABLISHED)?;
    for late in [waiting()?, waiting()?] {
        wait_state(&late, CLOSED)?;
    }
    let (second_server, _) = listener.accept()?;
    for (client, mut server) in [(first, first_server), (second.into(), second_server)] {
        drop::<TcpStream>(client);
        server.read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

/// The buckets must hold what the records tell. Two tracers looked at the same handshakes, each
/// with its own clock readings: one's time is taken to be within half and twice the other's.
fn must_have_in_buckets(prometheus: &Prometheus, port: &str, role: &str, seconds: &[f64]) -> Check {
    let query =
        format!("tcptrace_handshake_duration_seconds_bucket{{port=\"{port}\",role=\"{role}\"}}");
    let buckets = prometheus.series(&query)?;
    ensure!(buckets.len() > 20, "{query}: {buckets:?}");
    for (labels, value) in buckets {
        let edge: f64 = labels["le"].as_str().context("no le")?.parse()?;
        let up_to = |factor: f64| {
            seconds
                .iter()
                .filter(|time| **time * factor <= edge)
                .count()
        };
        let (least, most) = (up_to(2.0) as f64, up_to(0.5) as f64);
        ensure!(
            (least..=most).contains(&value),
            "{labels}: {value}, not {least} to {most}: {seconds:?}"
        );
    }
    Ok(())
}

/// What the queries of rules and dashboard look at: without the limits of alerts, which hold only
/// when something is wrong.
fn queries(rules: &[Value]) -> anyhow::Result<Vec<String>> {
    let mut queries = Vec::new();
    for rule in rules {
        let query = rule["query"].as_str().context("a rule without a query")?;
        if rule["type"] != "alerting" {
            queries.push(query.to_owned());
            continue;
        }
        let parts = query.split(" and ").flat_map(|part| part.split(" or "));
        for part in parts {
            let part = part
                .strip_prefix("on (job, instance, port) ")
                .unwrap_or(part);
            let limit = [" > ", " == "]
                .into_iter()
                .filter_map(|sign| part.rfind(sign));
            let limit = limit.max().with_context(|| format!("no limit: {part}"))?;
            queries.push(part[..limit].to_owned());
        }
    }
    let dashboard = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/grafana/tcptrace.json"
    );
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(dashboard)?)?;
    let panels = dashboard["panels"].as_array().context("no panels")?;
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    for target in targets {
        let mut query = target["expr"].as_str().context("no query")?.to_owned();
        for (variable, value) in [
            ("$__rate_interval", "1m"),
            ("$instance", ".*"),
            ("$job", ".*"),
            ("$port", ".*"),
        ] {
            query = query.replace(variable, value);
        }
        ensure!(!query.contains('$'), "{query}");
        queries.push(query);
    }
    Ok(queries)
}

fn prometheus_has_the_true_numbers_and_rules_and_dashboard_have_data() -> Check {
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    fs::write(path("server.pem"), own.cert.pem())?;
    fs::write(path("server.key"), own.signing_key.serialize_pem())?;
    let hash = bcrypt::hash("secret", 4)?;
    let web = format!(
        "tls_server_config: {{ cert_file: server.pem, key_file: server.key }}\n\
         basic_auth_users: {{ prometheus: '{hash}' }}\n"
    );
    fs::write(path("web.yml"), web)?;

    let namespace = Namespace::new()?;
    namespace.run(|| set_address("lo:1", libc::SIOCSIFADDR, SITE))?;
    namespace.sysctl("ipv4/tcp_syn_retries", "1")?;
    // They do not count as retries. Before Linux 6.5 there are none.
    drop(namespace.sysctl("ipv4/tcp_syn_linear_timeouts", "0"));
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let slow_listener = namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((SITE, 0)).into())?;
        socket.listen(0)?;
        Ok(TcpListener::from(socket))
    })?;
    let port = address.port().to_string();
    let slow = slow_listener.local_addr()?.port().to_string();
    let mut command = tcptrace(&["daemon", "--web.listen-address", "127.0.0.1:0"]);
    command
        .args(["--metrics.ports", &port, "--metrics.ports", &slow])
        .args(["--poll-interval", "1s", "--resync-interval", "1s"])
        .args(["--metrics.cgroups", "4"])
        .arg("--program-stats")
        .arg("--web.config.file")
        .arg(path("web.yml"));
    let mut daemon = Running::start(&mut command)?;
    let prometheus = Prometheus::start(directory.path(), listens(&mut daemon)?)?;
    let tail = Tail::start(&namespace, &[])?;

    let of = |name: &str, port: &str, more: &str| format!("sum({name}{{port=\"{port}\"{more}}})");
    let established = "tcptrace_connections_established_total";
    let active = ",role=\"active\"";
    // What a scrape has shown before more happens can be seen to grow.
    connect_quickly(&namespace, &listener, 1)?;
    let first = namespace.connect(slow_listener.local_addr()?)?;
    for port in [&port, &slow] {
        prometheus.must_say(&of(established, port, active), 1)?;
    }
    connect_quickly(&namespace, &listener, GRACEFUL - 1)?;
    for _ in 0..RESET {
        let (client, server) = namespace.pair(&listener)?;
        abort_at_close(&client)?;
        drop(client);
        ensure!((&server).read(&mut [0]).is_err(), "no reset");
    }
    drop(listener);
    for _ in 0..REFUSED {
        ensure!(namespace.connect(address).is_err(), "somebody listens");
    }
    connect_slowly(&namespace, &slow_listener, first)?;

    let opened = GRACEFUL + RESET;
    let attempts = "tcptrace_connection_attempts_total";
    let failed = "tcptrace_handshake_failures_total";
    let closed = "tcptrace_connections_closed_total";
    let passive = ",role=\"passive\"";
    for (query, expected) in [
        (of(attempts, &port, ""), 2 * opened + REFUSED),
        (of(attempts, &slow, ""), 2 * SLOW + TIMED_OUT),
        (of(established, &port, active), opened),
        (of(established, &port, passive), opened),
        (of(established, &slow, active), SLOW),
        (of(established, &slow, passive), SLOW),
        (of(failed, &port, ",verdict=\"refused\""), REFUSED),
        (of(failed, &port, ""), REFUSED),
        (
            of(failed, &slow, ",verdict=\"handshake_timeout\""),
            TIMED_OUT,
        ),
        (of(failed, &slow, ""), TIMED_OUT),
        (of(closed, &port, ",verdict=\"graceful\""), 2 * GRACEFUL),
        (of(closed, &port, ",verdict=\"reset_by_us\""), RESET),
        (of(closed, &port, ",verdict=\"reset_received\""), RESET),
        (of(closed, &slow, ",verdict=\"graceful\""), 2 * SLOW),
        (
            of("tcptrace_syn_retransmits_total", &slow, active),
            1 + TIMED_OUT,
        ),
    ] {
        prometheus.must_say(&query, expected)?;
    }
    // Over all ports; each scrape is of one moment.
    let open = |states: &str| format!("sum(tcptrace_connections{{state{states}}})");
    let evicted = |kind: &str| format!("sum(tcptrace_tracker_evictions_total{{kind=\"{kind}\"}})");
    for (began, ended) in [
        (
            format!("sum({attempts})"),
            format!(
                "sum({established}) + sum({failed}) + {} + {}",
                evicted("attempt"),
                open("=~\"SYN_.*\""),
            ),
        ),
        (
            format!("sum({established}) + sum(tcptrace_connections_seeded_total)"),
            format!(
                "sum({closed}) + {} + {}",
                evicted("connection"),
                open("!~\"SYN_.*\""),
            ),
        ),
    ] {
        prometheus.must_say(&format!("{began} - ({ended})"), 0)?;
    }

    let connections = 2 * (opened + SLOW) + REFUSED + TIMED_OUT;
    let records = tail.finish_after(usize::try_from(connections)?)?;
    for (port, role, its_port) in [
        (&port, "active", "remote_port"),
        (&port, "passive", "local_port"),
        (&slow, "active", "remote_port"),
        (&slow, "passive", "local_port"),
    ] {
        let is_its = json!({"role": role, its_port: port.parse::<u16>()?});
        let seconds: Vec<f64> = records
            .of("connection")
            .into_iter()
            .filter(|record| record.must_have(&is_its).is_ok())
            .filter_map(|record| record.get("handshake_us")?.as_f64())
            .map(|us| us / 1e6)
            .collect();
        ensure!(
            !seconds.is_empty(),
            "no {role} handshake of {port} was measured"
        );
        must_have_in_buckets(&prometheus, port, role, &seconds)?;
    }

    let rules = prometheus.rules()?;
    for rule in &rules {
        ensure!(rule["health"] == "ok", "{rule}");
    }
    for query in queries(&rules)? {
        wait_for(&query, || {
            let series = prometheus.series(&query)?;
            let has_a_number = series.iter().any(|(_, value)| !value.is_nan());
            Ok(has_a_number.then_some(()))
        })?;
    }
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?.must_end_with(0)
}
