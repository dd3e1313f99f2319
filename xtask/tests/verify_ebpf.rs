//! `cargo xtask verify-ebpf` on copies of this repository: it must not let a difference pass.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A copy of all that the command reads; `name` tells one test's copy from another's.
fn copy(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if copy.exists() {
        fs::remove_dir_all(&copy).unwrap();
    }
    for path in [
        "tcptrace-ebpf",
        "tcptrace-common",
        "tcptrace/Cargo.toml",
        "tcptrace/ebpf",
    ] {
        let to = copy.join(path);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        let mut cp = Command::new("cp");
        let status = cp.arg("-a").arg(root.join(path)).arg(to).status().unwrap();
        assert!(status.success());
    }
    copy
}

/// Runs the command where no toolchain can be found, for building would take a minute: whether it
/// succeeds, and what it says.
fn verify(copy: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("--workspace")
        .arg(copy)
        .arg("verify-ebpf")
        .args(arguments)
        .env("PATH", "")
        .env("CARGO_HOME", copy.join("none"))
        .env("CARGO_TARGET_DIR", copy.join("target"))
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

/// Checks that the command fails and says why, and what to do.
fn must_fail(copy: &Path, arguments: &[&str], why: &str) {
    let (success, said) = verify(copy, arguments);
    assert!(!success && said.contains(why), "no {why:?} in:\n{said}");
    assert!(said.contains("cargo xtask build-ebpf"), "{said}");
}

#[test]
fn this_repository_passes_but_not_where_a_rebuild_is_required_and_cannot_be_made() {
    let copy = copy("as-it-is");
    let (success, said) = verify(&copy, &[]);
    let skipped = "SKIPPED: the eBPF object was not built again";
    assert!(success && said.contains(skipped), "{said}");
    must_fail(&copy, &["--require-rebuild"], "");
}

#[test]
fn any_change_of_the_object_fails() {
    let changed = "was not built from these sources";
    let version = "name = \"aya-ebpf\"\nversion = \"";
    let other_version = format!("{version}9");
    for (number, (file, from, to, why)) in [
        ("tcptrace-ebpf/src/main.rs", "MIT/GPL", "MIT/GPl", changed),
        ("tcptrace-ebpf/Cargo.lock", version, &other_version, changed),
        (
            "tcptrace/ebpf/tcptrace.bpf.o",
            "GPL",
            "GPl",
            "is not the object",
        ),
        (
            "tcptrace/ebpf/manifest.toml",
            "inputs",
            "puts",
            "is not understood",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = copy(&format!("changed-{number}"));
        let path = copy.join(file);
        let mut bytes = fs::read(&path).unwrap();
        let mut windows = bytes.windows(from.len());
        let at = windows.position(|window| window == from.as_bytes());
        let at = at.unwrap_or_else(|| panic!("{file} has no {from:?}"));
        bytes.splice(at..at + from.len(), to.bytes());
        fs::write(&path, bytes).unwrap();
        must_fail(&copy, &[], why);
        fs::remove_file(&path).unwrap();
        assert!(!verify(&copy, &[]).0, "without {file}");
    }
}
