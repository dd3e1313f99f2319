//! `cargo xtask verify-ebpf`: checks that the committed object belongs to its sources.
//!
//! The hashes are always compared, without a compiler. With the manifest's toolchain the object is
//! also rebuilt, at another path, and compared byte for byte.

use std::{fs, os::unix::fs::symlink, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, bail};

use super::{PACKAGES, check, compile, object, read, sha256, toolchain::Toolchain, walk};
use crate::{apt, workspace::Workspace};

/// The arguments of `verify-ebpf`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Install missing parts of the manifest's toolchain: packages with apt-get, bpf-linker below
    /// target/tools.
    #[arg(long)]
    install: bool,
    /// Fail if the object cannot be rebuilt because the manifest's toolchain is missing.
    #[arg(long)]
    require_rebuild: bool,
}

/// Checks the hashes, and rebuilds the object if possible.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<ExitCode> {
    hashes(workspace)?;
    let manifest = check(workspace.root())?;
    match Toolchain::get(
        &workspace.tools(),
        Some(&manifest.toolchain),
        arguments.install,
    ) {
        Ok(toolchain) => rebuild(workspace, &toolchain)?,
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
pub(crate) fn hashes(workspace: &Workspace) -> Result<()> {
    check(workspace.root())?;
    println!("the eBPF object and its sources are those of its manifest");
    Ok(())
}

/// Rebuilds the object from a copy of the sources at another path and compares it with the
/// committed one.
fn rebuild(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    let scratch = workspace.target().join("verify-ebpf");
    apt::remove_directory(&scratch)?;
    let copy = scratch.join("copy");
    copy_sources(workspace.root(), &copy)?;
    let committed = read(&object(workspace.root()))?;
    let target = scratch.join("target");
    let rebuilt = compile::object(&copy, &target, toolchain, true)?;
    if rebuilt != committed {
        let kept = scratch.join("tcptrace.bpf.o");
        fs::write(&kept, &rebuilt).with_context(|| format!("cannot write {}", kept.display()))?;
        bail!(
            "the committed eBPF object is not what its sources make: its SHA-256 is {}, that of the \
             object just built is {}; it is kept at {}. Run cargo xtask build-ebpf, and commit what \
             it writes",
            sha256(&committed),
            sha256(&rebuilt),
            kept.display()
        );
    }
    println!(
        "built again with {}, the eBPF object is the same to the byte",
        toolchain.identity
    );
    Ok(())
}

/// Copies everything that goes into the object.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    for package in PACKAGES {
        let mut files = vec![from.join(package).join("Cargo.toml")];
        files.push(from.join(package).join("Cargo.lock"));
        walk(&from.join(package).join("src"), &mut files)?;
        for file in files.iter().filter(|file| file.is_file()) {
            let target = to.join(file.strip_prefix(from)?);
            let directory = target.parent().unwrap_or(to);
            fs::create_dir_all(directory)
                .and_then(|()| fs::copy(file, &target))
                .with_context(|| format!("cannot copy {} to {}", file.display(), to.display()))?;
        }
    }
    let [ebpf, common] = PACKAGES;
    symlink(Path::new("..").join(common), to.join(ebpf).join(common))
        .with_context(|| format!("cannot make a link in {}", to.display()))
}
