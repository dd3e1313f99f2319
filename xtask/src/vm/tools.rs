//! What virtual machines need from this machine, and how to get it.

use std::path::Path;

use anyhow::{Result, bail};

use super::Architecture;
use crate::{
    apt::{self, KEYRING},
    command::exists,
};

/// The programs that prepare kernels, and their Debian packages. The last one is a file: the keys
/// of Debian's archive.
const NEEDED: [(&str, &str); 4] = [
    ("xz", "xz-utils"),
    ("depmod", "kmod"),
    ("modprobe", "kmod"),
    (KEYRING, "debian-archive-keyring"),
];

/// Returns why no virtual machine can run here, and the remedy; `None` if they can.
pub(crate) fn missing(architecture: Architecture) -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the tests for other kernels are built on x86-64 only".to_owned());
    }
    if !["apt-get", "apt-cache", "dpkg-deb"].into_iter().all(exists) {
        return Some("the kernels are got with apt-get, and this system has none".to_owned());
    }
    let (names, packages): (Vec<_>, Vec<_>) = lacking(architecture).into_iter().unzip();
    (!names.is_empty()).then(|| {
        format!(
            "no {}: apt-get install --no-install-recommends {}",
            names.join(", no "),
            packages.join(" ")
        )
    })
}

/// Checks that everything is here, and installs it if allowed. `directory` is for apt's private
/// lists.
pub(crate) fn require(architecture: Architecture, install: bool, directory: &Path) -> Result<()> {
    let lacking = lacking(architecture);
    if install && !lacking.is_empty() {
        apt::update()?;
        // QEMU last, and alone: packages of another version of it may be installed, such as
        // qemu-utils.
        let (qemu, others): (Vec<_>, Vec<_>) = lacking
            .into_iter()
            .map(|(_, package)| package)
            .partition(|package| *package == architecture.names().qemu_package);
        if !others.is_empty() {
            apt::install(&others)?;
        }
        if !qemu.is_empty() {
            apt::install_or_backport(&qemu, &directory.join("apt-backports"))?;
        }
    }
    match missing(architecture) {
        Some(missing) if install => bail!("virtual machines cannot be run: {missing}"),
        Some(missing) => bail!("virtual machines cannot be run: {missing}; or add --install"),
        None => Ok(()),
    }
}

/// Returns the missing programs, and their packages.
fn lacking(architecture: Architecture) -> Vec<(&'static str, &'static str)> {
    let mut needed = vec![(architecture.names().qemu, architecture.names().qemu_package)];
    needed.extend(NEEDED);
    // Programs for administrators are not in every user's search path.
    let here = |name| exists(name) || Path::new("/usr/sbin").join(name).exists();
    needed.retain(|(name, _)| !here(name));
    needed
}
