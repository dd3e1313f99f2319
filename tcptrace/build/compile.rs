//! Building the object from source.
//!
//! The same sources and the same toolchain give the same bytes wherever they lie: every path is
//! remapped, and the debug sections go.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::{environment, flags, lock, strip, toolchain::Toolchain};

/// The package whose directory is named after an architecture; see [`flags::RUSTC`].
const BINDINGS: &str = "aya-ebpf-bindings";

/// A build of the workspace at one path with one toolchain.
#[derive(Debug)]
pub(crate) struct Build<'a> {
    /// The directory of the workspace's `Cargo.toml`.
    pub(crate) workspace: &'a Path,
    /// Where cargo keeps what it compiles.
    pub(crate) target: &'a Path,
    /// The toolchain.
    pub(crate) toolchain: &'a Toolchain,
    /// Whether a warning in the workspace's own sources is an error.
    pub(crate) deny_warnings: bool,
}

/// The paths of this machine that stand behind the placeholders of [`flags`].
struct Paths {
    workspace: PathBuf,
    cargo_home: PathBuf,
    /// Each registry's sources; one directory for every registry in use.
    registries: Vec<PathBuf>,
    /// The library's sources as rustc names them, and what that is a link to.
    rust_sources: Vec<PathBuf>,
}

impl Build<'_> {
    /// Builds the object for the kernel of one architecture.
    pub(crate) fn object(&self, architecture: &str) -> Result<Vec<u8>> {
        // The registry's sources must be there: their directory is to be remapped.
        self.run(self.cargo().args(["fetch", "--locked"]))
            .context("the dependencies of the eBPF programs cannot be fetched")?;
        let paths = self.paths()?;
        let mut cargo = self.cargo();
        cargo
            .args(flags::CARGO)
            .arg("--target-dir")
            .arg(self.target)
            .env(
                "CARGO_ENCODED_RUSTFLAGS",
                self.flags(&paths, architecture)?.join("\x1f"),
            );
        if self.deny_warnings {
            cargo.args(["-Z", "warnings", "--config", "build.warnings='deny'"]);
        }
        self.run(&mut cargo).with_context(|| {
            format!(
                "the eBPF programs cannot be built with {}; if the linker complains of bitcode, \
                 its LLVM is older than rustc's",
                self.toolchain.identity()
            )
        })?;
        let built = self.target.join("bpfel-unknown-none/release/tcptrace");
        let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        let object = strip::strip(&bytes)
            .with_context(|| format!("cannot strip the eBPF object {}", built.display()))?;
        paths.check(&object)?;
        Ok(object)
    }

    /// The toolchain's cargo, in the workspace.
    fn cargo(&self) -> Command {
        let mut cargo = environment::command(&self.toolchain.compiler.cargo);
        cargo
            .current_dir(self.workspace)
            .env("RUSTC", &self.toolchain.compiler.rustc)
            // build-std is unstable; this lets a stable compiler have it.
            .env("RUSTC_BOOTSTRAP", "1")
            .env(
                "CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER",
                &self.toolchain.linker.path,
            );
        cargo
    }

    /// Runs cargo; what it has to say goes to our own standard error.
    fn run(&self, cargo: &mut Command) -> Result<()> {
        let program = self.toolchain.compiler.cargo.display();
        let status = cargo
            .status()
            .with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            bail!("{program} failed ({status}); it says above why");
        }
        Ok(())
    }

    /// Looks up the paths that are to be remapped.
    fn paths(&self) -> Result<Paths> {
        let absolute = |path: &Path| {
            path.canonicalize()
                .with_context(|| format!("there is no {}", path.display()))
        };
        let cargo_home = environment::cargo_home()
            .context("cargo's directory is not known: set CARGO_HOME or HOME")?;
        let sources = cargo_home.join("registry/src");
        let mut registries = Vec::new();
        // There is none when every dependency is vendored.
        for entry in fs::read_dir(&sources).into_iter().flatten() {
            let entry = entry.with_context(|| format!("cannot list {}", sources.display()))?;
            registries.push(entry.path());
        }
        registries.sort();
        let source = &self.toolchain.compiler.source;
        let mut rust_sources = vec![source.clone(), absolute(source)?];
        rust_sources.dedup();
        Ok(Paths {
            workspace: absolute(self.workspace)?,
            cargo_home,
            registries,
            rust_sources,
        })
    }

    /// Fills in the placeholders of rustc's flags.
    fn flags(&self, paths: &Paths, architecture: &str) -> Result<Vec<String>> {
        let bindings = lock::closure(self.workspace)?
            .into_keys()
            .map(|package| package.replace(' ', "-"))
            .find(|package| package.starts_with(&format!("{BINDINGS}-")))
            .with_context(|| format!("Cargo.lock has no {BINDINGS}"))?;
        let placeholders = [
            ("{arch}", vec![architecture.to_owned()]),
            ("{bindings}", vec![bindings]),
            (
                "{workspace}",
                strings(std::slice::from_ref(&paths.workspace))?,
            ),
            (
                "{cargo-home}",
                strings(std::slice::from_ref(&paths.cargo_home))?,
            ),
            ("{registry}", strings(&paths.registries)?),
            ("{rust-src}", strings(&paths.rust_sources)?),
        ];
        let mut flags: Vec<String> = flags::RUSTC.iter().map(ToString::to_string).collect();
        for (name, values) in placeholders {
            flags = flags
                .into_iter()
                .flat_map(|flag| match flag.contains(name) {
                    true => values
                        .iter()
                        .map(|value| flag.replace(name, value))
                        .collect(),
                    false => vec![flag],
                })
                .collect();
        }
        Ok(flags)
    }
}

impl Paths {
    /// Checks that an object tells nothing of this machine.
    fn check(&self, object: &[u8]) -> Result<()> {
        let all = [&self.workspace, &self.cargo_home];
        for path in all
            .into_iter()
            .chain(&self.registries)
            .chain(&self.rust_sources)
        {
            let needle = path.as_os_str().as_encoded_bytes();
            // `/src` may well be a part of a path that was remapped; `/home/me` is not.
            let short = needle.iter().filter(|byte| **byte == b'/').count() < 2;
            let leaks = object
                .windows(needle.len())
                .enumerate()
                .any(|(at, window)| {
                    window == needle && !(short && at > 0 && object[at - 1].is_ascii_graphic())
                });
            if leaks {
                bail!(
                    "the eBPF object holds the path {} of this machine: a --remap-path-prefix is \
                     missing in tcptrace/build/flags.rs",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

/// Paths as text, for flags.
fn strings(paths: &[PathBuf]) -> Result<Vec<String>> {
    let text = |path: &PathBuf| {
        path.to_str()
            .map(str::to_owned)
            .with_context(|| format!("the path {} is not UTF-8", path.display()))
    };
    paths.iter().map(text).collect()
}

#[cfg(test)]
mod tests;
