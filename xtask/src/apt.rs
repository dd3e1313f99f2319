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

/// Installs packages, without those that they only recommend.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    run(as_root("env")
        .args([
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "--yes",
            "--quiet=2",
            "--no-install-recommends",
            "-o",
            "DPkg::Lock::Timeout=300",
            // Without it dpkg counts percents into a log.
            "-o",
            "Dpkg::Use-Pty=0",
        ])
        .args(packages))
    .context(
        "the packages could not be installed; a release other than Debian 12 may not have them",
    )
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
