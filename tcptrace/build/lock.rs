//! The part of `Cargo.lock` that the eBPF programs depend on.
//!
//! Only that part is an input of the object: a new version of a crate that only the daemon uses
//! must not ask for a new object.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use serde::Deserialize;

/// The package at the root of the closure.
const ROOT: &str = "tcptrace-ebpf";

/// `Cargo.lock`, as far as it is of interest.
#[derive(Deserialize)]
struct Lock {
    /// Every package of the workspace and of its dependencies.
    package: Vec<Package>,
}

/// One `[[package]]` of the lock file.
#[derive(Deserialize)]
struct Package {
    /// The package's name.
    name: String,
    /// The package's version.
    version: String,
    /// Where it comes from; a package of the workspace has none.
    source: Option<String>,
    /// The registry's SHA-256 of it; a package of the workspace or of a git repository has none.
    checksum: Option<String>,
    /// Its dependencies as `name`, `name version` or `name version (source)`, whatever is
    /// unambiguous.
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Every package that tcptrace-ebpf needs, itself included: `name version` and what identifies it.
pub(crate) fn closure(workspace: &Path) -> Result<BTreeMap<String, String>> {
    let path = workspace.join("Cargo.lock");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lock: Lock = toml::from_str(&text)
        .with_context(|| format!("{} is no lock file that can be read", path.display()))?;

    let mut found = BTreeMap::new();
    let mut open = vec![ROOT];
    while let Some(dependency) = open.pop() {
        let package = lock.find(dependency).with_context(|| {
            format!(
                "{} has no entry for {dependency}: run cargo metadata",
                path.display()
            )
        })?;
        let identity = match (&package.checksum, &package.source) {
            (Some(checksum), _) => checksum.as_str(),
            (None, Some(source)) => source.as_str(),
            (None, None) => "of this workspace",
        };
        let name = format!("{} {}", package.name, package.version);
        if found.insert(name, identity.to_owned()).is_some() {
            continue;
        }
        let tests_only = match package.source {
            Some(_) => BTreeSet::new(),
            None => only_for_tests(&workspace.join(&package.name).join("Cargo.toml"))?,
        };
        open.extend(
            package
                .dependencies
                .iter()
                .map(String::as_str)
                .filter(|dependency| {
                    let name = dependency.split(' ').next().unwrap_or(dependency);
                    !tests_only.contains(name)
                }),
        );
    }
    Ok(found)
}

impl Lock {
    /// The package that an entry of `dependencies` means.
    fn find(&self, dependency: &str) -> Option<&Package> {
        let mut parts = dependency.splitn(3, ' ');
        let name = parts.next()?;
        let version = parts.next();
        let source = parts.next().map(|source| source.trim_matches(['(', ')']));
        self.package.iter().find(|package| {
            package.name == name
                && version.is_none_or(|version| package.version == version)
                && source.is_none_or(|source| package.source.as_deref() == Some(source))
        })
    }
}

/// The packages that a package of the workspace needs for its tests and for nothing else.
fn only_for_tests(manifest: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read_to_string(manifest)
        .with_context(|| format!("cannot read {}", manifest.display()))?;
    let manifest: toml::Table =
        toml::from_str(&text).with_context(|| format!("{} is no TOML", manifest.display()))?;
    let mut tests = names(&manifest, "dev-dependencies");
    let mut build = names(&manifest, "dependencies");
    build.append(&mut names(&manifest, "build-dependencies"));
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    for target in targets.into_iter().flat_map(toml::Table::values) {
        let Some(target) = target.as_table() else {
            continue;
        };
        tests.append(&mut names(target, "dev-dependencies"));
        build.append(&mut names(target, "dependencies"));
        build.append(&mut names(target, "build-dependencies"));
    }
    Ok(&tests - &build)
}

/// The packages that one table of dependencies names, by their own names and not by their aliases.
fn names(manifest: &toml::Table, table: &str) -> BTreeSet<String> {
    let Some(table) = manifest.get(table).and_then(toml::Value::as_table) else {
        return BTreeSet::new();
    };
    let package = |(alias, value): (&String, &toml::Value)| {
        let renamed = value.get("package").and_then(toml::Value::as_str);
        renamed.unwrap_or(alias).to_owned()
    };
    table.iter().map(package).collect()
}

#[cfg(test)]
mod tests;
