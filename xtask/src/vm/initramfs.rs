//! The file system that a guest has: an archive that the kernel unpacks into memory.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use cpio::newc::{Builder, ModeFileType};

use super::{archive::make_directory, binaries::Binaries};

/// What a guest's first process, tcptrace and the kernel modules are called there; the tests know
/// these names.
const INIT: &str = "init";
const TCPTRACE: &str = "bin/tcptrace";
const MODULES: &str = "modules";

/// A file, directory or device, and what is in it.
type Entry = (Builder, Cursor<Vec<u8>>);

/// Writes the archive with the binaries and a kernel's modules.
pub(crate) fn write(path: &Path, binaries: &Binaries, modules: &[PathBuf]) -> Result<()> {
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut entries = vec![
        directory("bin"),
        directory("dev"),
        directory(MODULES),
        // Opened as the first process's standard streams, before it could mount anything.
        device("dev/console", 5, 1),
        file(INIT, 0o755, read(&binaries.tests)?),
        file(TCPTRACE, 0o755, read(&binaries.tcptrace)?),
    ];
    for module in modules {
        let name = module.file_name().unwrap_or_default().to_string_lossy();
        entries.push(file(&format!("{MODULES}/{name}"), 0o644, read(module)?));
    }
    let archive = pack(entries)?;
    if let Some(above) = path.parent() {
        make_directory(above)?;
    }
    fs::write(path, archive).with_context(|| format!("cannot write {}", path.display()))
}

/// Puts entries into an archive, directories before what is in them.
fn pack(entries: Vec<Entry>) -> Result<Vec<u8>> {
    cpio::write_cpio(entries.into_iter(), Vec::new()).context("cannot pack the archive")
}

/// A directory.
fn directory(name: &str) -> Entry {
    let builder = Builder::new(name).mode(0o755);
    let builder = builder.set_mode_file_type(ModeFileType::Directory);
    (builder, Cursor::default())
}

/// A file.
fn file(name: &str, mode: u32, content: Vec<u8>) -> Entry {
    let builder = Builder::new(name).mode(mode);
    let builder = builder.set_mode_file_type(ModeFileType::Regular);
    (builder, Cursor::new(content))
}

/// A device of characters, by its numbers.
fn device(name: &str, major: u32, minor: u32) -> Entry {
    let builder = Builder::new(name).rdev_major(major).rdev_minor(minor);
    let builder = builder.mode(0o600).set_mode_file_type(ModeFileType::Char);
    (builder, Cursor::default())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use cpio::NewcReader;

    use super::*;

    #[test]
    fn an_entry_is_as_the_kernel_wants_it() {
        let archive = pack(vec![device("dev/console", 5, 1)]).expect("an archive");
        let header = concat!(
            "070701",
            "00000000", // inode
            "00002180", // character device, rw-------
            "00000000", // owner
            "00000000", // group
            "00000001", // links
            "00000000", // time
            "00000000", // size
            "00000000", // on device
            "00000000",
            "00000005", // is device
            "00000001",
            "0000000c", // length of the name, its end included
            "00000000", // checksum, of the other format
            "dev/console\0",
        );
        let (first, rest) = archive.split_at(header.len());
        assert_eq!(String::from_utf8_lossy(first), header);
        // Names and contents end at multiples of four.
        let padding = header.len().next_multiple_of(4) - header.len();
        assert!(rest[padding..].starts_with(b"070701"));
    }

    #[test]
    fn what_is_packed_can_be_read_again() {
        let entries = vec![
            directory("bin"),
            file("bin/tcptrace", 0o755, vec![7; 5]),
            file("empty", 0o644, Vec::new()),
        ];
        let archive = pack(entries).expect("an archive");
        let mut rest = Cursor::new(archive);
        let mut seen = Vec::new();
        loop {
            let mut reader = NewcReader::new(rest).expect("an entry");
            if reader.entry().is_trailer() {
                break;
            }
            let mut content = Vec::new();
            reader.read_to_end(&mut content).expect("its content");
            let entry = reader.entry();
            seen.push((entry.name().to_owned(), entry.mode(), entry.ino(), content));
            rest = reader.finish().expect("more");
        }
        assert_eq!(
            seen,
            [
                ("bin".to_owned(), 0o40755, 0, Vec::new()),
                ("bin/tcptrace".to_owned(), 0o100_755, 1, vec![7; 5]),
                ("empty".to_owned(), 0o100_644, 2, Vec::new()),
            ]
        );
    }
}
