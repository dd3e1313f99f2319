//! A connection as the records tell of it, held against what it must have been.

use std::fmt;

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::kernel::Kernel;
use crate::support::{
    Check,
    hooks::time_wait,
    namespace::Namespace,
    record::{Record, Records, path},
};

/// All records of one connection, in their order.
#[derive(Debug, Default)]
pub(crate) struct ConnectionRecords {
    transitions: Vec<Record>,
    handshakes: Vec<Record>,
    connections: Vec<Record>,
    releases: Vec<Record>,
}

impl ConnectionRecords {
    /// Takes all records apart by connection, in the order in which they began. Whatever else they
    /// must be is for the scenario to say; that they belong together is seen to here.
    pub(super) fn all(records: &Records, namespace: &Namespace) -> anyhow::Result<Vec<Self>> {
        let mut lives: Vec<(String, Self)> = Vec::new();
        for record in &records.0 {
            record.must_have(&json!({"schema": "tcptrace/1"}))?;
            ensure!(record.is_in(namespace), "another namespace's: {record}");
            let id = record.text("id").context("a record without an id")?;
            // A listener's transitions have no role, and connections have one.
            if record.text("role").is_none() {
                must_be_a_listeners(record)?;
                continue;
            }
            let index = lives.iter().position(|(known, _)| known == id);
            let index = index.unwrap_or_else(|| {
                lives.push((id.to_owned(), Self::default()));
                lives.len() - 1
            });
            lives[index].1.take(record)?;
        }
        let lives: Vec<_> = lives.into_iter().map(|(_, life)| life).collect();
        for life in &lives {
            life.must_hang_together()
                .with_context(|| format!("not one story:\n{life}"))?;
        }
        Ok(lives)
    }

    fn take(&mut self, record: &Record) -> Check {
        let kind = record.text("type").context("a record without a type")?;
        match kind {
            "transition" => &mut self.transitions,
            "handshake" => &mut self.handshakes,
            "connection" => &mut self.connections,
            "release" => &mut self.releases,
            other => bail!("a record of type {other}: {record}"),
        }
        .push(record.clone());
        Ok(())
    }

    /// What holds for every connection that was seen from its beginning.
    fn must_hang_together(&self) -> Check {
        let states = |name| self.transitions.iter().map(move |it| it.text(name));
        let (left, entered) = (states("from").skip(1), states("to"));
        ensure!(left.zip(entered).all(|(a, b)| a == b), "a state is missing");
        ensure!(self.handshakes.len() <= 1, "two handshakes");
        ensure!(self.connections.len() <= 1, "two ends");
        ensure!(self.releases.len() <= 1, "two releases");
        ensure!(
            self.releases.is_empty() || !self.connections.is_empty(),
            "a release before the record"
        );
        let Some(first) = self.transitions.first() else {
            return self.never_left_close();
        };
        if first.text("from") == Some("LISTEN") {
            let peer_is_known = first.number("remote_port").is_some();
            ensure!(
                peer_is_known == Kernel::here().knows_the_peer_at_syn_recv(),
                "whether the peer is known at LISTEN→SYN_RECV depends on the kernel: {first}"
            );
        }
        first.must_lack(&["in_state_us"])?;
        for record in &self.transitions[1..] {
            ensure!(record.number("in_state_us").is_some(), "{record}");
        }
        let last = self.transitions.last().context("no transition")?;
        ensure!(
            self.connections.is_empty() || last.text("to") == Some("CLOSE"),
            "its record came before its end"
        );
        for record in &self.connections {
            record.must_have(&json!({
                "completeness": "full", "last_state": last.text("from"),
                "established": !self.handshakes.is_empty(),
            }))?;
            self.record_must_hang_together(record)?;
        }
        Ok(())
    }

    /// What holds for a connect() that failed before SYN_SENT.
    fn never_left_close(&self) -> Check {
        let record = self
            .connections
            .first()
            .context("neither a transition nor an end")?;
        record.must_have(&json!({
            "role": "active", "completeness": "full", "last_state": "CLOSE", "established": false,
            "end_seen": true, "pid": std::process::id(), "pid_source": "connect",
        }))?;
        record.must_lack(&[
            "opened_at",
            "established_at",
            "duration_us",
            "handshake_us",
            "bytes_sent",
            "closed_by",
        ])?;
        self.record_must_hang_together(record)
    }

    /// What holds for every record, whatever happened.
    fn record_must_hang_together(&self, record: &Record) -> Check {
        for [one, other] in [
            ["handshake_us", "handshake_source"],
            ["time_wait", "time_wait_source"],
            ["pid", "pid_source"],
            ["errno", "errno_number"],
        ] {
            let both = [one, other].map(|name| record.get(name).is_some());
            ensure!(both[0] == both[1], "{one} without {other}: {record}");
        }
        // The handshake's own record said the same.
        for handshake in &self.handshakes {
            for name in ["handshake_us", "handshake_source", "deferred", "fast_open"] {
                ensure!(
                    handshake.get(name) == record.get(name),
                    "{name} has changed: {handshake} {record}"
                );
            }
        }
        let accepted = record.text("pid_source") == Some("accept");
        let passive = record.text("role") == Some("passive");
        ensure!(
            passive || !accepted,
            "an active open was accepted: {record}"
        );
        let last_state = record.text("last_state");
        // Whatever was in TIME_WAIT or is yet to be, called close() before the peer's FIN came.
        if last_state == Some("LAST_ACK")
            || record.text("closed_by") == Some("remote") && last_state != Some("CLOSING")
        {
            record.must_have(&time_wait(false))?;
        }
        if record.number("fin_wait2_us").is_some() {
            record.must_have(&json!({"peer_fin": true}))?;
        }
        // Both begin or end when our FIN leaves.
        let fin_left = record.number("half_closed_us").is_some();
        ensure!(
            record.number("last_ack_us").is_some() == (fin_left && last_state == Some("LAST_ACK")),
            "LAST_ACK has no time: {record}"
        );
        Ok(())
    }

    /// Its transitions as `FROM→TO`.
    fn steps(&self) -> Vec<String> {
        self.transitions.iter().filter_map(Record::step).collect()
    }

    /// It went through exactly these states: `"CLOSE SYN_SENT ESTABLISHED"`.
    pub(crate) fn went(&self, states: &str) -> Check {
        let expected = path(states);
        let steps = self.steps();
        ensure!(
            steps == expected,
            "it should have gone {}\nbut went       {}\n{self}",
            expected.join(" "),
            steps.join(" ")
        );
        Ok(())
    }

    /// It went through these states first, and then through others.
    pub(crate) fn began(&self, states: &str) -> Check {
        let expected = path(states);
        let steps = self.steps();
        ensure!(
            steps.starts_with(&expected),
            "it should have begun {}\nbut went             {}\n{self}",
            expected.join(" "),
            steps.join(" ")
        );
        Ok(())
    }

    /// The record of its end has all of this; an error only if it is among it.
    pub(crate) fn ended(&self, expected: &Value) -> anyhow::Result<&Record> {
        let [record] = &self.connections[..] else {
            bail!("it has not ended:\n{self}");
        };
        record.must_have(expected)?;
        if expected.get("errno").is_none() {
            record.must_lack(&["errno", "errno_number"])?;
        }
        Ok(record)
    }

    /// The record of its handshake has all of this.
    pub(crate) fn shook_hands(&self, expected: &Value) -> anyhow::Result<&Record> {
        let [record] = &self.handshakes[..] else {
            bail!("there is no handshake:\n{self}");
        };
        record.must_have(expected)?;
        Ok(record)
    }

    /// What was learnt after the record has all of this.
    pub(crate) fn was_released(&self, expected: &Value) -> anyhow::Result<&Record> {
        let [record] = &self.releases[..] else {
            bail!("nothing was learnt after its record:\n{self}");
        };
        record.must_have(expected)?;
        Ok(record)
    }

    /// Nothing was learnt after its record.
    pub(crate) fn was_not_released(&self) -> Check {
        ensure!(self.releases.is_empty(), "it was released:\n{self}");
        Ok(())
    }

    /// It was never established.
    pub(crate) fn never_shook_hands(&self) -> Check {
        ensure!(self.handshakes.is_empty(), "there is a handshake:\n{self}");
        Ok(())
    }

    /// The transition into a state, the first if there are more.
    pub(crate) fn entered(&self, state: &str) -> anyhow::Result<&Record> {
        self.transitions
            .iter()
            .find(|record| record.text("to") == Some(state))
            .with_context(|| format!("it never entered {state}:\n{self}"))
    }
}

fn must_be_a_listeners(record: &Record) -> Check {
    let step = record.step();
    ensure!(
        matches!(step.as_deref(), Some("CLOSE→LISTEN" | "LISTEN→CLOSE")),
        "a record of no connection and no listener: {record}"
    );
    Ok(())
}

impl fmt::Display for ConnectionRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in self
            .transitions
            .iter()
            .chain(&self.handshakes)
            .chain(&self.connections)
            .chain(&self.releases)
        {
            writeln!(f, "{record}")?;
        }
        Ok(())
    }
}
