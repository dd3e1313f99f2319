//! Embeds the eBPF object in the daemon, and tells the daemon what it was built from.
//!
//! The object is the committed one, so that no eBPF toolchain is needed; with the feature
//! `build-ebpf` it is built here from source. Sets for the crate:
//!
//! - `TCPTRACE_EBPF_OBJECT`, the path of the object, and `TCPTRACE_EBPF_SHA256`, its hash;
//! - `TCPTRACE_GIT_REVISION`, the commit, or `unknown`;
//! - `TCPTRACE_RUSTC`, the version of the compiler.

#[cfg_attr(
    feature = "build-ebpf",
    expect(
        dead_code,
        reason = "an object built from source is not compared with the manifest"
    )
)]
#[path = "build/ebpf.rs"]
mod ebpf;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

fn main() {
    if let Err(error) = run() {
        // A directive is one line; the failures of several are shown together.
        for line in format!("{error:#}").lines() {
            println!("cargo::error={line}");
        }
    }
}

/// Does all of it.
fn run() -> Result<()> {
    // Stated here, since naming one path to watch ends cargo's watching all of the package.
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    let package = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let (object, sha256) = object(&package)?;
    set("TCPTRACE_EBPF_OBJECT", &object.display().to_string());
    set("TCPTRACE_EBPF_SHA256", &sha256);
    set(
        "TCPTRACE_GIT_REVISION",
        &revision(&package).unwrap_or_else(|| "unknown".to_owned()),
    );
    set("TCPTRACE_RUSTC", &compiler()?);
    Ok(())
}

/// The committed object and its hash, once it is known to be what its manifest says.
#[cfg(not(feature = "build-ebpf"))]
fn object(package: &Path) -> Result<(PathBuf, String)> {
    use ebpf::manifest::Manifest;

    println!("cargo::rerun-if-changed=ebpf");
    let manifest = Manifest::read(&package.join(ebpf::MANIFEST))?;
    let object = package.join(ebpf::OBJECT);
    manifest.object.check(&object)?;
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    if !manifest.object.architectures.contains(&architecture) {
        bail!(
            "the committed eBPF object is for {}, and not for {architecture}. To build \
             it for that, use the feature build-ebpf in a checkout of the repository",
            manifest.object.architectures.join(" and ")
        );
    }
    warn_if_stale(package, &manifest);
    Ok((object, manifest.object.sha256))
}

/// Warns whoever works on the eBPF programs that what they see run is not what they wrote.
#[cfg(not(feature = "build-ebpf"))]
fn warn_if_stale(package: &Path, manifest: &ebpf::manifest::Manifest) {
    let workspace = package.join("..");
    if !watch_sources(&workspace) {
        return;
    }
    match ebpf::inputs::Inputs::read(&workspace).map(|now| now.changes_since(&manifest.inputs)) {
        Ok(changes) if changes.is_empty() => {}
        Ok(changes) => println!(
            "cargo::warning=the embedded eBPF object was not built from these sources ({}): \
             run cargo xtask build-ebpf",
            changes.join(", ")
        ),
        Err(error) => println!("cargo::warning=the eBPF sources cannot be compared: {error:#}"),
    }
}

/// Builds the object from source, and returns where it is and its hash.
#[cfg(feature = "build-ebpf")]
fn object(package: &Path) -> Result<(PathBuf, String)> {
    use ebpf::{compile::Build, toolchain::Toolchain};

    let workspace = package.join("..");
    if !watch_sources(&workspace) {
        bail!(
            "the feature build-ebpf needs the sources of the eBPF programs, and {} is not there: \
             a published crate has only the object that was built from them. Build in a checkout of \
             the repository, or without the feature",
            workspace.join("tcptrace-ebpf").display()
        );
    }
    if variable("CARGO_CFG_TARGET_ENDIAN")? != "little" {
        bail!("the eBPF programs are built for little-endian kernels only");
    }
    let out = PathBuf::from(variable("OUT_DIR")?);
    // `cargo xtask build-ebpf --install` puts bpf-linker into the same target directory.
    let tools = out
        .ancestors()
        .map(|directory| directory.join("tools"))
        .find(|path| path.is_dir());
    let toolchain = Toolchain::find(
        &tools.unwrap_or_else(|| workspace.join("target/tools")),
        None,
    )?;
    let build = Build {
        workspace: &workspace,
        target: &out.join("ebpf"),
        toolchain: &toolchain,
        deny_warnings: false,
    };
    let bytes = build.object(&variable("CARGO_CFG_TARGET_ARCH")?)?;
    let object = out.join("tcptrace.bpf.o");
    fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
    Ok((object, ebpf::sha256(&bytes)))
}

/// Has the script run again when an input of the object changes. Returns whether there are any.
fn watch_sources(workspace: &Path) -> bool {
    if !ebpf::PACKAGES
        .iter()
        .all(|package| workspace.join(package).join("Cargo.toml").is_file())
    {
        return false;
    }
    for path in ebpf::PACKAGES.iter().chain(&["Cargo.toml", "Cargo.lock"]) {
        println!("cargo::rerun-if-changed=../{path}");
    }
    true
}

/// The commit that this is built from, as far as it can be known.
fn revision(package: &Path) -> Option<String> {
    // cargo leaves this in the packages that it publishes.
    let published = package.join(".cargo_vcs_info.json");
    if let Ok(text) = fs::read_to_string(published) {
        let (_, rest) = text.split_once("\"sha1\": \"")?;
        return Some(rest.split_once('"')?.0.to_owned());
    }
    // Any other repository that holds this package, as one that vendors it does, is not meant.
    let repository = package.join("..");
    if !repository.join(".git").exists() {
        return None;
    }
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
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

/// The version of the compiler that builds the crate.
fn compiler() -> Result<String> {
    let rustc = variable("RUSTC")?;
    let output = Command::new(&rustc)
        .arg("--version")
        .output()
        .with_context(|| format!("cannot run {rustc}"))?;
    let said = String::from_utf8(output.stdout).context("rustc printed no text")?;
    let version = said
        .split_whitespace()
        .nth(1)
        .context("rustc did not say its version")?;
    Ok(version.to_owned())
}

/// A variable that cargo sets for build scripts.
fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("{name} is not set: build scripts are run by cargo"))
}

/// Sets a variable for the compilation of the crate.
fn set(name: &str, value: &str) {
    println!("cargo::rustc-env={name}={value}");
}
