//! Looking for a toolchain that can build the eBPF programs.
//!
//! That is a rustc with its library's sources, since no one ships `core` for BPF, and a bpf-linker
//! of the same LLVM. What is missing is named, with the commands that install it, or installed if that
//! is asked for.

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

/// A toolchain, told so precisely that the same one gives the same bytes.
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
    /// The distribution's packages that it came from, for who wants to install it again; not
    /// compared.
    #[serde(default)]
    packages: Vec<String>,
}

/// The version of bpf-linker that the commands below install.
const BPF_LINKER: &str = "0.13.0";

/// The LLVM that the Debian packages below are built with.
const LLVM: &str = "22";

/// The packages of Debian that make a toolchain, but for bpf-linker.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];

/// A rustc, the cargo beside it, and the library's sources.
#[derive(Debug)]
pub(super) struct Compiler {
    /// The compiler.
    pub(super) rustc: PathBuf,
    /// The cargo that came with it.
    pub(super) cargo: PathBuf,
    /// The directory that holds `library`.
    pub(super) source: PathBuf,
    /// What `rustc --version --verbose` says after each name.
    release: String,
    commit: String,
    host: String,
    llvm: String,
}

/// A bpf-linker.
#[derive(Debug)]
pub(super) struct Linker {
    /// The program.
    pub(super) path: PathBuf,
    /// Its version.
    version: String,
}

/// All that a build needs.
#[derive(Debug)]
pub(super) struct Toolchain {
    /// The compiler.
    pub(super) compiler: Compiler,
    /// The linker.
    pub(super) linker: Linker,
}

impl Toolchain {
    /// Finds a toolchain, with `wanted` that very one, and with `install` installs what is missing.
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

    /// Its identity, with the distribution's packages that it came from.
    pub(super) fn with_packages(&self) -> Identity {
        let version = |package: &&str| Some(format!("{package} {}", apt::version(package)?));
        let packages = if self.compiler.rustc.starts_with("/usr/bin") {
            PACKAGES.iter().filter_map(version).collect()
        } else {
            Vec::new()
        };
        Identity {
            packages,
            ..self.identity()
        }
    }

    /// Finds the first toolchain on this machine that will do; with `wanted`, that very one.
    ///
    /// `tools` is where `cargo xtask build-ebpf --install` puts bpf-linker.
    fn find(tools: &Path, wanted: Option<&Identity>) -> Result<Self> {
        let mut refused = Vec::new();
        for (name, rustc, cargo) in candidates() {
            let found = Compiler::inspect(&rustc, &cargo).and_then(|compiler| {
                let linker = Linker::find(tools, &compiler.llvm)?;
                let found = Self { compiler, linker };
                match wanted.map(|wanted| found.differences(wanted)) {
                    Some(differences) if !differences.is_empty() => bail!(differences.join(", ")),
                    _ => Ok(found),
                }
            });
            match found {
                Ok(toolchain) => return Ok(toolchain),
                Err(error) => refused.push(format!("  {name}: {error:#}")),
            }
        }
        if refused.is_empty() {
            refused.push("  no rustc was found in /usr/bin, and no toolchain of rustup".to_owned());
        }
        let which = match wanted {
            Some(wanted) => format!("the manifest's toolchain ({wanted}) is not on this machine"),
            None => "no toolchain on this machine can build the eBPF programs".to_owned(),
        };
        bail!("{which}:\n{}\n{}", refused.join("\n"), how_to_install());
    }

    /// What a manifest says of this toolchain, but for the packages it came from.
    pub(super) fn identity(&self) -> Identity {
        Identity {
            rustc: self.compiler.release.clone(),
            commit: self.compiler.commit.clone(),
            host: self.compiler.host.clone(),
            llvm: self.compiler.llvm.clone(),
            bpf_linker: self.linker.version.clone(),
            packages: Vec::new(),
        }
    }

    /// Where this toolchain is not the one that is wanted.
    fn differences(&self, wanted: &Identity) -> Vec<String> {
        let is = self.identity();
        [
            ("rustc", is.rustc, &wanted.rustc),
            ("rustc's commit", is.commit, &wanted.commit),
            ("the host", is.host, &wanted.host),
            ("LLVM", is.llvm, &wanted.llvm),
            ("bpf-linker", is.bpf_linker, &wanted.bpf_linker),
        ]
        .into_iter()
        .filter(|(_, is, wanted)| is != *wanted)
        .map(|(what, is, wanted)| format!("{what} is {is}, not {wanted}"))
        .collect()
    }
}

impl Compiler {
    /// Asks a rustc what it is, and looks for the library's sources.
    fn inspect(rustc: &Path, cargo: &Path) -> Result<Self> {
        let verbose = environment::output(rustc, &["--version", "--verbose"])?;
        let field = |name: &str| {
            let value = verbose
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            value
                .map(str::to_owned)
                .with_context(|| format!("{} says no {name}", rustc.display()))
        };
        let release = field("release")?;
        let needed = env!("CARGO_PKG_RUST_VERSION");
        if number(&release) < number(needed) {
            bail!("rustc {release} is older than {needed}");
        }
        let sysroot = environment::output(rustc, &["--print", "sysroot"])?;
        let source = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        if !source.join("library/core/src/lib.rs").is_file() {
            bail!(
                "rustc {release} has no sources of its library in {}",
                source.display()
            );
        }
        if !cargo.is_file() {
            bail!(
                "rustc {release} has no cargo beside it, at {}",
                cargo.display()
            );
        }
        Ok(Self {
            rustc: rustc.to_owned(),
            cargo: cargo.to_owned(),
            source,
            commit: field("commit-hash")?,
            host: field("host")?,
            llvm: field("LLVM version")?,
            release,
        })
    }
}

impl Linker {
    /// Finds a bpf-linker: the one in `tools` for this LLVM, else one in the search path or
    /// cargo's.
    fn find(tools: &Path, llvm: &str) -> Result<Self> {
        let major = llvm.split('.').next().unwrap_or(llvm);
        let own = installed(tools, major).join("bin");
        let path = env::var_os("PATH").unwrap_or_default();
        let home = environment::cargo_home().map(|home| home.join("bin"));
        let program = [own]
            .into_iter()
            .chain(env::split_paths(&path))
            .chain(home)
            .map(|directory| directory.join("bpf-linker"))
            .find(|program| program.is_file())
            .with_context(|| format!("there is no bpf-linker for its LLVM {major}"))?;
        let said = environment::output(&program, &["--version"])?;
        let version = said
            .trim()
            .strip_prefix("bpf-linker ")
            .with_context(|| format!("{} does not say its version", program.display()))?;
        Ok(Self {
            version: version.to_owned(),
            path: program,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "rustc {} with LLVM {} on {}, bpf-linker {}",
            self.rustc, self.llvm, self.host, self.bpf_linker
        )
    }
}

/// Where `cargo install --root` is to put bpf-linker: a name that tells what is in it.
fn installed(tools: &Path, llvm: &str) -> PathBuf {
    tools.join(format!("bpf-linker-{BPF_LINKER}-llvm-{llvm}"))
}

/// Builds bpf-linker from source, unless this very version is there.
fn install_linker(tools: &Path) -> Result<()> {
    let root = installed(tools, LLVM);
    let program = root.join("bin/bpf-linker");
    let expected = format!("bpf-linker {BPF_LINKER}");
    // One whose LLVM was removed since does not even start.
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

/// The compilers to look at, best first: the distribution's own, a nightly, any other of rustup's.
fn candidates() -> Vec<(String, PathBuf, PathBuf)> {
    let mut found = Vec::new();
    let system = Path::new("/usr/bin/rustc");
    if system.is_file() {
        found.push((
            system.display().to_string(),
            system.into(),
            "/usr/bin/cargo".into(),
        ));
    }
    // Without rustup there are simply no toolchains of it.
    let list = environment::output(Path::new("rustup"), &["toolchain", "list"]).unwrap_or_default();
    let mut names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    names.sort_by_key(|name| !name.starts_with("nightly"));
    for name in names {
        let arguments = ["which", "--toolchain", name, "rustc"];
        if let Ok(rustc) = environment::output(Path::new("rustup"), &arguments) {
            let rustc = PathBuf::from(rustc.trim());
            found.push((
                format!("rustup's {name}"),
                rustc.clone(),
                rustc.with_file_name("cargo"),
            ));
        }
    }
    found
}

/// The first two numbers of a version; what is no number counts as 0.
fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// The commands that install a toolchain.
fn how_to_install() -> String {
    format!(
        "To install one on Debian, as root (cargo xtask build-ebpf --install does it):\n  \
         apt-get install --no-install-recommends {packages}\n  \
         LLVM_PREFIX=/usr/lib/llvm-{LLVM} cargo install bpf-linker@{BPF_LINKER} --locked \
         --no-default-features --features llvm-{LLVM}\n\
         Elsewhere: rustup toolchain install nightly --component rust-src, and a bpf-linker built \
         with the LLVM that rustc --version --verbose names",
        packages = PACKAGES.join(" "),
    )
}
