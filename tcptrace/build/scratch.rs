//! Directories for tests, with small files in them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

/// A directory that is removed again.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// Makes an empty directory; `name` tells one test's from another's.
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("tcptrace-xtask-{}-{name}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Makes a workspace of the eBPF programs' packages that depends on little.
    pub(crate) fn workspace(name: &str) -> Self {
        let workspace = Self::new(name);
        workspace.write("Cargo.toml", include_str!("scratch/workspace.toml"));
        workspace.write("Cargo.lock", include_str!("scratch/lock.toml"));
        workspace.write(
            "tcptrace-ebpf/Cargo.toml",
            include_str!("scratch/ebpf.toml"),
        );
        workspace.write("tcptrace-ebpf/src/main.rs", "#![no_main]\n");
        workspace.write(
            "tcptrace-common/Cargo.toml",
            include_str!("scratch/common.toml"),
        );
        workspace.write("tcptrace-common/src/lib.rs", "#![no_std]\n");
        workspace
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and the directories that it lies in.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Replaces a part of a file, which must be there.
    pub(crate) fn replace(&self, name: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.0.join(name)).unwrap();
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replacen(from, to, 1));
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind in the directory for temporary files does no harm.
        drop(fs::remove_dir_all(&self.0));
    }
}
