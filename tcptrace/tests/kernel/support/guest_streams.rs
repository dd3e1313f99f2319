//! How a guest's first process hands out the streams that the scenarios stored: as an archive,
//! over a serial line of its own. A guest has no disk.

use std::{
    fs,
    fs::File,
    io::{BufWriter, Cursor, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use nix::sys::termios::{SetArg, cfmakeraw, tcdrain, tcgetattr, tcsetattr};

use crate::scenarios::RECORD_DIRECTORY;

/// The second serial line.
const LINE: &str = "/dev/ttyS1";

/// Sends what the scenarios stored, if they were asked to store anything.
pub(super) fn send() -> anyhow::Result<()> {
    let Some(directory) = std::env::var_os(RECORD_DIRECTORY).map(PathBuf::from) else {
        return Ok(());
    };
    let line = File::options().write(true).read(true).open(LINE);
    let line = line.with_context(|| format!("opening {LINE}"))?;
    // A terminal would add a carriage return to each byte that looks like a new line.
    let mut raw = tcgetattr(&line)?;
    cfmakeraw(&mut raw);
    tcsetattr(&line, SetArg::TCSANOW, &raw)?;

    let entries = stored(&directory)?.into_iter().map(|path| {
        let name = path.strip_prefix(&directory).unwrap_or(&path);
        let content = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        let entry = cpio::newc::Builder::new(&name.to_string_lossy()).mode(0o100_644);
        Ok((entry, Cursor::new(content)))
    });
    let entries: Vec<_> = entries.collect::<anyhow::Result<_>>()?;
    let mut out = BufWriter::new(&line);
    cpio::write_cpio(entries.into_iter(), &mut out).context("sending the streams")?;
    out.flush().context("sending the streams")?;
    drop(out);
    tcdrain(&line).context("sending the streams")
}

/// The streams: files in the directories of that one.
fn stored(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let list =
        |path: &Path| fs::read_dir(path).with_context(|| format!("listing {}", path.display()));
    for kernel in list(directory)? {
        for file in list(&kernel?.path())? {
            found.push(file?.path());
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "cap"));
    found.sort();
    Ok(found)
}
