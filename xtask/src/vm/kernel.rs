//! The kernels that guests boot: Debian's for clouds, which are small and have drivers for virtual
//! machines.
//!
//! One kernel per series is kept, with the modules that tests need. It is replaced when the archive
//! has a newer one, and used without a network once it is there.

use std::{
    collections::BTreeSet,
    fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use super::Architecture;
use crate::{
    apt::{Archive, make_directory, remove_directory},
    command::run,
};

/// The suites that have kernels.
const SUITES: [&str; 7] = [
    "bullseye",
    "bullseye-security",
    "bookworm",
    "bookworm-security",
    "bookworm-backports",
    "trixie-backports",
    "sid",
];

/// What tests use, if a kernel has it as a module: sock_diag for TCP and for MPTCP, devices, and
/// IPv6.
const MODULES: [&str; 6] = ["tcp_diag", "mptcp_diag", "dummy", "tun", "veth", "ipv6"];

/// The compressions of modules, and the programs that undo them.
const COMPRESSIONS: [(&str, &str); 3] = [("xz", "xz"), ("zst", "zstd"), ("gz", "gzip")];

/// A series of kernels, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Series {
    /// Debian 11's: the oldest that has what the programs need.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's.
    #[value(name = "6.12")]
    V6_12,
    /// The newest.
    #[value(name = "7.x")]
    V7,
}

impl Series {
    /// The oldest and the newest.
    pub(crate) const ENDS: [Self; 2] = [Self::V5_10, Self::V7];

    /// Returns its name on the command line and in directories.
    const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7.x",
        }
    }

    /// Whether a version belongs to this series.
    fn has(self, version: &str) -> bool {
        version.starts_with(&format!("{}.", self.name().trim_end_matches(".x")))
    }
}

/// A kernel that can be booted.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its release, as `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// The modules, to be loaded in the order of their names.
    pub(crate) modules: Vec<PathBuf>,
    /// The packages it was made from.
    note: String,
}

impl Kernel {
    /// Returns the kernel kept in a directory, if there is one.
    fn kept(directory: &Path) -> Option<Self> {
        let note = fs::read_to_string(directory.join("note")).ok()?;
        let modules = fs::read_dir(directory.join("modules")).ok()?;
        let mut modules: Vec<_> = modules
            .map(|file| Some(file.ok()?.path()))
            .collect::<Option<_>>()?;
        modules.sort();
        Some(Self {
            release: note.lines().next()?.to_owned(),
            image: directory.join("vmlinuz"),
            modules,
            note,
        })
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = self.note.lines();
        let (release, packages) = (lines.next(), lines.next());
        write!(
            formatter,
            "Linux {}: {}",
            release.unwrap_or_default(),
            packages.unwrap_or_default()
        )
    }
}

/// Gets the newest kernel of each series, with the archive's state and the kernels below
/// `directory`.
pub(crate) fn get(all: &[Series], of: Architecture, directory: &Path) -> Result<Vec<Kernel>> {
    let architecture = of.names().debian;
    let state = directory.join(format!("apt-{architecture}"));
    let archive = Archive::open(&state, architecture, &SUITES)?;
    let get = |series: &Series| {
        let name = format!("{}-{architecture}", series.name());
        one(*series, of, &archive, &directory.join("kernels").join(name))
    };
    all.iter().map(get).collect()
}

/// Gets the newest kernel of one series: the kept one, unless the archive has a newer one.
fn one(series: Series, of: Architecture, archive: &Archive, directory: &Path) -> Result<Kernel> {
    let name = series.name();
    let kept = Kernel::kept(directory);
    let newest = choose(series, of, archive).and_then(|(release, packages)| {
        let note = format!("{release}\n{}\n{}\n", packages.join(" "), MODULES.join(" "));
        if kept.as_ref().is_none_or(|kept| kept.note != note) {
            unpack(archive, &release, &packages, &note, directory)?;
        }
        Kernel::kept(directory)
            .with_context(|| format!("{} was just written and is gone", directory.display()))
    });
    match (newest, kept) {
        (Ok(newest), _) => Ok(newest),
        (Err(error), Some(kept)) => {
            let release = &kept.release;
            eprintln!("warning: {error:#}; going on with {release}, which is here");
            Ok(kept)
        }
        (Err(error), None) => {
            Err(error.context(format!("cannot get a kernel {name}, and none is kept here")))
        }
    }
}

/// Returns the release of a series' newest kernel, and its packages, `name=version`. The package
/// that depends on a suite's newest kernel has its version. A kernel is one package,
/// `linux-image-RELEASE`, or, from 7.x, one that only depends on others with its parts.
fn choose(series: Series, of: Architecture, archive: &Archive) -> Result<(String, Vec<String>)> {
    let newest = format!("linux-image-cloud-{}", of.names().debian);
    let versions = archive.versions(&newest)?;
    let version = versions
        .into_iter()
        .find(|version| series.has(version))
        .with_context(|| format!("the package lists have no kernel {}", series.name()))?;
    let depends = archive.depends(&newest, &version)?;
    let (image, release) = depends
        .iter()
        .find_map(|name| Some((name, name.strip_prefix("linux-image-")?)))
        .with_context(|| format!("{newest} {version} names no kernel"))?;
    let mut packages = archive.depends(image, &version)?;
    packages.retain(|name| {
        ["linux-binary-", "linux-modules-"]
            .iter()
            .any(|part| name.starts_with(part))
    });
    packages.push(image.clone());
    for package in &mut packages {
        package.push_str(&format!("={version}"));
    }
    Ok((release.to_owned(), packages))
}

/// Downloads a kernel and replaces the kept one with what guests need of it.
fn unpack(
    archive: &Archive,
    release: &str,
    packages: &[String],
    note: &str,
    directory: &Path,
) -> Result<()> {
    let mut scratch = directory.as_os_str().to_owned();
    scratch.push(".new");
    let scratch = PathBuf::from(scratch);
    let whole = scratch.join("packages");
    remove_directory(&scratch)?;
    archive.unpack(packages, &whole)?;
    // The modules are in /lib or in /usr/lib, and programs look for them in either.
    let places = ["lib", "usr/lib"].map(|place| whole.join(place));
    for place in &places {
        make_directory(place)?;
    }
    let [lib, usr_lib] = places.map(|place| place.join("modules"));
    match lib.exists() {
        true => symlink("../../lib/modules", usr_lib),
        false => symlink("../usr/lib/modules", lib),
    }
    .context("cannot link the directory of the modules")?;

    let places = [
        format!("boot/vmlinuz-{release}"),
        format!("lib/modules/{release}/vmlinuz"),
    ];
    let mut images = places.iter().map(|place| whole.join(place));
    let Some(image) = images.find(|place| place.is_file()) else {
        bail!(
            "the packages of {release} hold no kernel at {}",
            places.join(" or ")
        );
    };
    fs::copy(&image, scratch.join("vmlinuz"))
        .with_context(|| format!("cannot copy {}", image.display()))?;
    collect_modules(&whole, release, &scratch.join("modules"))?;
    remove_directory(&whole)?;
    let path = scratch.join("note");
    fs::write(&path, note).with_context(|| format!("cannot write {}", path.display()))?;

    remove_directory(directory)?;
    fs::rename(&scratch, directory)
        .with_context(|| format!("cannot move {} into its place", scratch.display()))
}

/// Copies the modules that tests use and their dependencies, uncompressed, and named so that each
/// comes after those it needs: a guest has nothing that loads modules on demand.
fn collect_modules(whole: &Path, release: &str, to: &Path) -> Result<()> {
    run(Command::new("depmod")
        .arg("--basedir")
        .arg(whole)
        .arg(release))?;
    make_directory(to)?;
    let mut seen = BTreeSet::new();
    for module in MODULES {
        let mut command = Command::new("modprobe");
        command
            .args(["--show-depends", "--config", "/dev/null", "--dirname"])
            .arg(whole)
            .args(["--set-version", release, module])
            .stderr(Stdio::null());
        let output = command.output().context("cannot run modprobe")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        for path in said.lines().filter_map(|line| line.strip_prefix("insmod ")) {
            let path = Path::new(path.trim());
            let number = seen.len();
            if seen.insert(path.to_owned()) {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let name = name.split('.').next().unwrap_or_default();
                let to = to.join(format!("{number:02}-{name}.ko"));
                fs::write(&to, uncompressed(path)?)
                    .with_context(|| format!("cannot write {}", to.display()))?;
            }
        }
    }
    Ok(())
}

/// Reads a module and uncompresses it.
fn uncompressed(path: &Path) -> Result<Vec<u8>> {
    let suffix = path.extension().unwrap_or_default();
    let Some((_, program)) = COMPRESSIONS.iter().find(|(known, _)| suffix == *known) else {
        return fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    };
    let output = Command::new(program)
        .args(["--decompress", "--stdout"])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {program}, which unpacks kernel modules"))?;
    if !output.status.success() {
        bail!("{program} failed on {}: {}", path.display(), output.status);
    }
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_of_one_series_or_of_none() {
        for (version, series) in [
            ("5.10.262-1", Some(Series::V5_10)),
            ("6.1.176-1~deb11u1", Some(Series::V6_1)),
            ("6.12.95-1~bpo12+1", Some(Series::V6_12)),
            ("7.3.4-1~bpo13+1", Some(Series::V7)),
            ("6.16.12-1", None),
            ("70.1-1", None),
        ] {
            let mut of = Series::value_variants()
                .iter()
                .filter(|series| series.has(version));
            assert_eq!((of.next().copied(), of.next()), (series, None), "{version}");
        }
    }

    #[test]
    fn the_command_line_knows_the_same_names() {
        for series in Series::value_variants() {
            assert_eq!(Series::from_str(series.name(), false), Ok(*series));
        }
    }
}
