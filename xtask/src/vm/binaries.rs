//! The binaries that guests run: tcptrace and its kernel tests, linked so that they need no
//! library.

use std::{env, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::{command::cargo, workspace::Workspace};

/// What the binaries run on. It is named even where it is the host's own, so that cargo keeps the
/// flags from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// The profile in the workspace's `Cargo.toml`.
const PROFILE: &str = "vm";

/// Where the binaries are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binaries {
    /// The binary under test.
    pub(crate) tcptrace: PathBuf,
    /// The tests.
    pub(crate) tests: PathBuf,
}

/// What cargo says about something it built.
#[derive(Deserialize)]
struct Message {
    reason: String,
    executable: Option<PathBuf>,
    target: Option<Target>,
}

/// What it built.
#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds both.
pub(crate) fn build(workspace: &Workspace) -> Result<Binaries> {
    let flags = env::var("RUSTFLAGS").unwrap_or_default();
    let mut command = cargo();
    command
        .args([
            "test",
            "--no-run",
            "--package",
            "tcptrace",
            "--test",
            "kernel",
        ])
        .args(["--profile", PROFILE, "--target", TARGET])
        .arg("--message-format=json-render-diagnostics")
        .current_dir(workspace.root())
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env(
            "RUSTFLAGS",
            format!("{flags} -C target-feature=+crt-static"),
        )
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
    find(&String::from_utf8_lossy(&output.stdout))
}

/// Finds the binaries in what cargo says.
fn find(messages: &str) -> Result<Binaries> {
    let built = |kind: &str, name: &str| {
        let mut found = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Message>(line).ok())
            .filter(|message| message.reason == "compiler-artifact")
            .filter_map(|message| Some((message.target?, message.executable?)))
            .filter(|(target, _)| target.name == name && target.kind.iter().any(|it| it == kind));
        found
            .next()
            .map(|(_, executable)| executable)
            .with_context(|| format!("cargo built no {kind} called {name}"))
    };
    Ok(Binaries {
        tcptrace: built("bin", "tcptrace")?,
        tests: built("test", "kernel")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What cargo says, shortened.
    const MESSAGES: &str = r#"
{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"tcptrace"},"executable":null,"fresh":true}
{"reason":"build-script-executed","package_id":"tcptrace"}
{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"tcptrace"},"executable":"/t/tcptrace"}
{"reason":"compiler-artifact","target":{"kind":["test"],"name":"kernel"},"executable":"/t/kernel-1"}
{"reason":"build-finished","success":true}
"#;

    #[test]
    fn executables_are_found_by_kind_and_name() {
        let found = find(MESSAGES).expect("both are there");
        assert_eq!(
            found,
            Binaries {
                tcptrace: "/t/tcptrace".into(),
                tests: "/t/kernel-1".into(),
            }
        );
    }

    #[test]
    fn what_was_not_built_is_named() {
        let error = find(&MESSAGES.replace("kernel", "other")).expect_err("it is not there");
        assert_eq!(error.to_string(), "cargo built no test called kernel");
    }
}
