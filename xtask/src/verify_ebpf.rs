//! `cargo xtask verify-ebpf`: whether the committed object is what its sources make.
//!
//! The hashes are compared always and without a compiler. With the manifest's toolchain the object
//! is also built again, at another path, and compared byte for byte.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    ebpf::{compile::Build, inputs::Inputs, manifest::Manifest, sha256, toolchain::Toolchain},
    install, objects,
    workspace::Workspace,
};

/// The arguments of `verify-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install what the manifest's toolchain lacks: packages with apt-get, bpf-linker below
    /// target/tools.
    #[arg(long)]
    install: bool,
    /// Fail when the object cannot be built again because the manifest's toolchain is missing.
    #[arg(long)]
    require_rebuild: bool,
}

/// Checks the hashes, and builds the object again if that can be done.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    let manifest = check(workspace)?;
    println!("the eBPF object and its sources are those of its manifest");

    let wanted = Some(&manifest.toolchain);
    let toolchain = match arguments.install {
        true => install::toolchain(workspace, wanted),
        false => Toolchain::find(&workspace.tools(), wanted),
    };
    match toolchain {
        Ok(toolchain) => rebuild(workspace, &manifest, &toolchain)?,
        Err(error) if arguments.require_rebuild => {
            return Err(error.context(
                "the eBPF object could not be built again. If its toolchain can no longer be had, \
                 run cargo xtask build-ebpf with one that can, and commit what it writes",
            ));
        }
        Err(error) => println!("SKIPPED: the eBPF object was not built again. {error:#}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares the sources and the object with the manifest; needs no eBPF toolchain.
pub(crate) fn check(workspace: &Workspace) -> Result<Manifest> {
    let manifest = Manifest::read(&workspace.manifest())?;
    manifest.object.check(&workspace.object())?;
    let changes = Inputs::read(workspace.root())?.changes_since(&manifest.inputs);
    if !changes.is_empty() {
        bail!(
            "the committed eBPF object was not built from these sources:\n  {}\n\
             Run cargo xtask build-ebpf, and commit what it writes",
            changes.join("\n  ")
        );
    }
    Ok(manifest)
}

/// Builds the object from a copy of the sources at another path and compares it with the committed
/// one.
fn rebuild(workspace: &Workspace, manifest: &Manifest, toolchain: &Toolchain) -> Result<()> {
    let scratch = workspace.target().join("verify-ebpf");
    remove(&scratch)?;
    let copy = scratch.join("copy");
    copy_workspace(workspace.root(), &copy)?;
    let build = Build {
        workspace: &copy,
        target: &scratch.join("target"),
        toolchain,
        deny_warnings: true,
    };
    let rebuilt = objects::build(&build)?;

    let committed = fs::read(workspace.object())
        .with_context(|| format!("cannot read {}", workspace.object().display()))?;
    if rebuilt != committed {
        let kept = scratch.join("tcptrace.bpf.o");
        fs::write(&kept, &rebuilt).with_context(|| format!("cannot write {}", kept.display()))?;
        bail!(
            "the committed eBPF object is not what its sources make: they differ in {}. Its \
             SHA-256 is {}, that of the object just built is {}; it is kept at {}. Run cargo xtask \
             build-ebpf, and commit what it writes",
            objects::differences(&committed, &rebuilt)?,
            manifest.object.sha256,
            sha256(&rebuilt),
            kept.display()
        );
    }
    remove(&scratch)?;
    println!(
        "built again with {}, the eBPF object is the same to the byte",
        manifest.toolchain
    );
    Ok(())
}

/// Copies what cargo needs to know of the workspace: its own files, and its members whole.
fn copy_workspace(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for name in ["Cargo.toml", "Cargo.lock"] {
        copy(&from.join(name), &to.join(name))?;
    }
    let path = from.join("Cargo.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let root: toml::Table = toml::from_str(&text)?;
    let members = root
        .get("workspace")
        .and_then(|workspace| workspace.get("members"));
    let members = members
        .and_then(toml::Value::as_array)
        .context("the workspace has no members")?;
    for member in members.iter().filter_map(toml::Value::as_str) {
        copy_directory(&from.join(member), &to.join(member))?;
    }
    Ok(())
}

/// Copies a directory and all below it, but for what cargo made.
fn copy_directory(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let failed = || format!("cannot list {}", from.display());
    for entry in fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().with_context(failed)?.is_dir() {
            if entry.file_name() != "target" {
                copy_directory(&entry.path(), &target)?;
            }
        } else {
            copy(&entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Copies one file.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::copy(from, to)
        .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Removes a directory, if it is there.
fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
