//! Takes the event streams that a guest's tests stored out of the guest.
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

/// Where the tests store them in the guest; its first process learns it from here too.
pub(super) const IN_GUEST: &str = "TCPTRACE_RECORD_DIR=/tmp/streams";

/// Unpacks an archive, such as a guest sent, below a directory, and returns the number of files.
pub(crate) fn unpack(sent: &Path, directory: &Path) -> Result<usize> {
    let bytes = fs::read(sent).with_context(|| format!("cannot read {}", sent.display()))?;
    if bytes.is_empty() {
        bail!("the guest sent no streams");
    }
    let mut rest = Cursor::new(bytes);
    let mut count = 0;
    loop {
        let mut reader = NewcReader::new(rest).context("the archive is broken")?;
        let name = reader.entry().name().to_owned();
        if reader.entry().is_trailer() {
            return Ok(count);
        }
        let plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !Path::new(&name).components().all(plain) {
            bail!("the archive has a file outside of it: {name}");
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
    use cpio::{newc::Builder, write_cpio};

    use super::*;

    #[test]
    fn each_file_is_where_it_was_and_none_elsewhere() {
        let name = format!("xtask-streams-{}", std::process::id());
        let scratch = std::env::temp_dir().join(name);
        let place = scratch.join("streams");
        make_directory(&place).expect("a directory");
        let sent = scratch.join("sent");
        let send = |name: &str| {
            let entry = (Builder::new(name).mode(0o100_644), Cursor::new(b"12345678"));
            let archive = write_cpio([entry].into_iter(), Vec::new()).expect("an archive");
            fs::write(&sent, &archive).expect("a file");
            archive
        };
        send("../one.cap");
        let error = unpack(&sent, &place).expect_err("outside");
        assert!(error.to_string().contains("outside"), "{error}");
        assert!(!scratch.join("one.cap").exists());
        let whole = send("5.10/one.cap");
        assert_eq!(unpack(&sent, &place).expect("an archive"), 1);
        assert_eq!(
            fs::read(place.join("5.10/one.cap")).expect("a file"),
            b"12345678"
        );
        for length in [0, 50, 120, 132] {
            fs::write(&sent, &whole[..length]).expect("a file");
            let outcome = unpack(&sent, &place);
            assert!(outcome.is_err(), "{length} bytes of it: {outcome:?}");
        }
        fs::remove_dir_all(&scratch).expect("it is there");
    }
}
