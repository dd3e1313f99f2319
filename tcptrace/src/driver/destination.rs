//! The destination of a capture.
//!
//! A file gets its name only with the start of a capture in it: a capture that cannot trace changes
//! nothing.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, IsTerminal, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tempfile::Builder;

/// The destination of a capture, before anything is written.
pub enum Destination {
    Stdout,
    /// Something other than a regular file, such as a FIFO, open.
    Stream(File, PathBuf),
    /// A new file, or one to replace.
    File {
        path: PathBuf,
        /// An existing file may be replaced.
        force: bool,
    },
}

impl Destination {
    /// Looks at what exists. Waits for the reader of a FIFO.
    ///
    /// Fails when a file exists that must not be replaced, or nothing can be written there.
    pub fn find(path: Option<&Path>, force: bool) -> anyhow::Result<Self> {
        let Some(path) = path else {
            if io::stdout().is_terminal() {
                bail!("a capture is binary and not for a terminal: name a file, or pipe it");
            }
            return Ok(Self::Stdout);
        };
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => bail!("{} is a directory: name a file", path.display()),
            Ok(there) if there.is_file() => {
                if !force {
                    return Err(exists(path));
                }
                // A link stays, and its target is replaced.
                let path = fs::canonicalize(path)
                    .with_context(|| format!("finding {}", path.display()))?;
                Ok(Self::File { path, force })
            }
            Ok(_) => {
                let stream = OpenOptions::new().write(true).open(path);
                let stream = stream.with_context(|| format!("opening {}", path.display()))?;
                Ok(Self::Stream(stream, path.to_owned()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::File {
                path: path.to_owned(),
                force,
            }),
            Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
        }
    }

    /// Returns the name for messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::Stream(_, path) | Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// Gives the file its name, with the start in it. Returns the writer, and what is still to be
    /// written to it first.
    ///
    /// Fails when the file cannot be created, or one appeared in its place.
    pub fn begin(self, start: Vec<u8>) -> anyhow::Result<(Box<dyn Write + Send>, Vec<u8>)> {
        let name = self.name();
        match self {
            Self::Stdout => Ok((Box::new(io::stdout()), start)),
            Self::Stream(stream, _) => Ok((Box::new(stream), start)),
            Self::File { path, force } => {
                let directory = match path.parent() {
                    Some(parent) if parent != Path::new("") => parent,
                    Some(_) | None => Path::new("."),
                };
                let mut file = Builder::new()
                    .prefix(".tcptrace-")
                    // A capture tells who talks to whom: only its owner may read it, whatever the
                    // umask allows.
                    .permissions(Permissions::from_mode(0o600))
                    .tempfile_in(directory)
                    .with_context(|| format!("creating {name}"))?;
                file.write_all(&start)
                    .with_context(|| format!("writing {name}"))?;
                let named = if force {
                    file.persist(&path)
                } else {
                    file.persist_noclobber(&path)
                };
                match named {
                    Ok(file) => Ok((Box::new(file), Vec::new())),
                    Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                        Err(exists(&path))
                    }
                    Err(error) => Err(error.error).with_context(|| format!("creating {name}")),
                }
            }
        }
    }
}

fn exists(path: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "{} exists: choose another name, or replace it with --force",
        path.display()
    )
}
