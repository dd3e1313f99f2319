//! Finds a toolchain that can build the eBPF programs.
//!
//! That is a rustc with its library's sources, because `core` for BPF is not shipped, and a
//! bpf-linker of the same LLVM. Missing parts are named, with the commands that install them, or
//! installed on request.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use serde::{Deserialize, Serialize};

use super::environment;
use crate::{
    apt,
    command::{self, cargo},
};

/// A toolchain, precisely enough that the same one gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Identity {
    /// The release of rustc, as in `1.96.0`.
    rustc: String,
    /// The commit that rustc was built from.
    commit: String,
    /// The machine that rustc runs on, as a target triple.
    host: String,
    /// The version of LLVM that rustc was built with.
    llvm: String,
    /// The version of bpf-linker.
    bpf_linker: String,
    /// The distribution's packages that it came from, to install it again; not compared.
    #[serde(default)]
    packages: Vec<String>,
}

/// The version of bpf-linker that the commands below install.
const BPF_LINKER: &str = "0.13.0";

/// The LLVM that the Debian packages below are built with.
const LLVM: &str = "22";

/// The Debian packages of a toolchain, without bpf-linker.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

#[derive(Debug)]
pub(super) struct Toolchain {
    pub(super) rustc: PathBuf,
    /// The cargo that came with it.
    pub(super) cargo: PathBuf,
    /// The directory that holds `library`, with the sources of `core`.
    pub(super) source: PathBuf,
    pub(super) linker: PathBuf,
    pub(super) objcopy: PathBuf,
    /// The manifest's entry for it.
    pub(super) identity: Identity,
}

impl Toolchain {
    /// Finds a toolchain, with `wanted` exactly that one; with `install` installs missing parts.
    pub(super) fn get(tools: &Path, wanted: Option<&Identity>, install: bool) -> Result<Self> {
        let found = Self::find(tools, wanted);
        if found.is_ok() || !install {
            return found;
        }
        let is_present = |package: &&str| apt::version(package).is_some();
        if !PACKAGES.iter().all(is_present) || install_linker(tools).is_err() {
            apt::update()?;
            apt::install(&PACKAGES)?;
            install_linker(tools)?;
        }
        Self::find(tools, wanted)
            .context("everything that --install knows is installed, and it is not enough")
    }

    /// Finds the first suitable toolchain on this machine; with `wanted`, exactly that one.
    ///
    /// `tools` is where `cargo xtask build-ebpf --install` puts bpf-linker.
    fn find(tools: &Path, wanted: Option<&Identity>) -> Result<Self> {
        let mut refused = Vec::new();
        for rustc in compilers() {
            let error = match Self::inspect(tools, &rustc) {
                Ok(found) if wanted.is_none_or(|wanted| found.identity.is(wanted)) => {
                    return Ok(found);
                }
                Ok(found) => found.identity.to_string(),
                Err(error) => format!("{error:#}"),
            };
            refused.push(format!("  {}: {error}", rustc.display()));
        }
        let which = match wanted {
            Some(wanted) => format!("the manifest's toolchain ({wanted}) is not on this machine"),
            None => "no toolchain on this machine can build the eBPF programs".to_owned(),
        };
        bail!(
            "{which}:\n{}\nOn Debian, cargo xtask build-ebpf --install installs {} and bpf-linker \
             {BPF_LINKER}. Elsewhere: rustup toolchain install nightly --component rust-src, and a \
             bpf-linker and an llvm-objcopy of the LLVM that rustc --version --verbose names",
            refused.join("\n"),
            PACKAGES.join(", ")
        );
    }

    /// Reads the identity of a rustc, and finds what belongs to it.
    fn inspect(tools: &Path, rustc: &Path) -> Result<Self> {
        let verbose = environment::output(rustc, &["--version", "--verbose"])?;
        let field = |name: &str| {
            let value = verbose
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value
                .map(str::to_owned)
                .with_context(|| format!("it says no {name}"))
        };
        let sysroot = environment::output(rustc, &["--print", "sysroot"])?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        if !source.join("library/core/src/lib.rs").is_file() {
            bail!("it has no sources of its library in {}", source.display());
        }
        let llvm = field("LLVM version")?;
        let major = llvm.split('.').next().unwrap_or(&llvm);
        let linker = find_program("bpf-linker", &[installed(tools, major).join("bin")])?;
        let objcopy = format!("/usr/lib/llvm-{major}/bin");
        let objcopy = find_program("llvm-objcopy", &[objcopy.into()])?;
        let said = environment::output(&linker, &["--version"])?;
        let version = |package: &&str| Some(format!("{package} {}", apt::version(package)?));
        let packages = match rustc.starts_with("/usr/bin") {
            true => PACKAGES.iter().filter_map(version).collect(),
            false => Vec::new(),
        };
        Ok(Self {
            rustc: rustc.to_owned(),
            cargo: rustc.with_file_name("cargo"),
            source,
            objcopy,
            identity: Identity {
                rustc: field("release")?,
                commit: field("commit-hash")?,
                host: field("host")?,
                bpf_linker: said.trim().trim_start_matches("bpf-linker ").to_owned(),
                llvm,
                packages,
            },
            linker,
        })
    }
}

impl Identity {
    /// Whether both are the same toolchain, wherever they came from.
    fn is(&self, other: &Self) -> bool {
        let packages = &other.packages;
        *other
            == Self {
                packages: packages.clone(),
                ..self.clone()
            }
    }
}

/// Finds a program: in one of `first`, in the search path, or where cargo installs.
fn find_program(name: &str, first: &[PathBuf]) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let home = environment::cargo_home().map(|home| home.join("bin"));
    let mut places = first
        .iter()
        .cloned()
        .chain(env::split_paths(&path))
        .chain(home)
        .map(|directory| directory.join(name));
    places
        .find(|program| program.is_file())
        .with_context(|| format!("there is no {name} of its LLVM"))
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "rustc {} ({}) with LLVM {} on {}, bpf-linker {}",
            self.rustc, self.commit, self.llvm, self.host, self.bpf_linker
        )
    }
}

/// Returns where `cargo install --root` puts bpf-linker: a name that tells its version.
fn installed(tools: &Path, llvm: &str) -> PathBuf {
    tools.join(format!("bpf-linker-{BPF_LINKER}-llvm-{llvm}"))
}

/// Builds bpf-linker from source, unless this version is installed.
fn install_linker(tools: &Path) -> Result<()> {
    let root = installed(tools, LLVM);
    let program = root.join("bin/bpf-linker");
    let expected = format!("bpf-linker {BPF_LINKER}");
    // If its LLVM was removed since, it does not even start.
    let runs =
        || environment::output(&program, &["--version"]).is_ok_and(|said| said.trim() == expected);
    if runs() {
        return Ok(());
    }
    command::run(
        cargo()
            .args([
                "install",
                "--locked",
                "--force",
                "--no-default-features",
                "--no-track",
            ])
            .arg(format!("--features=llvm-{LLVM}"))
            .arg(format!("bpf-linker@{BPF_LINKER}"))
            .arg("--root")
            .arg(&root)
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{LLVM}")),
    )?;
    if !runs() {
        bail!(
            "{} was installed, but it is not {expected}",
            program.display()
        );
    }
    Ok(())
}

/// Returns the compilers to try, best first: the distribution's own, a nightly, any other of
/// rustup's.
fn compilers() -> Vec<PathBuf> {
    let rustup = |arguments: &[&str]| environment::output(Path::new("rustup"), arguments);
    // Without rustup it has no toolchains.
    let list = rustup(&["toolchain", "list"]).unwrap_or_default();
    let mut names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    names.sort_by_key(|name| !name.starts_with("nightly"));
    let which = |name| rustup(&["which", "--toolchain", name, "rustc"]).ok();
    let system = PathBuf::from("/usr/bin/rustc");
    let mut found: Vec<_> = Some(system)
        .into_iter()
        .filter(|rustc| rustc.is_file())
        .collect();
    found.extend(
        names
            .into_iter()
            .filter_map(which)
            .map(|rustc| PathBuf::from(rustc.trim())),
    );
    found
}
