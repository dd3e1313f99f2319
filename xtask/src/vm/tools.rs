//! What virtual machines need of this one, and where to get it.

use std::path::Path;

use anyhow::{Result, bail};

use super::archive::KEYRING;
use crate::{apt, command::exists};

/// What runs them, and the package of Debian that has it.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
pub(crate) const QEMU_PACKAGE: &str = "qemu-system-x86";
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

/// Makes sure that all is here, and installs it if that is allowed.
pub(crate) fn require(install: bool) -> Result<()> {
    let packages: Vec<_> = lacking().into_iter().map(|(_, package)| package).collect();
    if install && !packages.is_empty() {
        apt::update()?;
        apt::install(&packages)?;
    }
    match missing() {
        Some(missing) if install => bail!("virtual machines cannot be run: {missing}"),
        Some(missing) => bail!("virtual machines cannot be run: {missing}; or add --install"),
        None => Ok(()),
    }
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
