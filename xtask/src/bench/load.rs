//! The load generator, `tcptrace/examples/load`.

use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Runs the load generator.
pub(super) struct Load(PathBuf);

/// What a command used.
pub(super) struct Usage {
    pub(super) user_s: f64,
    pub(super) system_s: f64,
    pub(super) peak_bytes: f64,
}

impl Load {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.0);
        command.args(arguments);
        command
    }

    /// Runs one of its measurements and returns a number of its result.
    pub(super) fn number(&self, arguments: &[&str], name: &str) -> Result<f64> {
        number(&result(&mut self.command(arguments))?, name)
    }

    /// Measures the parts of user space with a capture.
    pub(super) fn parts(&self, capture: &Path) -> Result<Value> {
        result(self.command(&["parts"]).arg(capture))
    }

    /// Runs a command with this file as its standard input, and returns what it used.
    pub(super) fn usage(&self, input: &Path, command: &[&OsStr]) -> Result<Usage> {
        let mut measure = self.command(&["measure"]);
        measure.args(command).stdin(File::open(input)?);
        used(&mut measure)
    }

    /// Runs a command in a directory that is a workspace of its own, and returns what it used.
    pub(super) fn usage_in(&self, directory: &Path, command: &[&OsStr]) -> Result<Usage> {
        let mut measure = self.command(&["measure"]);
        measure
            .args(command)
            .current_dir(directory)
            .env_remove("CARGO_TARGET_DIR")
            .stdin(Stdio::null());
        used(&mut measure)
    }
}

fn used(measure: &mut Command) -> Result<Usage> {
    let result = result(measure)?;
    Ok(Usage {
        user_s: number(&result, "user_s")?,
        system_s: number(&result, "system_s")?,
        peak_bytes: number(&result, "peak_bytes")?,
    })
}

/// Returns a number of a line of JSON.
pub(super) fn number(value: &Value, name: &str) -> Result<f64> {
    value[name]
        .as_f64()
        .with_context(|| format!("no number {name} in {value}"))
}

fn result(command: &mut Command) -> Result<Value> {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed: {}: {why}", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?}"))
}
