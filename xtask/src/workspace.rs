//! The paths of a checkout.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

#[derive(Debug)]
pub(crate) struct Workspace {
    root: PathBuf,
    /// Where cargo and xtask put what they build.
    target: PathBuf,
}

impl Workspace {
    /// Opens the checkout at `path`, by default the one that xtask was built from.
    pub(crate) fn open(path: Option<PathBuf>) -> Result<Self> {
        let path = path.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let root = path
            .canonicalize()
            .with_context(|| format!("there is no workspace at {}", path.display()))?;
        if !root.join("tcptrace/Cargo.toml").is_file() {
            bail!(
                "{} is no checkout of tcptrace: it has no tcptrace/Cargo.toml",
                root.display()
            );
        }
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(target) => root.join(target),
            None => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Returns the directory of the workspace's `Cargo.toml`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns where cargo and xtask put what they build; all of it can be rebuilt.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// Returns where programs are installed that only xtask needs.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }
}
