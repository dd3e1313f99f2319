//! The settings of the workspace's `Cargo.toml` that reach the eBPF build.
//!
//! The rest of that file belongs to the daemon: its dependencies, its profiles, the lints.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use toml::{Table, Value};

use super::PACKAGES;

/// Reads the settings: what [`PACKAGES`] inherit, the release profile, patches and the resolver.
///
/// `lock` is the closure of the eBPF programs' dependencies: the profile may single out some of
/// them.
pub(crate) fn read(
    workspace: &Path,
    lock: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let root = parse(&workspace.join("Cargo.toml"))?;
    let mut settings = BTreeMap::new();
    let mut keep = |name: String, value: Option<&Value>| {
        if let Some(value) = value {
            settings.insert(name, value.to_string());
        }
    };

    let shared = root.get("workspace").and_then(Value::as_table);
    let below = |table: &str, key: &str| shared?.get(table)?.get(key);
    keep(
        "workspace.resolver".to_owned(),
        shared.and_then(|shared| shared.get("resolver")),
    );
    for package in PACKAGES {
        let manifest = parse(&workspace.join(package).join("Cargo.toml"))?;
        for key in inherited(&manifest, "package") {
            keep(format!("workspace.package.{key}"), below("package", key));
        }
        for table in ["dependencies", "build-dependencies"] {
            for key in inherited(&manifest, table) {
                keep(
                    format!("workspace.dependencies.{key}"),
                    below("dependencies", key),
                );
            }
        }
    }

    keep("patch".to_owned(), root.get("patch"));
    let release = root
        .get("profile")
        .and_then(|profile| profile.get("release"));
    let names: BTreeSet<&str> = lock
        .keys()
        .filter_map(|package| package.split(' ').next())
        .collect();
    for (key, value) in release.and_then(Value::as_table).into_iter().flatten() {
        if key != "package" {
            keep(format!("profile.release.{key}"), Some(value));
            continue;
        }
        for (package, value) in value.as_table().into_iter().flatten() {
            // The key may be a package's specification, as in `name@1.2.3`.
            let name = package.split(['@', ':']).next().unwrap_or(package);
            if name == "*" || names.contains(name) {
                keep(format!("profile.release.package.{package}"), Some(value));
            }
        }
    }
    Ok(settings)
}

/// Parses a `Cargo.toml`.
fn parse(path: &Path) -> Result<Table> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is no TOML", path.display()))
}

/// The keys of one of a manifest's tables that say `workspace = true`.
fn inherited<'a>(manifest: &'a Table, table: &str) -> Vec<&'a str> {
    let entries = manifest.get(table).and_then(Value::as_table);
    entries
        .into_iter()
        .flatten()
        .filter(|(_, value)| value.get("workspace").and_then(Value::as_bool) == Some(true))
        .map(|(key, _)| key.as_str())
        .collect()
}

#[cfg(test)]
mod tests;
