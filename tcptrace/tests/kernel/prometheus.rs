//! A real Prometheus scrapes the daemon, by TLS and with a password, while connections are made.

use std::{
    fs,
    io::Read,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Check,
    daemon::{Http, listens},
    ignored,
    namespace::Namespace,
    program::{Running, tcptrace},
    sockets::abort_at_close,
    tests, wait_for,
};

tests![prometheus_has_the_true_numbers_and_the_rules_run];

const GRACEFUL: u64 = 20;
const REFUSED: u64 = 7;
const RESET: u64 = 3;

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

    /// The one number that a query answers with, if it does.
    fn query(&self, query: &str) -> anyhow::Result<Option<f64>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (status, body) = self.get(&format!("/api/v1/query?query={encoded}"))?;
        ensure!(status == 200, "{query}: {status}: {body}");
        let answer: Value = serde_json::from_str(&body)?;
        let value = answer["data"]["result"][0]["value"][1].as_str();
        Ok(value.map(str::parse).transpose()?)
    }
}

fn prometheus_has_the_true_numbers_and_the_rules_run() -> Check {
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
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let port = address.port().to_string();
    let mut command = tcptrace(&["daemon", "--web.listen-address", "127.0.0.1:0"]);
    command
        .args(["--metrics.ports", &port, "--poll-interval", "1s"])
        .arg("--web.config.file")
        .arg(path("web.yml"));
    let mut daemon = Running::start(&mut command)?;
    let prometheus = Prometheus::start(directory.path(), listens(&mut daemon)?)?;
    // What a scrape has shown before anything happened can grow.
    wait_for("a scrape", || {
        Ok(prometheus
            .query("tcptrace_connections_seeded_total")?
            .map(drop))
    })?;
    for _ in 0..GRACEFUL {
        let (client, mut server) = namespace.pair(&listener)?;
        drop(client);
        server.read_to_end(&mut Vec::new())?;
    }
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
    let opened = GRACEFUL + RESET;
    let of = |name: &str, more: &str| format!("sum({name}{{port=\"{port}\"{more}}})");
    let failed = "tcptrace_handshake_failures_total";
    let closed = "tcptrace_connections_closed_total";
    let handshakes = "tcptrace_handshake_duration_seconds";
    for (query, expected) in [
        (
            of("tcptrace_connection_attempts_total", ""),
            2 * opened + REFUSED,
        ),
        (
            of("tcptrace_connections_established_total", ",role=\"active\""),
            opened,
        ),
        (
            of(
                "tcptrace_connections_established_total",
                ",role=\"passive\"",
            ),
            opened,
        ),
        (of(failed, ",verdict=\"refused\""), REFUSED),
        (of(failed, ""), REFUSED),
        (of(closed, ",verdict=\"graceful\""), 2 * GRACEFUL),
        (of(closed, ",verdict=\"reset_by_us\""), RESET),
        (of(closed, ",verdict=\"reset_received\""), RESET),
        (
            of(
                &format!("{handshakes}_bucket"),
                ",role=\"active\",le=\"+Inf\"",
            ),
            opened,
        ),
        (
            of(&format!("{handshakes}_count"), ",role=\"active\""),
            opened,
        ),
    ] {
        let mut last = None;
        let found = wait_for(&query, || {
            last = prometheus.query(&query)?;
            Ok((last == Some(expected as f64)).then_some(()))
        });
        found.with_context(|| format!("{last:?}, not {expected}"))?;
    }
    // Over all ports; each scrape is of one moment.
    let identity = "sum(tcptrace_connection_attempts_total) + sum(tcptrace_connections_seeded_total) \
                    - sum(tcptrace_handshake_failures_total) - sum(tcptrace_connections_closed_total) \
                    - sum(tcptrace_tracker_evictions_total) - sum(tcptrace_connections)";
    let rest = prometheus.query(identity)?;
    ensure!(rest == Some(0.0), "attempts + seeded is {rest:?} off");

    let rules = wait_for("every rule to have run", || {
        let (_, body) = prometheus.get("/api/v1/rules")?;
        let answer: Value = serde_json::from_str(&body)?;
        let groups = answer["data"]["groups"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let rules: Vec<Value> = groups
            .iter()
            .filter_map(|group| group["rules"].as_array())
            .flatten()
            .cloned()
            .collect();
        let have_run = rules.iter().all(|rule| rule["health"] != "unknown");
        Ok((have_run && !rules.is_empty()).then_some(rules))
    })?;
    for rule in rules {
        ensure!(rule["health"] == "ok", "{rule}");
    }
    daemon.signal(Signal::SIGTERM)?;
    daemon.wait()?.must_end_with(0)
}
