//! `cargo xtask build-ebpf`: rebuilds the committed object and its manifest.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use super::{
    Manifest, Object,
    compile::{self, ARCHITECTURES},
    inputs, manifest, object, sha256,
    toolchain::Toolchain,
};
use crate::workspace::Workspace;

/// The heading of the manifest.
const HEADING: &str = "\
# What tcptrace.bpf.o, beside this file, was built from and with. `cargo xtask build-ebpf` writes
# both. `cargo xtask verify-ebpf` tells whether they still match the sources, and with the same
# toolchain builds the object again to compare it byte for byte. Do not edit either by hand.

";

/// The arguments of `build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install missing parts of the toolchain: packages with apt-get, bpf-linker below
    /// target/tools.
    #[arg(long)]
    install: bool,
}

/// Builds the object and writes it with its manifest into the checkout.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let toolchain = Toolchain::get(&workspace.tools(), None, arguments.install)?;
    eprintln!("building with {}", toolchain.identity);
    let root = workspace.root();
    let before = inputs(root)?;
    let target = workspace.target().join("ebpf");
    let bytes = compile::object(root, &target, &toolchain, false)?;
    if inputs(root)? != before {
        bail!("the sources changed while they were built: run this again");
    }
    let made = Manifest {
        inputs: before,
        object: Object {
            sha256: sha256(&bytes),
            architectures: ARCHITECTURES.map(str::to_owned).to_vec(),
        },
        toolchain: toolchain.identity,
    };
    let text = toml::to_string(&made).context("the manifest cannot be written as TOML")?;
    write(&object(root), &bytes)?;
    write(&manifest(root), format!("{HEADING}{text}").as_bytes())?;
    println!("sha256 {} ({} bytes)", made.object.sha256, bytes.len());
    Ok(ExitCode::SUCCESS)
}

/// Writes a file unless it has this content already, so that cargo does not rebuild.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        println!("{} is as it was", path.display());
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} is written", path.display());
    Ok(())
}
