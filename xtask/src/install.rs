//! Installing the toolchain for the eBPF programs, on Debian.

use anyhow::{Context as _, Result, bail};

use crate::{
    apt,
    command::{self, cargo},
    ebpf::{
        environment,
        manifest::Identity,
        toolchain::{self, BPF_LINKER, LLVM, Toolchain},
    },
    workspace::Workspace,
};

/// Finds a toolchain and installs what it lacks; with `wanted`, until it is that very one.
pub(crate) fn toolchain(workspace: &Workspace, wanted: Option<&Identity>) -> Result<Toolchain> {
    let tools = workspace.tools();
    if let Ok(found) = Toolchain::find(&tools, wanted) {
        eprintln!("the eBPF toolchain is here already: {}", found.identity());
        return Ok(found);
    }
    let present = toolchain::PACKAGES
        .iter()
        .all(|package| apt::version(package).is_some());
    if present {
        // What is missing is bpf-linker, or else the packages are too old.
        linker(workspace)?;
        if let Ok(found) = Toolchain::find(&tools, wanted) {
            return Ok(found);
        }
    }
    apt::update()?;
    apt::install(&toolchain::PACKAGES)?;
    linker(workspace)?;
    Toolchain::find(&tools, wanted)
        .context("everything that --install knows is installed, and it is not enough")
}

/// The distribution's packages that a toolchain came from, with their versions.
pub(crate) fn packages(toolchain: &Toolchain) -> Vec<String> {
    if !toolchain.compiler.rustc.starts_with("/usr/bin") {
        return Vec::new();
    }
    let name = |package: &&str| apt::version(package).map(|version| format!("{package} {version}"));
    toolchain::PACKAGES.iter().filter_map(name).collect()
}

/// Builds bpf-linker from source, unless this very version is there.
fn linker(workspace: &Workspace) -> Result<()> {
    let root = toolchain::installed(&workspace.tools(), LLVM);
    let program = root.join("bin/bpf-linker");
    let expected = format!("bpf-linker {BPF_LINKER}");
    // One whose LLVM was removed since does not even start.
    let runs =
        || environment::output(&program, &["--version"]).is_ok_and(|said| said.trim() == expected);
    if runs() {
        return Ok(());
    }
    let prefix = format!("/usr/lib/llvm-{LLVM}");
    command::run(
        cargo()
            .args([
                "install",
                "--locked",
                "--force",
                "--no-default-features",
                "--no-track",
            ])
            .arg(format!("--features=llvm-{LLVM}"))
            .arg(format!("bpf-linker@{BPF_LINKER}"))
            .arg("--root")
            .arg(&root)
            .env("LLVM_PREFIX", prefix),
    )?;
    if !runs() {
        bail!(
            "{} was installed, but it is not {expected}",
            program.display()
        );
    }
    Ok(())
}
