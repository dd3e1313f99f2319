//! Runs programs of another toolchain from within cargo.
//!
//! cargo and rustup set variables for the programs they start that would mislead another cargo; and
//! a user's `RUSTFLAGS` or profile settings would change the object.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The variables of cargo and rustup that say where things are, and not what to build.
const KEPT: [&str; 8] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "CARGO_REGISTRY_",
    "CARGO_SOURCE_",
    "CARGO_TERM_",
    "RUSTUP_",
];

/// Returns a command without the variables that cargo, rustup and their users set for another
/// build.
pub(super) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let ours = text.starts_with("CARGO") || text.starts_with("RUST");
        let kept = KEPT.iter().any(|kept| text.starts_with(kept)) && text != "RUSTUP_TOOLCHAIN";
        // rustup lets programs load its own libraries first, LLVM's among them.
        if (ours && !kept) || text == "LD_LIBRARY_PATH" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program to its end and returns its output.
pub(super) fn output(program: &Path, arguments: &[&str]) -> Result<String> {
    let shown = || format!("{} {}", program.display(), arguments.join(" "));
    let output = command(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {}", shown()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed with {}: {}", shown(), output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", shown()))
}

/// Returns cargo's download directory.
pub(super) fn cargo_home() -> Option<PathBuf> {
    let set = env::var_os("CARGO_HOME").map(PathBuf::from);
    set.or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}
