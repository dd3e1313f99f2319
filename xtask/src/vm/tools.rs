//! What virtual machines need of this one, and where to get it.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

use super::archive::{Archive, KEYRING, Part};
use crate::{apt, command::exists};

/// What runs them, and the package of Debian that has it.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
pub(crate) const QEMU_PACKAGE: &str = "qemu-system-x86";
/// The source package of all of QEMU's packages.
const QEMU_SOURCE: &str = "qemu";
/// What unpacks kernel modules, and the package of Debian that has it.
pub(crate) const XZ: &str = "xz";
pub(crate) const XZ_PACKAGE: &str = "xz-utils";
/// The package that has the keys of Debian's archive.
const KEYS_PACKAGE: &str = "debian-archive-keyring";

/// Why no virtual machine can be run here, and what to do about that; nothing if they can.
pub(crate) fn missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the kernels and the tests for them are built for x86-64 only".to_owned());
    }
    if !["apt-get", "apt-cache", "dpkg-deb"].into_iter().all(exists) {
        return Some("the kernels are got with apt-get, and this system has none".to_owned());
    }
    let (names, packages): (Vec<_>, Vec<_>) = lacking().into_iter().unzip();
    (!names.is_empty()).then(|| {
        format!(
            "no {}: apt-get install --no-install-recommends {}",
            names.join(", no "),
            packages.join(" ")
        )
    })
}

/// Makes sure that all is here, and installs it if that is allowed. `directory` is where apt's
/// private lists are kept, should they be needed.
pub(crate) fn require(install: bool, directory: &Path) -> Result<()> {
    let (qemu, others): (Vec<_>, Vec<_>) = lacking()
        .into_iter()
        .map(|(_, package)| package)
        .partition(|package| *package == QEMU_PACKAGE);
    if install && !(qemu.is_empty() && others.is_empty()) {
        apt::update()?;
        if !others.is_empty() {
            apt::install(&others)?;
        }
        if !qemu.is_empty() {
            install_qemu(directory)?;
        }
    }
    match missing() {
        Some(missing) if install => bail!("virtual machines cannot be run: {missing}"),
        Some(missing) => bail!("virtual machines cannot be run: {missing}; or add --install"),
        None => Ok(()),
    }
}

/// Installs QEMU. If packages of another version of it are here, such as qemu-utils, then in that
/// version, for it may not go together with others: from this machine's suites, else from the
/// backports of its release.
fn install_qemu(directory: &Path) -> Result<()> {
    let Some(version) = apt::version_of_source(QEMU_SOURCE) else {
        return apt::install(&[QEMU_PACKAGE]);
    };
    if apt::install(&[&format!("{QEMU_PACKAGE}={version}")]).is_ok() {
        return Ok(());
    }
    if let Err(error) = install_backport(&version, directory) {
        eprintln!("warning: {error:#}");
        return apt::install(&[QEMU_PACKAGE]);
    }
    Ok(())
}

/// Installs a version of QEMU from the backports of this machine's release.
fn install_backport(version: &str, directory: &Path) -> Result<()> {
    let failed = || format!("QEMU {version} cannot be had from the backports of this release");
    let release = fs::read_to_string("/etc/os-release").with_context(failed)?;
    let name = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .with_context(failed)?;
    let backports = format!("{name}-backports");
    let part = Part {
        architecture: "amd64",
        suites: &[name, &backports],
        security_suites: &[],
    };
    let archive = Archive::open(&directory.join("apt-backports"), part).with_context(failed)?;
    let package = format!("{QEMU_PACKAGE}={version}");
    archive
        .install(&[&package], &backports)
        .with_context(failed)
}

/// What apt-get can install, and the packages.
fn lacking() -> Vec<(&'static str, &'static str)> {
    let mut lacking = vec![(QEMU, QEMU_PACKAGE), (XZ, XZ_PACKAGE)];
    lacking.retain(|(program, _)| !exists(program));
    if !Path::new(KEYRING).is_file() {
        lacking.push((KEYRING, KEYS_PACKAGE));
    }
    lacking
}
