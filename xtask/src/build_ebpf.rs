//! `cargo xtask build-ebpf`: the committed object and its manifest, made anew.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf::{
        compile::Build,
        inputs::Inputs,
        manifest::{Identity, Manifest, Object},
        sha256,
        toolchain::Toolchain,
    },
    install,
    objects::{self, ARCHITECTURES},
    workspace::Workspace,
};

/// What stands above the manifest.
const HEADING: &str = "\
# What tcptrace.bpf.o, beside this file, was built with and from. `cargo xtask build-ebpf` writes
# both. `cargo xtask verify-ebpf` tells whether they still match the sources, and with the same
# toolchain builds the object again to compare it byte for byte. Do not edit either by hand.

";

/// The arguments of `build-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install what the toolchain lacks: packages with apt-get, bpf-linker below target/tools.
    #[arg(long)]
    install: bool,
}

/// Builds the object and writes it with its manifest into the checkout.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let toolchain = match arguments.install {
        true => install::toolchain(workspace, None)?,
        false => Toolchain::find(&workspace.tools(), None)?,
    };
    let identity = Identity {
        packages: install::packages(&toolchain),
        ..toolchain.identity()
    };
    eprintln!("building with {identity}");

    let inputs = Inputs::read(workspace.root())?;
    let target = workspace.target().join("ebpf");
    let build = Build {
        workspace: workspace.root(),
        target: &target,
        toolchain: &toolchain,
        deny_warnings: false,
    };
    let object = objects::build(&build);
    let changes = Inputs::read(workspace.root())?.changes_since(&inputs);
    if !changes.is_empty() {
        bail!(
            "the sources changed while they were built ({}): run this again",
            changes.join(", ")
        );
    }
    let object = object?;

    let manifest = Manifest {
        object: Object {
            sha256: sha256(&object),
            size: object.len() as u64,
            architectures: ARCHITECTURES.map(str::to_owned).to_vec(),
        },
        toolchain: identity,
        inputs,
    };
    let text =
        toml::to_string_pretty(&manifest).context("the manifest cannot be written as TOML")?;
    write(&workspace.object(), &object)?;
    write(&workspace.manifest(), format!("{HEADING}{text}").as_bytes())?;
    println!(
        "sha256 {} ({} bytes)",
        manifest.object.sha256, manifest.object.size
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes a file unless it is already so, so that cargo rebuilds nothing for nothing.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|present| present == bytes) {
        println!("{} is as it was", path.display());
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    println!("{} is written", path.display());
    Ok(())
}
