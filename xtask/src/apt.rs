//! Packages of Debian and of the distributions made from it.
//!
//! Other distributions have other packages: there one is told what is missing, and installs it by
//! hand.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::command::{as_root, exists, run};

/// The version of a package that is installed, if it is.
pub(crate) fn version(package: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat=${db:Status-Abbrev}${Version}",
            package,
        ])
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    said.strip_prefix("ii ")
        .map(|version| version.trim().to_owned())
}

/// The version in which packages made from a source package are installed, if one is.
pub(crate) fn version_of_source(source: &str) -> Option<String> {
    let output = Command::new("dpkg-query")
        .args([
            "--show",
            "--showformat=${db:Status-Abbrev}${source:Package} ${Version}\n",
        ])
        .output()
        .ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    let wanted = format!("ii {source} ");
    let version = said.lines().find_map(|line| line.strip_prefix(&wanted))?;
    Some(version.to_owned())
}

/// Brings the lists of packages up to date, as far as the archives can be reached.
pub(crate) fn update() -> Result<()> {
    if !exists("apt-get") {
        bail!("--install needs apt-get, and this system has none: install by hand what was named");
    }
    let updated =
        run(as_root("apt-get").args(["update", "--quiet=2", "-o", "DPkg::Lock::Timeout=300"]));
    if let Err(error) = updated {
        // An archive that has nothing to do with us may be out of reach.
        eprintln!("warning: {error:#}; going on with the lists of packages that are here");
    }
    Ok(())
}

/// Installs packages, without those that they only recommend. Never removes one.
///
/// # Errors
///
/// Fails if a package is not known, or cannot be installed without removing another; the error then
/// names that one, and the command that would do it.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let installed = run(as_root("env")
        .args([NO_QUESTIONS, "apt-get"])
        .args(INSTALL)
        .args(packages));
    let Err(error) = installed else {
        return Ok(());
    };
    let in_the_way = removed_by(packages);
    if in_the_way.is_empty() {
        return Err(error.context(
            "the packages could not be installed; a release other than Debian 12 may not have them",
        ));
    }
    let packages = packages.join(" ");
    bail!(
        "installing {packages} would remove {}, so it was not done; if that is acceptable:\n  \
         apt-get install --no-install-recommends {packages}",
        in_the_way.join(", ")
    )
}

/// Installs packages with other lists than this machine's, preferring one suite of theirs. Never
/// removes one.
pub(crate) fn install_from(configuration: &Path, suite: &str, packages: &[&str]) -> Result<()> {
    run(as_root("env")
        .arg(format!("APT_CONFIG={}", configuration.display()))
        .args([NO_QUESTIONS, "apt-get"])
        .args(INSTALL)
        .args(["--target-release", suite])
        .args(packages))
}

/// Lets no package ask anything.
const NO_QUESTIONS: &str = "DEBIAN_FRONTEND=noninteractive";
/// How packages are installed.
const INSTALL: [&str; 9] = [
    "install",
    "--yes",
    "--quiet=2",
    "--no-remove",
    "--no-install-recommends",
    "-o",
    "DPkg::Lock::Timeout=300",
    // Without it dpkg counts percents into a log.
    "-o",
    "Dpkg::Use-Pty=0",
];

/// The packages that would have to go for `packages` to be installed, with their versions.
fn removed_by(packages: &[&str]) -> Vec<String> {
    let output = Command::new("apt-get")
        .args(["install", "--simulate", "--no-install-recommends"])
        .args(packages)
        .output();
    output.map_or_else(
        |_| Vec::new(),
        |output| removals(&String::from_utf8_lossy(&output.stdout)),
    )
}

/// The packages that a simulation of apt-get removes: `Remv NAME [VERSION]`.
fn removals(simulation: &str) -> Vec<String> {
    let removal = |line: &str| {
        let mut words = line.strip_prefix("Remv ")?.split(' ');
        let name = words.next()?;
        let version = words.next()?.strip_prefix('[')?.strip_suffix(']')?;
        Some(format!("{name} {version}"))
    };
    simulation.lines().filter_map(removal).collect()
}

/// Takes one file out of a package and puts it into `directory`, without installing the package: a
/// server would be started.
pub(crate) fn extract(package: &str, file: &str, directory: &Path) -> Result<()> {
    let scratch = scratch(directory, package)?;
    run(Command::new("apt-get")
        .args([
            "download",
            "--quiet=2",
            "-o",
            "APT::Sandbox::User=root",
            package,
        ])
        .current_dir(&scratch))?;
    let archive = fs::read_dir(&scratch)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get download {package} left no package"))?;
    run(Command::new("dpkg-deb")
        .arg("--extract")
        .arg(&archive)
        .arg(&scratch))?;
    let from = scratch.join(file);
    let to = directory.join(
        from.file_name()
            .context("the file in the package has no name")?,
    );
    fs::rename(&from, &to)
        .with_context(|| format!("the package {package} does not hold {file} any more"))?;
    fs::remove_dir_all(&scratch).with_context(|| format!("cannot remove {}", scratch.display()))
}

/// An empty directory for one package.
fn scratch(directory: &Path, package: &str) -> Result<PathBuf> {
    let scratch = directory.join(format!(".{package}"));
    if scratch.exists() {
        fs::remove_dir_all(&scratch)
            .with_context(|| format!("cannot empty {}", scratch.display()))?;
    }
    fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    Ok(scratch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulation_names_what_would_be_removed() {
        let simulation = "\
Reading package lists...
The following packages will be REMOVED:
  qemu-utils
Remv qemu-utils [1:10.0.2+ds-2]
Inst libfdt1 (1.6.1-4+b1 Debian:12.15/oldstable [amd64])
Conf libfdt1 (1.6.1-4+b1 Debian:12.15/oldstable [amd64])
";
        assert_eq!(removals(simulation), ["qemu-utils 1:10.0.2+ds-2"]);
    }
}
