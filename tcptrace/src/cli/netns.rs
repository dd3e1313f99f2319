//! The values of `--netns`.

use std::{
    io,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    feed::event::NetnsId,
    host::netns::{self, Namespace},
    output::view::terms::NetnsTerm,
};

/// A network namespace: its inode number, a name as `ip netns` gives it, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsArg {
    Inode(u32),
    Path(PathBuf),
}

impl FromStr for NetnsArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            return Err(
                "expected an inode number, a name or a path of a network namespace".to_owned(),
            );
        }
        Ok(match text.parse() {
            Ok(inode) => Self::Inode(inode),
            Err(_) if text.contains('/') => Self::Path(text.into()),
            Err(_) => Self::Path(Path::new("/run/netns").join(text)),
        })
    }
}

impl NetnsArg {
    /// Returns the namespace that has the number, name or path now, not a later one that gets the
    /// same number. A number that is not found stands for the first namespace seen with it.
    pub(super) fn open(self) -> Result<NetnsTerm, String> {
        let path = match self {
            Self::Inode(inode) => {
                return Ok(find(inode).map_or_else(
                    || NetnsTerm::new(NetnsId::without_cookie(inode), None),
                    term,
                ));
            }
            Self::Path(path) => path,
        };
        Namespace::open(&path).map(term).map_err(|error| {
            if error.kind() == io::ErrorKind::InvalidData {
                return format!("{} is no network namespace", path.display());
            }
            format!(
                "{}: {error}; expected an inode number (`lsns -t net`), a name (`ip netns`) or a path such as /proc/1234/ns/net",
                path.display()
            )
        })
    }
}

/// Namespaces without cookies (before Linux 5.14) are kept open.
fn term(namespace: Namespace) -> NetnsTerm {
    let Namespace { id, file, .. } = namespace;
    NetnsTerm::new(id, id.cookie.is_none().then_some(file))
}

/// Returns the namespace that has a number now.
fn find(inode: u32) -> Option<Namespace> {
    let mut found = None;
    let search = netns::find(|namespace| {
        if namespace.id.inode == inode {
            found = Some(namespace);
        }
    });
    search.ok().and(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn open(text: &str) -> Result<NetnsTerm, String> {
        text.parse().and_then(NetnsArg::open)
    }

    #[test]
    fn a_number_and_a_path_name_the_same_namespace() {
        let own = std::fs::metadata("/proc/self/ns/net").unwrap().ino();
        assert_eq!(open("/proc/self/ns/net"), open(&own.to_string()));
    }

    #[test]
    fn an_error_says_what_was_expected() {
        for (text, reason) in [
            ("", "expected an inode number"),
            (
                "no-such-namespace",
                "/run/netns/no-such-namespace: No such file",
            ),
            ("/no/such/file", "expected an inode number"),
            ("/proc/self/ns/pid", "is no network namespace"),
        ] {
            let error = open(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
    }
}
