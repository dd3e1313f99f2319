//! `cargo xtask check-aarch64`: whether userspace and its tests are correct Rust on aarch64.
//!
//! Their types differ there: a C character has no sign, and structures of the C library are laid out
//! otherwise. The check needs a compiler and the standard library for aarch64 of that very compiler.
//! Debian has both as packages; the library's is for another architecture, so it is unpacked and
//! not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    command::{cargo, exists, run as run_command},
    vm::{Archive, Part, make_directory},
    workspace::Workspace,
};

/// What the types are checked for.
const TARGET: &str = "aarch64-unknown-linux-gnu";
/// The compiler's package, its program, and the package of its standard library.
const COMPILER: &str = "rustc-web";
const RUSTC: &str = "/usr/bin/rustc";
const LIBRARY: &str = "libstd-rust-web-dev";
/// Where the library is.
const PART: Part<'_> = Part {
    architecture: "arm64",
    suites: &["bookworm"],
    security_suites: &["bookworm-security"],
};

/// The arguments of `check-aarch64`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Get the compiler and the standard library, with apt-get.
    #[arg(long)]
    install: bool,
}

/// Checks, or says why that cannot be done.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let system = match prepare(workspace, arguments.install) {
        Ok(system) => system,
        Err(error) if arguments.install => return Err(error),
        Err(error) => {
            println!("SKIPPED: the types for aarch64 were not checked: {error:#}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let library = system.display().to_string();
    let flags = ["--sysroot", &library, "--deny", "warnings"];
    run_command(
        cargo()
            .args(["check", "--locked", "--target", TARGET])
            .args(["--package", "tcptrace", "--package", "tcptrace-common"])
            .arg("--all-targets")
            .current_dir(workspace.root())
            .env("RUSTC", RUSTC)
            .env("CARGO_TARGET_DIR", workspace.target().join("aarch64"))
            // They hold for the target only: build scripts run on this machine, with its library.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
            .env_remove("RUSTFLAGS"),
    )
    .context("userspace does not compile for aarch64")?;
    println!("the types of userspace and of its tests are correct on aarch64");
    Ok(ExitCode::SUCCESS)
}

/// Finds the compiler and its library, or gets them; answers with the directory in which the
/// compiler finds the library.
fn prepare(workspace: &Workspace, install: bool) -> Result<PathBuf> {
    if install && apt::version(COMPILER).is_none() {
        apt::update()?;
        apt::install(&[COMPILER])?;
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
    let archive = Archive::open(&workspace.target().join("aarch64/apt"), PART)?;
    let library = archive.package(LIBRARY, &version)?;
    make_directory(&place)?;
    archive.unpack(&[library], &place)?;
    if !is_library(&system) {
        fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
        bail!("the package {LIBRARY} {version} does not hold the library for {TARGET}");
    }
    Ok(system)
}

/// Whether a standard library for aarch64 is below a directory.
fn is_library(system: &Path) -> bool {
    let library = system.join("lib/rustlib").join(TARGET).join("lib");
    let Ok(mut files) = fs::read_dir(library) else {
        return false;
    };
    files.any(|file| {
        file.is_ok_and(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_is_known_by_its_file() {
        let name = format!("xtask-aarch64-{}", std::process::id());
        let system = std::env::temp_dir().join(name);
        let library = system.join("lib/rustlib").join(TARGET).join("lib");
        fs::create_dir_all(&library).expect("a directory");
        assert!(!is_library(&system));
        fs::write(library.join("libstd-0123.rlib"), "").expect("a file");
        assert!(is_library(&system));
        assert!(!is_library(&library));
        fs::remove_dir_all(&system).expect("it is there");
    }
}
