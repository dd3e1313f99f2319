//! The cgroup v2 mounts in `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// A mount of the cgroup v2 hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cgroup2Mount {
    pub(super) point: PathBuf,
    /// The cgroup at the mount's root, relative to this process's cgroup namespace: `/` is the
    /// namespace's root, `/..` the cgroup above it (`cgroup_show_path`).
    pub(super) root: PathBuf,
}

impl Cgroup2Mount {
    /// Returns a key that is lower the more of the hierarchy the mount shows: upwards out of the
    /// namespace first, then few names.
    fn narrowness(&self) -> (usize, std::cmp::Reverse<usize>) {
        let root = self.root.as_os_str().as_bytes();
        let names = root.split(|&byte| byte == b'/');
        let (up, down): (Vec<_>, Vec<_>) = names
            .filter(|name| !name.is_empty())
            .partition(|name| *name == b"..");
        (down.len(), std::cmp::Reverse(up.len()))
    }
}

/// Returns every cgroup v2 mount, the one that shows most of the hierarchy first.
pub(super) fn cgroup2_mounts(mountinfo: &[u8]) -> Vec<Cgroup2Mount> {
    let mut mounts: Vec<_> = mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(parse_line)
        .collect();
    mounts.sort_by_key(Cgroup2Mount::narrowness);
    mounts
}

/// Parses `36 35 98:0 /root /point rw,noatime shared:1 - cgroup2 cgroup2 rw`, with any number of
/// optional fields before the hyphen.
fn parse_line(line: &[u8]) -> Option<Cgroup2Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = unescape(fields.nth(3)?);
    let point = unescape(fields.next()?);
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    (kind == b"cgroup2").then(|| Cgroup2Mount {
        point: PathBuf::from(point),
        root: PathBuf::from(root),
    })
}

/// Unescapes blanks and backslashes, which the kernel writes as `\` and three octal digits
/// (`mangle_path`).
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
#[path = "mountinfo_tests.rs"]
mod tests;
