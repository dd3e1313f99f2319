//! mountinfo as hosts and containers have it.

use proptest::prelude::*;

use super::*;

const UNIFIED: &str = "\
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:14 - proc proc rw
35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
";

const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:1 master:2 - cgroup2 cgroup2 rw
";

fn shown(text: &str) -> Vec<(String, String)> {
    cgroup2_mounts(text.as_bytes())
        .into_iter()
        .map(|mount| {
            (
                mount.point.display().to_string(),
                mount.root.to_string_lossy().into_owned(),
            )
        })
        .collect()
}

fn one(point: &str, root: &str) -> Vec<(String, String)> {
    vec![(point.to_owned(), root.to_owned())]
}

#[test]
fn the_unified_and_the_hybrid_layout_are_found() {
    assert_eq!(shown(UNIFIED), one("/sys/fs/cgroup", "/"));
    assert_eq!(shown(HYBRID), one("/sys/fs/cgroup/unified", "/"));
}

#[test]
fn a_bind_mount_of_a_cgroup_is_found() {
    let text = "42 27 0:38 /system.slice/a.service /mnt rw - cgroup2 cgroup2 rw";
    assert_eq!(shown(text), one("/mnt", "/system.slice/a.service"));
}

#[test]
fn the_mount_that_shows_most_comes_first() {
    let text = "\
1 0 0:38 /a/b /narrowest rw - cgroup2 none rw
2 0 0:38 /a /narrow rw - cgroup2 none rw
3 0 0:38 / /own rw - cgroup2 none rw
4 0 0:38 /../.. /host rw - cgroup2 none rw
5 0 0:38 /.. /above rw - cgroup2 none rw
";
    let points: Vec<_> = shown(text).into_iter().map(|(point, _)| point).collect();
    assert_eq!(points, ["/host", "/above", "/own", "/narrow", "/narrowest"]);
}

#[test]
fn escaped_bytes_are_read() {
    let text = r"42 27 0:38 /a\134b /mnt/two\040words\011\ rw - cgroup2 cgroup2 rw";
    assert_eq!(shown(text), one("/mnt/two words\t\\", r"/a\b"));
    for (field, bytes) in [
        (r"\", r"\"),
        (r"\04", r"\04"),
        (r"\999", r"\999"),
        (r"\777", r"\777"),
    ] {
        assert_eq!(unescape(field.as_bytes()), bytes, "{field}");
    }
}

#[test]
fn mounts_of_another_filesystem_are_left_out() {
    let text = "\
361 25 0:4 net:[4026532200] /run/netns/a rw shared:12 - nsfs nsfs rw
362 25 0:4 mnt:[4026532201] /run/snapd/ns/b rw - nsfs nsfs rw
363 25 8:1 net:[4026532202] /mnt rw - ext4 nsfs rw
";
    let roots: Vec<_> = mounts(text.as_bytes(), "nsfs")
        .map(|mount| mount.root)
        .collect();
    assert_eq!(roots, ["net:[4026532200]", "mnt:[4026532201]"]);
}

#[test]
fn other_lines_are_no_mounts() {
    for text in [
        "",
        "\n\n",
        "cgroup2",
        "1 2 3 / /mnt rw",
        "1 2 3 / /mnt rw -",
        "1 2 3 / /mnt rw cgroup2 - cgroup cgroup rw",
        "1 2 3 / /mnt rw - tmpfs cgroup2 rw",
    ] {
        assert_eq!(shown(text), [], "{text:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(cgroup2_mounts(&text).len() <= 200);
    }

    #[test]
    fn no_cut_or_change_panics(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), end in any::<prop::sample::Index>(),
    ) {
        let mut bytes = HYBRID.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let end = end.index(bytes.len());
        prop_assert!(cgroup2_mounts(&bytes[..end]).len() <= 1);
        prop_assert!(cgroup2_mounts(&bytes).len() <= 2);
    }
}
