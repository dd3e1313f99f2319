//! The binaries that guests run: tcptrace and its kernel tests, statically linked.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Architecture;
use crate::{aarch64, command, workspace::Workspace};

/// The binaries' target. Named even if it is the host's own, so that cargo keeps the flags from
/// build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Links all libraries into a binary.
const STATIC: &str = "target-feature=+crt-static";

pub(crate) struct Binaries {
    /// The binary under test.
    pub(crate) tcptrace: PathBuf,
    /// The tests.
    pub(crate) tests: PathBuf,
}

/// Builds both.
pub(crate) fn build(
    workspace: &Workspace,
    architecture: Architecture,
    install: bool,
) -> Result<Binaries> {
    let mut command = match architecture {
        Architecture::Amd64 => cargo(),
        Architecture::Arm64 => cargo_for_arm64(workspace, install)?,
    };
    command
        .args(["--package", "tcptrace", "--test", "kernel", "--no-run"])
        // The profile in the workspace's `Cargo.toml`.
        .args(["--profile", "vm"])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace.root())
        .stderr(Stdio::inherit());
    eprintln!("building the static tests for virtual machines");
    let output = command.output().context("cannot run cargo test --no-run")?;
    if !output.status.success() {
        bail!(
            "the static tests could not be built: {}. They need the static C library, of the \
             package libc6-dev, and rustup target add {TARGET} where that is not the host's own",
            output.status
        );
    }
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(Binaries {
        tcptrace: find(&said, "bin", "tcptrace")?,
        tests: find(&said, "test", "kernel")?,
    })
}

/// cargo, to build static binaries for this machine.
fn cargo() -> Command {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = command::cargo();
    command
        .args(["test", "--target", TARGET])
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env("RUSTFLAGS", format!("{flags} -C {STATIC}"));
    command
}

/// cargo, to build static binaries for aarch64.
fn cargo_for_arm64(workspace: &Workspace, install: bool) -> Result<Command> {
    let linker = format!("linker={}", aarch64::GCC);
    aarch64::cargo(workspace, install, "test", &["-C", STATIC, "-C", &linker])
}

/// Finds a binary in cargo's messages.
pub(crate) fn find(messages: &str, kind: &str, name: &str) -> Result<PathBuf> {
    let messages = messages.lines().map(serde_json::from_str::<Value>);
    let mut built = messages.filter_map(|message| {
        let message = message.ok()?;
        let target = &message["target"];
        let executable = message["executable"].as_str()?.into();
        (target["name"] == name && target["kind"][0] == kind).then_some(executable)
    });
    let found = built.next();
    found.with_context(|| format!("cargo built no {kind} called {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_found_by_kind_and_name() {
        let messages = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"tcptrace"},"executable":null,"fresh":true}
{"reason":"build-script-executed","package_id":"tcptrace"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"tcptrace"},"executable":"/t/tcptrace"}
{"reason":"build-finished","success":true}
"#;
        let found = find(messages, "bin", "tcptrace").expect("it is there");
        assert_eq!(found, PathBuf::from("/t/tcptrace"));
        let error = find(messages, "test", "kernel").expect_err("it is not there");
        assert_eq!(error.to_string(), "cargo built no test called kernel");
    }
}
