//! The mounts in `/proc/PID/mountinfo` (proc_pid_mountinfo(5)).

use std::{
    cmp::Reverse,
    ffi::OsString,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::PathBuf,
};

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// What of the filesystem is mounted. Of cgroup2 the cgroup, relative to this process's cgroup
    /// namespace: `/` is the namespace's root, `/..` the cgroup above it (`cgroup_show_path`). Of
    /// nsfs the namespace, such as `net:[4026531840]`.
    pub root: OsString,
    pub point: PathBuf,
}

/// Returns the mounts of a type of filesystem.
pub fn mounts(mountinfo: &[u8], kind: &str) -> impl Iterator<Item = Mount> {
    mountinfo
        .split(|&byte| byte == b'\n')
        .filter_map(move |line| parse_line(line, kind.as_bytes()))
}

/// Returns every cgroup v2 mount, the one that shows most of the hierarchy first.
pub fn cgroup2_mounts(mountinfo: &[u8]) -> Vec<Mount> {
    let mut mounts: Vec<_> = mounts(mountinfo, "cgroup2").collect();
    mounts.sort_by_key(narrowness);
    mounts
}

/// Returns a key that is lower the more of the hierarchy a mount shows.
fn narrowness(mount: &Mount) -> (usize, Reverse<usize>) {
    let names = mount.root.as_bytes().split(|&byte| byte == b'/');
    let (up, down): (Vec<_>, Vec<_>) = names
        .filter(|name| !name.is_empty())
        .partition(|name| *name == b"..");
    (down.len(), Reverse(up.len()))
}

/// Parses `36 35 98:0 /root /point rw,noatime shared:1 - cgroup2 cgroup2 rw`, with any number of
/// optional fields before the hyphen.
fn parse_line(line: &[u8], kind: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let root = fields.nth(3)?;
    let point = fields.next()?;
    let found = fields.skip_while(|field| *field != b"-").nth(1)?;
    (found == kind).then(|| Mount {
        root: unescape(root),
        point: unescape(point).into(),
    })
}

/// Unescapes spaces, tabs, newlines and backslashes, which the kernel writes as `\` and three octal
/// digits (`mangle_path`).
fn unescape(field: &[u8]) -> OsString {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if let (b'\\', Some(&[a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7'])) =
            (byte, after.first_chunk::<3>())
        {
            plain.push(((a - b'0') << 6) | ((b - b'0') << 3) | (c - b'0'));
            rest = &after[3..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    OsString::from_vec(plain)
}

#[cfg(test)]
#[path = "mountinfo_tests.rs"]
mod tests;
