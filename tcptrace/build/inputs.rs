//! All that goes into the object, as hashes and values that can be compared without a compiler.
//!
//! Kept apart by origin, so that a comparison can name what changed and not only that something
//! did.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{PACKAGES, flags, lock, settings, sha256};

/// What an object was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inputs {
    /// The SHA-256 of everything below.
    pub(crate) sha256: String,
    /// The flags of cargo and rustc; see [`flags`].
    pub(crate) flags: Vec<String>,
    /// Each source file and `Cargo.toml` of [`PACKAGES`], by its path in the workspace: its
    /// SHA-256.
    pub(crate) files: BTreeMap<String, String>,
    /// The settings of the workspace's `Cargo.toml` that reach the eBPF build: their values.
    pub(crate) settings: BTreeMap<String, String>,
    /// The packages of `Cargo.lock` that tcptrace-ebpf depends on: their checksums.
    pub(crate) lock: BTreeMap<String, String>,
}

impl Inputs {
    /// Reads what an object built now from `workspace` would be built from.
    pub(crate) fn read(workspace: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for package in PACKAGES {
            for path in sources(&workspace.join(package))? {
                let name = path.strip_prefix(workspace)?.to_string_lossy().into_owned();
                let bytes = read(&path)?;
                files.insert(name, sha256(&bytes));
            }
        }
        let mut inputs = Self {
            sha256: String::new(),
            flags: flags::recorded(),
            files,
            lock: lock::closure(workspace)?,
            settings: BTreeMap::new(),
        };
        inputs.settings = settings::read(workspace, &inputs.lock)?;
        inputs.sha256 = inputs.digest();
        Ok(inputs)
    }

    /// What differs from `recorded`, one line a difference; none when both are the same.
    pub(crate) fn changes_since(&self, recorded: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.flags != recorded.flags {
            changes.push("the compiler's flags changed".to_owned());
        }
        compare(&mut changes, "", &recorded.files, &self.files);
        compare(
            &mut changes,
            "Cargo.toml: ",
            &recorded.settings,
            &self.settings,
        );
        compare(&mut changes, "Cargo.lock: ", &recorded.lock, &self.lock);
        if changes.is_empty() && recorded.sha256 != self.sha256 {
            changes.push("the manifest's own hash of its inputs does not match them".to_owned());
        }
        changes
    }

    /// The hash over all the rest. Every name and value ends in a NUL, every group in another.
    fn digest(&self) -> String {
        let mut text = String::new();
        for flag in &self.flags {
            text.push_str(flag);
            text.push('\0');
        }
        for group in [&self.files, &self.settings, &self.lock] {
            text.push('\0');
            for (name, value) in group {
                text.push_str(name);
                text.push('\0');
                text.push_str(value);
                text.push('\0');
            }
        }
        sha256(text.as_bytes())
    }
}

/// Reads a file, and says which if that fails.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The files of a package that can reach the compiler: `Cargo.toml`, `build.rs`, and all of `src`.
fn sources(package: &Path) -> Result<Vec<PathBuf>> {
    let manifest = package.join("Cargo.toml");
    if !manifest.is_file() {
        bail!(
            "there is no {}: the sources of the eBPF programs are not here",
            manifest.display()
        );
    }
    let mut files = vec![manifest];
    let script = package.join("build.rs");
    if script.is_file() {
        files.push(script);
    }
    walk(&package.join("src"), &mut files)?;
    Ok(files)
}

/// Adds the files below `directory`, but for the hidden ones that editors leave.
fn walk(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = || format!("cannot list {}", directory.display());
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if entry.file_type().with_context(failed)?.is_dir() {
            walk(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Adds one line for each entry that was changed, added or removed between two maps.
fn compare(
    changes: &mut Vec<String>,
    origin: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
) {
    for (name, value) in new {
        match old.get(name) {
            Some(before) if before == value => {}
            Some(_) => changes.push(format!("{origin}{name} changed")),
            None => changes.push(format!("{origin}{name} is new")),
        }
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        changes.push(format!("{origin}{name} is gone"));
    }
}

#[cfg(test)]
mod tests;
