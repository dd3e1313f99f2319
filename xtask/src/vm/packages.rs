//! Which packages have the newest kernel of a series.
//!
//! A kernel is one package, `linux-image-RELEASE`, or, from 7.x on, one that only depends on
//! `linux-binary-RELEASE` and `linux-modules-RELEASE`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

use super::{series::Series, version::Version};

/// How the releases end whose kernels are small and know the hardware of virtual machines.
const FLAVOUR: &str = "-cloud-amd64";
/// What the names of a kernel's packages begin with.
const IMAGE: &str = "linux-image-";
const PARTS: [&str; 2] = ["linux-binary-", "linux-modules-"];

/// What `apt-cache search` is asked for.
pub(crate) const NAMES: &str = "^linux-(image|binary|modules)-[0-9].*-cloud-amd64$";

/// A package that the archive has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: Version,
    /// The SHA-256 of its file, as the archive's signed lists have it.
    pub(crate) sha256: String,
    /// The names of the packages that it depends on; alternatives are all among them.
    depends: Vec<String>,
}

/// The packages of one kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// The kernel's release, as `uname -r` says it.
    pub(crate) release: String,
    /// Where its files are.
    pub(crate) packages: Vec<Package>,
}

/// Reads what `apt-cache show` says: of packages in several versions the newest.
pub(crate) fn parse(shown: &str) -> BTreeMap<String, Package> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    for package in shown.split("\n\n").filter_map(paragraph) {
        match packages.get(&package.name) {
            Some(known) if known.version >= package.version => {}
            _ => {
                packages.insert(package.name.clone(), package);
            }
        }
    }
    packages
}

/// Reads one paragraph.
fn paragraph(text: &str) -> Option<Package> {
    let field = |name: &str| {
        let values = text.lines().filter_map(|line| line.split_once(": "));
        let mut values = values.filter(|(field, _)| *field == name);
        values.next().map(|(_, value)| value.trim())
    };
    let depends = field("Depends").unwrap_or_default().split([',', '|']);
    Some(Package {
        name: field("Package")?.to_owned(),
        version: Version::new(field("Version")?),
        sha256: field("SHA256")?.to_owned(),
        depends: depends
            .filter_map(|package| package.split_whitespace().next())
            .map(str::to_owned)
            .collect(),
    })
}

/// Chooses the newest kernel of a series that is there with all its parts.
pub(crate) fn choose(packages: &BTreeMap<String, Package>, series: Series) -> Result<Choice> {
    let choices = packages.values().filter_map(|image| {
        let release = image.name.strip_prefix(IMAGE)?;
        // The package that depends on the newest kernel is called 6.1-cloud-amd64.
        let number = release.strip_suffix(FLAVOUR)?.splitn(3, '.').count();
        if !series.has(release) || number < 3 {
            return None;
        }
        let parts = image
            .depends
            .iter()
            .filter(|name| PARTS.iter().any(|part| name.starts_with(part)));
        let parts = parts
            .map(|name| packages.get(name))
            .collect::<Option<Vec<_>>>()?;
        Some((image, release, parts))
    });
    let newest = choices.max_by(|one, other| one.0.version.cmp(&other.0.version));
    let (image, release, parts) =
        newest.with_context(|| format!("the package lists have no kernel {series}"))?;
    // A package that only depends on others has nothing else.
    let packages = if parts.is_empty() { vec![image] } else { parts };
    Ok(Choice {
        release: release.to_owned(),
        packages: packages.into_iter().cloned().collect(),
    })
}

#[cfg(test)]
mod tests;
