//! Builds the object from source.
//!
//! The same sources and the same toolchain give the same bytes, in any directory and for any
//! architecture: every path is remapped, and the debug sections are removed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{environment, toolchain::Toolchain};
use anyhow::{Context as _, Result, bail};

/// The architectures that one object serves; little-endian, as it is.
pub(super) const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];

/// The package whose directory is named after an architecture; the kernel's helpers do not depend
/// on it.
const BINDINGS: &str = "aya-ebpf-bindings";

/// The arguments for cargo. `core` is built from source: no distribution ships it for BPF.
const CARGO: [&str; 6] = [
    "build",
    "--release",
    "--locked",
    "--target=bpfel-unknown-none",
    "-Z",
    "build-std=core",
];

/// The flags for rustc, without paths. rustc embeds the source lines that BTF carries for the
/// verifier's log: the linker would look for the files on disk, where a remapped path leads
/// nowhere.
const RUSTC: [&str; 4] = [
    "-Cdebuginfo=2",
    "-Cdwarf-version=5",
    "-Zembed-source=yes",
    "-Clink-arg=--btf",
];

/// The paths of this machine that must not be in the object.
struct Paths {
    /// The checkout.
    root: PathBuf,
    cargo_home: PathBuf,
    /// Each registry's sources; one directory per registry.
    registries: Vec<PathBuf>,
    /// The library's sources as rustc names them, and the target if that is a link.
    rust_sources: Vec<PathBuf>,
    /// The directory of [`BINDINGS`] in a registry: its name and version.
    bindings: String,
}

/// Builds the object of the checkout at `root` for each of [`ARCHITECTURES`], and fails unless they
/// are all the same. With `strictly`, a warning is an error.
pub(super) fn object(
    root: &Path,
    target: &Path,
    toolchain: &Toolchain,
    strictly: bool,
) -> Result<Vec<u8>> {
    let mut first: Option<Vec<u8>> = None;
    for architecture in ARCHITECTURES {
        eprintln!("building the eBPF programs for {architecture}");
        // In a shared directory cargo would build `core` again every time, because the flags
        // differ.
        let target = target.join(architecture);
        let object = object_for(architecture, root, &target, toolchain, strictly)?;
        match &first {
            Some(bytes) if *bytes != object => bail!(
                "the object for {architecture} is not the one for {}. One object is shipped for \
                 both, so the programs must not depend on bpf_target_arch: pt_regs, and with it \
                 kprobes, are out",
                ARCHITECTURES[0]
            ),
            Some(_) => {}
            None => first = Some(object),
        }
    }
    first.context("there is no architecture to build for")
}

fn object_for(
    architecture: &str,
    root: &Path,
    target: &Path,
    toolchain: &Toolchain,
    strictly: bool,
) -> Result<Vec<u8>> {
    let package = root.join("tcptrace-ebpf");
    // The registry's sources must exist: their directory is remapped.
    run(cargo(toolchain, &package).args(["fetch", "--locked"]))
        .context("the dependencies of the eBPF programs cannot be fetched")?;
    let paths = Paths::find(root, toolchain)?;
    let flags = paths.flags(architecture);
    let mut cargo = cargo(toolchain, &package);
    cargo
        .args(CARGO)
        .arg("--target-dir")
        .arg(target)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    if strictly {
        cargo.args(["-Z", "warnings", "--config", "build.warnings='deny'"]);
    }
    run(&mut cargo).with_context(|| {
        format!(
            "the eBPF programs cannot be built with {}; if the linker complains of bitcode, its LLVM \
             is older than rustc's",
            toolchain.identity
        )
    })?;
    let built = target.join("bpfel-unknown-none/release/tcptrace");
    let stripped = target.join("tcptrace.bpf.o");
    // Removes what no loader reads: DWARF, five sixths of it. BTF stays, with the source lines for
    // the verifier's log; its relocations are relative to the start of each section, and so applied
    // already.
    let mut strip = Command::new(&toolchain.objcopy);
    strip
        .args(["--strip-debug", "--remove-section=.rel.BTF"])
        .arg("--remove-section=.rel.BTF.ext")
        .args([&built, &stripped]);
    run(&mut strip)?;
    let object = super::read(&stripped)?;
    paths.check(&object)?;
    Ok(object)
}

/// Returns the toolchain's cargo.
fn cargo(toolchain: &Toolchain, package: &Path) -> Command {
    let mut cargo = environment::command(&toolchain.cargo);
    cargo
        .current_dir(package)
        .env("RUSTC", &toolchain.rustc)
        // build-std is unstable; this enables it in a stable compiler.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &toolchain.linker);
    cargo
}

/// Runs a program; its output goes to our own standard error.
fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().display().to_string();
    let status = command
        .status()
        .with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{name} failed ({status}); it says above why");
    }
    Ok(())
}

/// Returns the flags as recorded in the manifest: the same on every machine.
pub(super) fn recorded() -> Vec<String> {
    let nowhere = Paths {
        root: "ROOT".into(),
        cargo_home: "CARGO_HOME".into(),
        registries: vec!["REGISTRY".into()],
        rust_sources: vec!["RUST".into()],
        bindings: BINDINGS.to_owned(),
    };
    let cargo = CARGO.iter().map(ToString::to_string);
    cargo.chain(nowhere.flags("ARCH")).collect()
}

impl Paths {
    fn find(root: &Path, toolchain: &Toolchain) -> Result<Self> {
        let absolute = |path: &Path| {
            path.canonicalize()
                .with_context(|| format!("there is no {}", path.display()))
        };
        let cargo_home = environment::cargo_home()
            .context("cargo's directory is not known: set CARGO_HOME or HOME")?;
        // There is none when every dependency is vendored.
        let registries = fs::read_dir(cargo_home.join("registry/src"));
        let mut registries: Vec<_> = registries
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        registries.sort();
        let source = &toolchain.source;
        let mut rust_sources = vec![source.clone(), absolute(source)?];
        rust_sources.dedup();
        let lock = root.join("tcptrace-ebpf/Cargo.lock");
        let lock = String::from_utf8_lossy(&super::read(&lock)?).into_owned();
        let version = lock
            .split_once(&format!("name = \"{BINDINGS}\"\nversion = \""))
            .and_then(|(_, rest)| rest.split_once('"'))
            .with_context(|| format!("Cargo.lock has no {BINDINGS}"))?
            .0;
        Ok(Self {
            root: absolute(root)?,
            cargo_home,
            registries,
            rust_sources,
            bindings: format!("{BINDINGS}-{version}"),
        })
    }

    /// Returns the flags for rustc. Of several remappings that match a path, the last one counts.
    fn flags(&self, architecture: &str) -> Vec<String> {
        let mut flags = vec![format!("--cfg=bpf_target_arch=\"{architecture}\"")];
        flags.extend(RUSTC.iter().map(ToString::to_string));
        let mut remap = |from: &Path, to: &str| {
            flags.push(format!("--remap-path-prefix={}={to}", from.display()));
        };
        remap(&self.root, ".");
        remap(&self.cargo_home, "cargo");
        for registry in &self.registries {
            remap(registry, "crates");
            let bindings = registry.join(&self.bindings).join("src");
            let hidden = format!("crates/{}/src/arch", self.bindings);
            remap(&bindings.join(architecture), &hidden);
        }
        for source in &self.rust_sources {
            remap(source, "rust");
        }
        flags
    }

    /// Checks that an object contains no path of this machine.
    fn check(&self, object: &[u8]) -> Result<()> {
        let all = [&self.root, &self.cargo_home];
        let all = all.into_iter().chain(&self.registries);
        for path in all.chain(&self.rust_sources) {
            let needle = path.as_os_str().as_encoded_bytes();
            // `/src` may be a part of a remapped path; `/home/me` is not.
            let short = needle.iter().filter(|byte| **byte == b'/').count() < 2;
            let mut windows = object.windows(needle.len()).enumerate();
            let leaks = windows.any(|(at, window)| {
                window == needle && !(short && at > 0 && object[at - 1].is_ascii_graphic())
            });
            if leaks {
                bail!(
                    "the eBPF object holds the path {} of this machine: a --remap-path-prefix is \
                     missing",
                    path.display()
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
