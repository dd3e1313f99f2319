//! Embeds the committed eBPF object, so that building tcptrace takes no eBPF toolchain, and tells
//! what tcptrace was built from. Sets for the crate:
//!
//! - `TCPTRACE_EBPF_OBJECT`, the path of the object, and `TCPTRACE_EBPF_SHA256`, its hash;
//! - `TCPTRACE_GIT_REVISION`, the commit, or `unknown`;
//! - `TCPTRACE_RUSTC`, the version of the compiler.

use std::{env, fs, path::Path, process::Command};

use sha2::{Digest as _, Sha256};

fn main() {
    if let Err(error) = run() {
        println!("cargo::error={error}");
    }
}

fn run() -> Result<(), String> {
    // Stated here, because naming one path to watch ends cargo's watching of the whole package.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=ebpf");
    let package = variable("CARGO_MANIFEST_DIR")?;
    let package = Path::new(&package);
    let object = package.join("ebpf/tcptrace.bpf.o");
    set("TCPTRACE_EBPF_OBJECT", &object.display().to_string());
    set("TCPTRACE_EBPF_SHA256", &check(package, &object)?);
    let revision = revision(package).unwrap_or_else(|| "unknown".to_owned());
    set("TCPTRACE_GIT_REVISION", &revision);
    set("TCPTRACE_RUSTC", &compiler()?);
    Ok(())
}

/// Checks that the object is what its manifest says, and for this architecture. Returns its
/// SHA-256.
fn check(package: &Path, object: &Path) -> Result<String, String> {
    let manifest = package.join("ebpf/manifest.toml");
    let read = |path: &Path| {
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let text = String::from_utf8_lossy(&read(&manifest)?).into_owned();
    let field = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "))
            .ok_or_else(|| format!("{} says no {name}", manifest.display()))
    };
    let digest = Sha256::digest(read(object)?);
    let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = field("sha256")?.trim_matches('"');
    if found != expected {
        return Err(format!(
            "{} is not the object that its manifest describes: its SHA-256 is {found}, the manifest \
             says {expected}. Take both from the same commit, or run cargo xtask build-ebpf",
            object.display()
        ));
    }
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    let architectures = field("architectures")?;
    if !architectures.contains(&format!("\"{architecture}\"")) {
        return Err(format!(
            "the eBPF object is for {architectures}, and not for {architecture}"
        ));
    }
    Ok(found)
}

/// Returns the commit that this is built from, if known.
fn revision(package: &Path) -> Option<String> {
    // cargo leaves this in the packages that it publishes.
    let published = package.join(".cargo_vcs_info.json");
    if let Ok(text) = fs::read_to_string(published) {
        let (_, rest) = text.split_once("\"sha1\": \"")?;
        return Some(rest.split_once('"')?.0.to_owned());
    }
    // Another repository that holds this package, such as one that vendors it, does not count.
    let repository = package.join("..");
    if !repository.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        let output = git
            .arg("-C")
            .arg(&repository)
            .args(arguments)
            .output()
            .ok()?;
        let said = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| said.trim().to_owned())
    };
    // The name of the commit changes with either of these: the branch, or what it points to.
    let branch = git(&["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = repository.join(git(&["rev-parse", "--git-path", name])?);
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    git(&["rev-parse", "HEAD"])
}

/// Returns the version of the compiler that builds the crate.
fn compiler() -> Result<String, String> {
    let rustc = variable("RUSTC")?;
    let output = Command::new(&rustc)
        .arg("--version")
        .output()
        .map_err(|error| format!("cannot run {rustc}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().nth(1);
    Ok(version.ok_or("rustc did not say its version")?.to_owned())
}

/// Returns a variable that cargo sets for build scripts.
fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}; build scripts are run by cargo"))
}

/// Sets a variable for the compilation of the crate.
fn set(name: &str, value: &str) {
    println!("cargo::rustc-env={name}={value}");
}
