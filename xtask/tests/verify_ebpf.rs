//! `cargo xtask verify-ebpf` on copies of this repository: it must not let a difference pass.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not seen as tests")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A copy of all that the command reads, without what it could build with.
struct Copy(PathBuf);

/// How the command ended.
struct Outcome {
    success: bool,
    /// Both streams.
    said: String,
}

impl Copy {
    /// Copies the repository as it is; `name` tells one test's copy from another's.
    fn new(name: &str) -> Self {
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
            copy_all(&root.join(path), &copy.join(path));
        }
        Self(copy)
    }

    /// Replaces the first occurrence of a text, which must be there.
    fn replace(&self, file: &str, from: &str, to: &str) {
        let path = self.0.join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} has no {from:?}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    /// Runs the command on the copy where no toolchain can be found: building would take a minute.
    fn verify(&self, arguments: &[&str]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_xtask"))
            .arg("--workspace")
            .arg(&self.0)
            .arg("verify-ebpf")
            .args(arguments)
            .env("PATH", "")
            .env("CARGO_HOME", self.0.join("none"))
            .env("CARGO_TARGET_DIR", self.0.join("target"))
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].concat();
        Outcome {
            success: output.status.success(),
            said: String::from_utf8(said).unwrap(),
        }
    }
}

impl Outcome {
    /// Checks that the command failed and said why.
    fn failed(&self, why: &str) {
        assert!(!self.success, "it passed:\n{}", self.said);
        assert!(self.said.contains(why), "no {why:?} in:\n{}", self.said);
        assert!(
            self.said.contains("cargo xtask build-ebpf"),
            "no remedy in:\n{}",
            self.said
        );
    }
}

/// Copies a file, or a directory and all below it.
fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    if from.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap();
        return;
    }
    if !from.is_dir() {
        fs::copy(from, to).unwrap();
        return;
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy_all(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
fn this_repository_passes() {
    let copy = Copy::new("as-it-is");
    let outcome = copy.verify(&[]);
    assert!(outcome.success, "{}", outcome.said);
    assert!(
        outcome
            .said
            .contains("SKIPPED: the eBPF object was not built again"),
        "{}",
        outcome.said
    );
}

#[test]
fn a_rebuild_that_is_required_and_cannot_be_made_fails() {
    let outcome = Copy::new("no-toolchain").verify(&["--require-rebuild"]);
    outcome.failed("");
}

#[test]
fn one_character_of_a_source_fails() {
    let copy = Copy::new("source");
    copy.replace("tcptrace-ebpf/src/main.rs", "Dual MIT/GPL", "Dual MIT/GPl");
    copy.verify(&[]).failed("was not built from these sources");
}

#[test]
fn another_version_of_a_dependency_fails() {
    let copy = Copy::new("dependency");
    copy.replace(
        "tcptrace-ebpf/Cargo.lock",
        "name = \"aya-ebpf\"\nversion = \"",
        "name = \"aya-ebpf\"\nversion = \"9",
    );
    copy.verify(&[]).failed("was not built from these sources");
}

#[test]
fn an_object_that_was_tampered_with_fails() {
    let copy = Copy::new("object");
    let path = copy.0.join("tcptrace/ebpf/tcptrace.bpf.o");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path, bytes).unwrap();
    copy.verify(&[])
        .failed("is not the object that its manifest describes");
}

#[test]
fn a_manifest_that_is_missing_or_broken_fails() {
    let copy = Copy::new("manifest");
    let path = copy.0.join("tcptrace/ebpf/manifest.toml");
    fs::write(&path, "[object]\n").unwrap();
    copy.verify(&[]).failed("is not understood");
    fs::remove_file(path).unwrap();
    copy.verify(&[]).failed("cannot read");
}
