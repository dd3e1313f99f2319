//! The link of the sock_ops program: of all links that tcptrace has, the only one that somebody
//! else can detach (`bpftool link detach`, BPF_LINK_DETACH).

use std::{fs, path::PathBuf};

/// Where the open files of this process are described.
const FDINFO: &str = "/proc/self/fdinfo";
/// `bpf_cgroup_link_show_fdinfo` writes these two; a detached link has cgroup 0.
const KIND: &str = "link_type:\tcgroup\n";
const DETACHED: &str = "\ncgroup_id:\t0\n";
/// How often it is looked at, nanoseconds.
const EVERY_NS: u64 = 10_000_000_000;

/// Looks at the link from time to time.
#[derive(Default)]
pub(super) struct CgroupLink {
    /// Its file in [`FDINFO`], while it is attached.
    description: Option<PathBuf>,
    /// When it was last looked at, on the events' clock.
    looked_ns: u64,
    /// How often somebody else detached it.
    pub(super) detachments: u64,
}

impl CgroupLink {
    /// Finds the link, unless there is no /proc.
    pub(super) fn find(now_ns: u64) -> Self {
        let is_link =
            |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.contains(KIND));
        let files = fs::read_dir(FDINFO).into_iter().flatten().flatten();
        Self {
            description: files.map(|file| file.path()).find(is_link),
            looked_ns: now_ns,
            detachments: 0,
        }
    }

    /// Returns since when it may be detached, once it is: when it was last seen attached. Looks
    /// only every [`EVERY_NS`].
    pub(super) fn detached_since(&mut self, now_ns: u64) -> Option<u64> {
        let description = self.description.as_ref()?;
        if now_ns.saturating_sub(self.looked_ns) < EVERY_NS {
            return None;
        }
        let text = fs::read_to_string(description);
        if text.is_ok_and(|text| text.contains(DETACHED)) {
            self.description = None;
            self.detachments += 1;
            return Some(self.looked_ns);
        }
        self.looked_ns = now_ns;
        None
    }
}
