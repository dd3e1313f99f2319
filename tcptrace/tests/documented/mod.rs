//! The pages of the documentation, and the commands in them.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Returns the root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Returns every page: those of the top level, of docs and of .github.
pub(crate) fn pages() -> Vec<PathBuf> {
    let mut pages: Vec<PathBuf> = ["", "docs", ".github"]
        .into_iter()
        .flat_map(|directory| fs::read_dir(root().join(directory)).expect("a directory"))
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    assert!(pages.len() > 5, "{pages:?}");
    pages
}

/// Returns the arguments of a line `$ sudo tcptrace tail … | jq … # why`, without `tcptrace`;
/// `None` for any other line.
pub(crate) fn command(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("$ ")?;
    let mut words = shlex::split(line)?
        .into_iter()
        .skip_while(|word| word == "sudo");
    if words.next()? != "tcptrace" {
        return None;
    }
    Some(words.take_while(|word| word != "|").collect())
}
