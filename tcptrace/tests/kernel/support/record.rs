//! A line of JSON, and what is expected of it.

use std::fmt;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use super::namespace::Namespace;

/// A record as the binary wrote it.
#[derive(Clone, Debug)]
pub(crate) struct Record(Value);

impl Record {
    /// A field, whatever it is.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Its network namespace's number and cookie.
    pub(crate) fn netns(&self) -> [Option<u64>; 2] {
        [self.number("netns"), self.number("netns_cookie")]
    }

    /// It is of this namespace.
    pub(crate) fn is_in(&self, namespace: &Namespace) -> bool {
        self.netns() == namespace.id()
    }

    /// Reads a line.
    pub(crate) fn parse(line: &str) -> anyhow::Result<Self> {
        let value: Value =
            serde_json::from_str(line).with_context(|| format!("not JSON: {line:?}"))?;
        ensure!(value.is_object(), "not an object: {line}");
        Ok(Self(value))
    }

    /// A field that is text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A field that is a number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// It is of this type.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.text("type") == Some(kind)
    }

    /// A transition, as `FROM→TO`.
    pub(crate) fn step(&self) -> Option<String> {
        Some(format!("{}→{}", self.text("from")?, self.text("to")?))
    }

    /// Every field of `expected` is there and equal.
    pub(crate) fn must_have(&self, expected: &Value) -> anyhow::Result<()> {
        let expected = expected.as_object().context("an object is expected")?;
        for (name, value) in expected {
            if self.0.get(name) != Some(value) {
                bail!("{name} is not {value} in {self}");
            }
        }
        Ok(())
    }

    /// None of these fields is there.
    pub(crate) fn must_lack(&self, names: &[&str]) -> anyhow::Result<()> {
        for name in names {
            ensure!(self.0.get(*name).is_none(), "{name} is known in {self}");
        }
        Ok(())
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// All that a tail wrote about the test's own connections.
#[derive(Clone, Debug, Default)]
pub(crate) struct Records(pub(crate) Vec<Record>);

impl Records {
    /// Those of one type.
    pub(crate) fn of(&self, kind: &str) -> Vec<&Record> {
        self.0.iter().filter(|record| record.is(kind)).collect()
    }

    /// The only one of a type for which all of `expected` holds.
    pub(crate) fn only(&self, kind: &str, expected: &Value) -> anyhow::Result<&Record> {
        let found: Vec<_> = self
            .of(kind)
            .into_iter()
            .filter(|record| record.must_have(expected).is_ok())
            .collect();
        match found[..] {
            [record] => Ok(record),
            [] => bail!("no {kind} with {expected} in:\n{self}"),
            _ => bail!("{} of {kind} with {expected} in:\n{self}", found.len()),
        }
    }

    /// The transitions of whom `expected` holds at any of them, as `FROM→TO`.
    pub(crate) fn steps(&self, expected: &Value) -> anyhow::Result<Vec<String>> {
        let mut ids: Vec<&str> = self
            .of("transition")
            .into_iter()
            .filter(|record| record.must_have(expected).is_ok())
            .filter_map(|record| record.text("id"))
            .collect();
        ids.dedup();
        match ids[..] {
            [id] => Ok(self
                .of("transition")
                .into_iter()
                .filter(|record| record.text("id") == Some(id))
                .filter_map(Record::step)
                .collect()),
            [] => bail!("no transition with {expected} in:\n{self}"),
            _ => bail!("not just one connection with {expected} in:\n{self}"),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for record in &self.0 {
            writeln!(f, "{record}")?;
        }
        Ok(())
    }
}

/// A number of a record is no less than what the peer measured.
pub(crate) fn at_least(record: &Record, name: &str, least_ns: u64) -> anyhow::Result<()> {
    let number = record
        .number(name)
        .with_context(|| format!("no {name} in {record}"))?;
    // Both are rounded down.
    ensure!(
        number + 1 >= least_ns / 1_000,
        "{name} is {number}, and the peer measured {} at the least: {record}",
        least_ns / 1_000
    );
    Ok(())
}

/// A number of a record is between what the peer measured at the least and at the most.
pub(crate) fn between(
    record: &Record,
    name: &str,
    least_ns: u64,
    most_ns: u64,
) -> anyhow::Result<()> {
    at_least(record, name, least_ns)?;
    let number = record.number(name).unwrap_or(0);
    ensure!(
        number <= most_ns / 1_000 + 1,
        "{name} is {number}, and the peer measured {} at the most: {record}",
        most_ns / 1_000
    );
    Ok(())
}

/// A path through the states: `"CLOSE SYN_SENT …"` as `FROM→TO`.
pub(crate) fn path(states: &str) -> Vec<String> {
    let states: Vec<_> = states.split_whitespace().collect();
    let pairs = states.windows(2);
    pairs
        .map(|pair| format!("{}→{}", pair[0], pair[1]))
        .collect()
}
