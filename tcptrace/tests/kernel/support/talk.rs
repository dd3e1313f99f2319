//! Two processes of different names that talk, and all that the records must say of it.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{
    Check,
    hooks::{accepted_by, handshake_source},
    ignored,
    namespace::Namespace,
    record::{Record, Records},
    test_process::TestProcess,
};

/// What the client sends and what it receives.
pub(crate) const TO_SERVER: u64 = 1_000;
pub(crate) const TO_CLIENT: u64 = 300;

/// What they talk over.
#[derive(Debug)]
pub(crate) struct Over {
    listen: &'static str,
    address: &'static str,
    family: &'static str,
}

pub(crate) const IPV4: Over = Over {
    listen: "127.0.0.1",
    address: "127.0.0.1",
    family: "ipv4",
};

pub(crate) const IPV6: Over = Over {
    listen: "[::1]",
    address: "::1",
    family: "ipv6",
};

/// IPv6 sockets, IPv4 packets.
pub(crate) const MAPPED: Over = Over {
    listen: "[::ffff:127.0.0.1]",
    address: "127.0.0.1",
    family: "ipv4",
};

/// Two processes that will talk, and a tail that watches them.
pub(crate) struct Talk {
    namespace: Namespace,
    client: TestProcess,
    server: TestProcess,
}

/// What the talk was.
pub(crate) struct Said {
    client: SocketAddr,
    server: SocketAddr,
}

impl Talk {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        Ok(Self {
            client: TestProcess::start(&namespace, "tt-client")?,
            server: TestProcess::start(&namespace, "tt-server")?,
            namespace,
        })
    }

    pub(crate) const fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The client connects, says something, hears something and closes first.
    pub(crate) fn talk(&mut self, over: &Over, port: u16) -> anyhow::Result<Said> {
        let Self { client, server, .. } = self;
        let server_address = match server.listen(&format!("{}:{port}", over.listen)) {
            Err(error) if over.listen == IPV6.listen => {
                return Err(ignored(format!("no IPv6 here: {error:#}")));
            }
            listening => listening?,
        };
        let client_address = client.connect(server_address)?;
        server.tell("accept")?;
        client.tell(&format!("send {TO_SERVER}"))?;
        server.tell(&format!("receive {TO_SERVER}"))?;
        server.tell(&format!("send {TO_CLIENT}"))?;
        client.tell(&format!("receive {TO_CLIENT}"))?;
        client.tell("close")?;
        server.tell_all(&["receive-end", "close"])?;
        Ok(Said {
            client: client_address,
            server: server_address,
        })
    }

    /// The records of a talk, with everything that can be known.
    pub(crate) fn check_records(&self, records: &Records, said: &Said, over: &Over) -> Check {
        self.check_known_without_btf(records, said, over)?;
        for record in &records.0 {
            record.must_have(&json!({"netns": self.namespace.inode()}))?;
        }
        for record in records.of("connection") {
            record.must_have(&json!({
                "uid": 0, "verdict": "graceful", "retransmits": 0, "syn_retransmits": 0,
            }))?;
            record.must_lack(&["errno", "errno_number"])?;
            ensure!(record.number("established_us").is_some(), "{record}");
        }
        let [active, passive] = self.sides(said);
        records.only("connection", &active)?.must_have(&json!({
            "bytes_sent": TO_SERVER, "bytes_received": TO_CLIENT,
        }))?;
        records.only("connection", &passive)?.must_have(&json!({
            "bytes_sent": TO_CLIENT, "bytes_received": TO_SERVER, "peer_fin": true,
        }))?;
        for kind in ["handshake", "connection"] {
            let record = records.only(kind, &passive)?;
            record.must_have(&self.server())?;
            record.must_have(&json!({
                "handshake_source": handshake_source(), "syn_retransmits": 0,
            }))?;
        }
        records
            .only("connection", &passive)?
            .must_have(&json!({"pid_source": accepted_by()}))?;
        records
            .only("handshake", &active)?
            .must_have(&json!({"syn_retransmits": 0}))
    }

    /// The same, with what the transitions alone tell.
    pub(crate) fn check_known_without_btf(
        &self,
        records: &Records,
        said: &Said,
        over: &Over,
    ) -> Check {
        ensure!(
            records.len() == 4,
            "not two handshakes and two connections:\n{records}"
        );
        for record in &records.0 {
            record.must_have(&json!({
                "schema": "tcptrace/1", "family": over.family,
                "local_address": over.address, "remote_address": over.address,
            }))?;
        }
        let [active, passive] = self.sides(said);
        for side in [&active, &passive] {
            check_order(records, side)?;
            let record = records.only("connection", side)?;
            record.must_have(&json!({"established": true, "completeness": "full"}))?;
            check_times(record)?;
        }
        records.only("connection", &active)?.must_have(&json!({
            "closed_by": "local", "last_state": "FIN_WAIT2",
        }))?;
        records.only("connection", &passive)?.must_have(&json!({
            "closed_by": "remote", "last_state": "LAST_ACK",
        }))?;
        // Who listens at its address may not be the only one: but whoever closes it has it.
        records
            .only("connection", &passive)?
            .must_have(&self.server())?;
        for kind in ["handshake", "connection"] {
            let record = records.only(kind, &active)?;
            record.must_have(&json!({"handshake_source": "syn_sent"}))?;
            ensure!(record.number("handshake_us").is_some(), "{record}");
        }
        Ok(())
    }

    /// What tells each side: the active one, then the passive one.
    fn sides(&self, said: &Said) -> [Value; 2] {
        let (client, server) = (said.client.port(), said.server.port());
        [
            json!({
                "role": "active", "local_port": client, "remote_port": server,
                "pid": self.client.pid(), "comm": "tt-client", "pid_source": "connect",
            }),
            json!({
                "role": "passive", "local_port": server, "remote_port": client,
            }),
        ]
    }

    fn server(&self) -> Value {
        json!({"pid": self.server.pid(), "comm": "tt-server"})
    }
}

/// The handshake comes before the connection's end, and they tell of the same.
fn check_order(records: &Records, side: &Value) -> Check {
    let handshake = records.only("handshake", side)?;
    let connection = records.only("connection", side)?;
    ensure!(handshake.text("id") == connection.text("id"), "two ids");
    let first = records
        .0
        .iter()
        .find(|record| record.text("id") == connection.text("id"));
    ensure!(
        first.is_some_and(|record| record.is("handshake")),
        "the handshake does not come first:\n{records}"
    );
    ensure!(
        handshake.text("time") == connection.text("established_at"),
        "the handshake's time is not the connection's: {handshake} {connection}"
    );
    Ok(())
}

/// Times in order; RFC 3339 of one length sorts as text.
fn check_times(record: &Record) -> Check {
    let time = |name| {
        record
            .text(name)
            .with_context(|| format!("{name} in {record}"))
    };
    let times = [
        time("opened_at")?,
        time("established_at")?,
        time("closed_at")?,
    ];
    ensure!(times.is_sorted(), "times out of order: {record}");
    ensure!(record.text("time") == Some(times[2]), "{record}");
    let number = |name| {
        record
            .number(name)
            .with_context(|| format!("{name} in {record}"))
    };
    let duration = number("duration_us")?;
    ensure!(
        record.number("established_us") <= Some(duration),
        "longer established than open: {record}"
    );
    Ok(())
}
