//! The manifest beside the committed object.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::{inputs::Inputs, sha256};

/// What the committed object is, what it was built with and what it was built from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    /// The object itself.
    pub(crate) object: Object,
    /// What it was built with.
    pub(crate) toolchain: Identity,
    /// What it was built from.
    pub(crate) inputs: Inputs,
}

/// The object's bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Object {
    /// Their SHA-256.
    pub(crate) sha256: String,
    /// Their number.
    pub(crate) size: u64,
    /// The architectures for which building gave these same bytes.
    pub(crate) architectures: Vec<String>,
}

/// A toolchain, told so precisely that the same one gives the same bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Identity {
    /// The release of rustc, as in `1.96.0`.
    pub(crate) rustc: String,
    /// The commit that rustc was built from.
    pub(crate) commit: String,
    /// The machine that rustc runs on, as a target triple.
    pub(crate) host: String,
    /// The version of LLVM that rustc was built with.
    pub(crate) llvm: String,
    /// The version of bpf-linker.
    pub(crate) bpf_linker: String,
    /// The distribution's packages that it came from, for who wants to install it again; not
    /// compared.
    #[serde(default)]
    pub(crate) packages: Vec<String>,
}

impl Manifest {
    /// Reads a manifest.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| {
            format!(
                "cannot read {}: cargo xtask build-ebpf writes it",
                path.display()
            )
        })?;
        toml::from_str(&text).with_context(|| {
            format!(
                "{} is not understood: cargo xtask build-ebpf writes it anew",
                path.display()
            )
        })
    }
}

impl Object {
    /// Reads the object at `path` and checks that it is the one that is described here.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).with_context(|| {
            format!(
                "cannot read the eBPF object {}: cargo xtask build-ebpf makes it",
                path.display()
            )
        })?;
        let found = sha256(&bytes);
        if found != self.sha256 {
            bail!(
                "{} is not the object that its manifest describes: its SHA-256 is {found}, the \
                 manifest says {}. Take both from the same commit, or run cargo xtask build-ebpf",
                path.display(),
                self.sha256
            );
        }
        Ok(())
    }
}
