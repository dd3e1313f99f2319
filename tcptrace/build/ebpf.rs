//! The committed eBPF object: what it was built from, with what, and how to build it again.
//!
//! Shared by this crate's build script and by `cargo xtask`, so that both mean the same thing by
//! "the object". Nothing here writes into the source tree: only `cargo xtask build-ebpf` does.

#[cfg(feature = "build-ebpf")]
pub(crate) mod compile;
#[cfg(feature = "build-ebpf")]
pub(crate) mod environment;
pub(crate) mod flags;
pub(crate) mod inputs;
pub(crate) mod lock;
pub(crate) mod manifest;
#[cfg(test)]
mod scratch;
pub(crate) mod settings;
#[cfg(feature = "build-ebpf")]
pub(crate) mod strip;
#[cfg(feature = "build-ebpf")]
pub(crate) mod toolchain;

use sha2::{Digest as _, Sha256};

/// The packages whose sources make the object, each in a directory of its name in the workspace.
pub(crate) const PACKAGES: [&str; 2] = ["tcptrace-ebpf", "tcptrace-common"];

/// Where the object lies, seen from the tcptrace package.
pub(crate) const OBJECT: &str = "ebpf/tcptrace.bpf.o";

/// Where the manifest that describes the object lies, seen from the tcptrace package.
pub(crate) const MANIFEST: &str = "ebpf/manifest.toml";

/// The SHA-256 of `bytes` in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
