//! The committed eBPF object: its sources, its toolchain, and whether it still matches them.

pub(crate) mod build;
mod compile;
mod environment;
mod toolchain;
pub(crate) mod verify;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use self::toolchain::Identity;

/// The packages whose sources make the object, each in a directory of its name in the checkout.
const PACKAGES: [&str; 2] = ["tcptrace-ebpf", "tcptrace-common"];

/// What the committed object was built from, and with which toolchain.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    /// The SHA-256 of the sources and of the flags.
    inputs: String,
    object: Object,
    toolchain: Identity,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    sha256: String,
    /// The architectures whose builds gave these bytes.
    architectures: Vec<String>,
}

impl Manifest {
    fn read(path: &Path) -> Result<Self> {
        let text = String::from_utf8_lossy(&read(path)?).into_owned();
        toml::from_str(&text).with_context(|| {
            format!(
                "{} is not understood: cargo xtask build-ebpf writes it anew",
                path.display()
            )
        })
    }
}

/// Returns the SHA-256 of `bytes` in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the SHA-256 of everything that goes into an object built from the checkout at `root`:
/// the flags, and the path and the contents of each source.
fn inputs(root: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    for flag in compile::recorded() {
        add(flag.as_bytes());
    }
    for package in PACKAGES {
        let package = root.join(package);
        let mut files = vec![package.join("Cargo.toml")];
        files.extend(Some(package.join("Cargo.lock")).filter(|lock| lock.is_file()));
        walk(&package.join("src"), &mut files)?;
        files.sort();
        for path in files {
            add(path.strip_prefix(root)?.as_os_str().as_encoded_bytes());
            add(&read(&path)?);
        }
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Adds the files below `directory`, without hidden ones, which editors leave.
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

/// Reads a file; an error names it.
fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| {
        format!(
            "cannot read {}: if it is missing, cargo xtask build-ebpf makes it",
            path.display()
        )
    })
}

/// Compares the sources and the object with the manifest; needs no eBPF toolchain.
fn check(root: &Path) -> Result<Manifest> {
    let manifest = Manifest::read(&manifest(root))?;
    let found = sha256(&read(&object(root))?);
    if found != manifest.object.sha256 {
        bail!(
            "{} is not the object that its manifest describes: its SHA-256 is {found}, the manifest \
             says {}. Take both from the same commit, or run cargo xtask build-ebpf",
            object(root).display(),
            manifest.object.sha256
        );
    }
    if inputs(root)? != manifest.inputs {
        bail!(
            "the committed eBPF object was not built from these sources: tcptrace-ebpf, \
             tcptrace-common or the flags changed. Run cargo xtask build-ebpf, and commit what it \
             writes"
        );
    }
    Ok(manifest)
}

fn object(root: &Path) -> PathBuf {
    root.join("tcptrace/ebpf/tcptrace.bpf.o")
}

/// The manifest beside the object.
fn manifest(root: &Path) -> PathBuf {
    root.join("tcptrace/ebpf/manifest.toml")
}
