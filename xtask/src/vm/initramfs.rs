//! A guest's file system: an archive that the kernel unpacks into memory.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType};

use super::binaries::Binaries;
use crate::apt::make_directory;

/// Writes the archive with the binaries and a kernel's modules, under the names that the tests use.
pub(crate) fn write(path: &Path, binaries: &Binaries, modules: &[PathBuf]) -> Result<()> {
    let directory = |name| (name, ModeFileType::Directory, 0o755, Vec::new());
    let mut entries = vec![
        directory("bin".to_owned()),
        directory("dev".to_owned()),
        directory("modules".to_owned()),
        // Opened as the first process's standard streams, before it could mount anything.
        (
            "dev/console".to_owned(),
            ModeFileType::Char,
            0o600,
            Vec::new(),
        ),
    ];
    let named = |name: &str, path: &PathBuf| (name.to_owned(), path.clone());
    let mut files = vec![
        named("init", &binaries.tests),
        named("bin/tcptrace", &binaries.tcptrace),
    ];
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        files.push(named(&format!("modules/{name}"), module));
    }
    for (name, path) in files {
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        entries.push((name, ModeFileType::Regular, 0o755, content));
    }
    let entries = entries.into_iter().map(|(name, kind, mode, content)| {
        // Numbers of the console, where it is one.
        let builder = Builder::new(&name).rdev_major(5).rdev_minor(1);
        let builder = builder.mode(mode).set_mode_file_type(kind);
        (builder, Cursor::new(content))
    });
    let archive = cpio::write_cpio(entries, Vec::new()).context("cannot pack the archive")?;
    if let Some(above) = path.parent() {
        make_directory(above)?;
    }
    fs::write(path, archive).with_context(|| format!("cannot write {}", path.display()))
}
