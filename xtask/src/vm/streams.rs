//! The streams of events that a guest's tests stored, taken out of it.
//!
//! A guest has no disk. Its first process writes them as an archive to a serial line of their own,
//! whose other end is a file.

use std::{
    fs,
    io::Cursor,
    path::{Component, Path},
};

use anyhow::{Context as _, Result, bail};
use cpio::NewcReader;

use crate::apt::make_directory;

/// Where the tests store them in the guest; its first process knows that from here as well.
pub(super) const IN_GUEST: &str = "TCPTRACE_RECORD_DIR=/tmp/streams";

/// Puts what a guest sent below a directory, and answers how many files that were.
pub(super) fn unpack(sent: &Path, directory: &Path) -> Result<usize> {
    let bytes = fs::read(sent).with_context(|| format!("cannot read {}", sent.display()))?;
    if bytes.is_empty() {
        bail!("the guest sent no streams");
    }
    let mut rest = Cursor::new(bytes);
    let mut count = 0;
    loop {
        let mut reader =
            NewcReader::new(rest).context("the guest's archive of streams is broken")?;
        let name = reader.entry().name().to_owned();
        if reader.entry().is_trailer() {
            return Ok(count);
        }
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !Path::new(&name).components().all(plain) {
            bail!("the guest's archive has a file outside of it: {name}");
        }
        let path = directory.join(&name);
        if let Some(above) = path.parent() {
            make_directory(above)?;
        }
        let mut content = Vec::new();
        std::io::copy(&mut reader, &mut content)
            .with_context(|| format!("the guest's archive of streams ends in {name}"))?;
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        count += 1;
        rest = reader
            .finish()
            .context("the guest's archive of streams is broken")?;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use cpio::{newc::Builder, write_cpio};

    use super::*;

    /// A directory that is gone with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("xtask-streams-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir_all(&path).expect("a directory");
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    /// What a guest sends with these files.
    fn sent(scratch: &Scratch, files: &[(&str, &[u8])]) -> PathBuf {
        let entries = files
            .iter()
            .map(|(name, content)| (Builder::new(name).mode(0o100_644), Cursor::new(*content)));
        let archive = write_cpio(entries, Vec::new()).expect("an archive");
        let path = scratch.0.join("sent");
        fs::write(&path, archive).expect("a file");
        path
    }

    #[test]
    fn each_file_is_where_it_was() {
        let scratch = Scratch::new("good");
        let sent = sent(&scratch, &[("5.10/one.cap", b"1"), ("5.10/two.cap", b"22")]);
        let place = scratch.0.join("streams");
        assert_eq!(unpack(&sent, &place).expect("an archive"), 2);
        assert_eq!(fs::read(place.join("5.10/two.cap")).expect("a file"), b"22");
    }

    #[test]
    fn nothing_is_written_elsewhere() {
        let scratch = Scratch::new("outside");
        let sent = sent(&scratch, &[("../one.cap", b"1")]);
        let error = unpack(&sent, &scratch.0.join("streams")).expect_err("outside");
        assert!(error.to_string().contains("outside"), "{error}");
        assert!(!scratch.0.join("one.cap").exists());
    }

    #[test]
    fn an_archive_that_ends_early_is_an_error() {
        let scratch = Scratch::new("short");
        let path = sent(&scratch, &[("5.10/one.cap", b"12345678")]);
        let whole = fs::read(&path).expect("a file");
        for length in [0, 50, 120, 132] {
            fs::write(&path, &whole[..length]).expect("a file");
            let outcome = unpack(&path, &scratch.0.join("streams"));
            assert!(outcome.is_err(), "{length} bytes of it: {outcome:?}");
        }
    }
}
