//! Where a capture goes.
//!
//! A file appears under its name only with the beginning of a capture in it: a capture that cannot trace
//! leaves everything as it was.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, IsTerminal, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use tempfile::Builder;

/// Where a capture goes, before anything is written.
pub enum Destination {
    /// Standard output.
    Stdout,
    /// Something that is no file of its own, such as a FIFO, open.
    Stream(File, PathBuf),
    /// A file that is new, or to be replaced.
    File {
        /// Its name.
        path: PathBuf,
        /// One that is there may be replaced.
        force: bool,
    },
}

impl Destination {
    /// Looks at what is there. Waits for the reader of a FIFO.
    ///
    /// Fails when a file is there that is not to be replaced, or nothing can be written there.
    pub fn find(path: Option<&Path>, force: bool) -> anyhow::Result<Self> {
        let Some(path) = path else {
            if io::stdout().is_terminal() {
                bail!("a capture is binary and not for a terminal: name a file, or pipe it");
            }
            return Ok(Self::Stdout);
        };
        match fs::metadata(path) {
            Ok(there) if there.is_dir() => bail!("{} is a directory", path.display()),
            Ok(there) if there.is_file() => {
                if !force {
                    return Err(exists(path));
                }
                // A link stays, and what it leads to is replaced.
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

    /// For messages.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout => "standard output".to_owned(),
            Self::Stream(_, path) | Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// Gives a file its name, with the beginning in it. Returns where to go on, and what is still
    /// to be written there first.
    ///
    /// Fails when the file cannot be made, or one appeared in its place.
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
                    // A capture tells who talks to whom: only its owner may read it, whatever the umask allows.
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
