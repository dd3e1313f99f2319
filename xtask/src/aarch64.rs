//! `cargo xtask check-aarch64`: whether userspace and its tests are correct Rust on aarch64.
//!
//! Their types differ there: a C character has no sign, and structures of the C library are laid
//! out otherwise. The check needs a compiler and the standard library for aarch64 of that very
//! compiler. Debian has both as packages; the library's is for another architecture, so it is
//! unpacked and not installed.

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt::{self, Archive},
    command::{self, exists},
    workspace::Workspace,
};

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The compiler's package, its program, and the package of its standard library.
const COMPILER: &str = "rustc-web";
const RUSTC: &str = "/usr/bin/rustc";
const LIBRARY: &str = "libstd-rust-web-dev";
/// The program that compiles and links the C code of dependencies; its packages follow.
pub(crate) const GCC: &str = "aarch64-linux-gnu-gcc";
const GCC_PACKAGES: [&str; 2] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"];
/// Where the library is.
const SUITES: [&str; 2] = ["bookworm", "bookworm-security"];

/// The arguments of `check-aarch64`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install the compiler and the standard library with apt-get.
    #[arg(long)]
    install: bool,
}

/// Checks, or says why that is not possible.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let mut check = match cargo(
        workspace,
        arguments.install,
        "check",
        &["--deny", "warnings"],
    ) {
        Ok(check) => check,
        Err(error) if arguments.install => return Err(error),
        Err(error) => {
            println!("SKIPPED: the types for aarch64 were not checked: {error:#}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    check
        .args(["--package", "tcptrace", "--package", "tcptrace-common"])
        .args(["--locked", "--all-targets"])
        .current_dir(workspace.root());
    command::run(&mut check).context("userspace does not compile for aarch64")?;
    println!("the types of userspace and of its tests are correct on aarch64");
    Ok(ExitCode::SUCCESS)
}

/// Returns a cargo command with the compiler for aarch64 and these flags for it.
pub(crate) fn cargo(
    workspace: &Workspace,
    install: bool,
    command: &str,
    flags: &[&str],
) -> Result<Command> {
    let library = prepare(workspace, install)?.display().to_string();
    let flags = [&["--sysroot", &library], flags].concat();
    let mut cargo = command::cargo();
    cargo
        .args([command, "--target", TARGET])
        .env("RUSTC", RUSTC)
        .env("CARGO_TARGET_DIR", workspace.target().join("aarch64"))
        // They apply to the target only: build scripts run on this machine, with its library.
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    Ok(cargo)
}

/// Finds or installs the compiler and its library; returns the directory of the library.
fn prepare(workspace: &Workspace, install: bool) -> Result<PathBuf> {
    if install && apt::version(COMPILER).is_none() {
        apt::update()?;
        apt::install(&[COMPILER])?;
    }
    if install && !exists(GCC) {
        apt::update()?;
        apt::install(&GCC_PACKAGES)?;
    }
    if !exists(GCC) {
        bail!("there is no {GCC}; --install gets it");
    }
    let Some(version) = apt::version(COMPILER) else {
        bail!("the package {COMPILER} is missing; --install gets it");
    };
    let place = workspace.tools().join("aarch64").join(&version);
    let system = place.join("usr");
    if is_library(&system) {
        return Ok(system);
    }
    if !install {
        bail!("the standard library for aarch64 is missing; --install gets it");
    }
    if !exists("dpkg-deb") {
        bail!("there is no dpkg-deb to unpack the standard library with");
    }
    let archive = Archive::open(&workspace.target().join("aarch64/apt"), "arm64", &SUITES)?;
    archive.unpack(&[format!("{LIBRARY}={version}")], &place)?;
    if !is_library(&system) {
        apt::remove_directory(&place)?;
        bail!("the package {LIBRARY} {version} does not hold the library for {TARGET}");
    }
    Ok(system)
}

/// Whether a standard library for aarch64 is below a directory.
fn is_library(system: &Path) -> bool {
    system.join("lib/rustlib").join(TARGET).join("lib").is_dir()
}
