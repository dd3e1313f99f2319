//! What a cgroup's path tells: the container, the pod and the systemd unit.
//!
//! Container engines name a container's cgroup by its id, 64 hexadecimal digits: `ID` below a
//! directory of their own (the cgroupfs driver of Docker, containerd, CRI-O and Podman, which
//! writes `libpod-ID`), or `ENGINE-ID.scope` (the systemd driver: `docker-`, `cri-containerd-`,
//! `crio-`, `libpod-`), or `SLICE:cri-containerd:ID` (containerd's runc under systemd's name for
//! it). The kubelet names a pod's `podUID`, or with systemd `…-podUID.slice` with `_` for `-`. The
//! same in both hierarchies, v1 and v2.

/// Digits of a container's id.
const ID: usize = 64;

/// A cgroup, and what its path tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// The path from the root of the hierarchy, `/` for that root.
    pub path: Box<str>,
    /// The id of the innermost container.
    pub container_id: Option<Box<str>>,
    /// The UID of the Kubernetes pod.
    pub pod_uid: Option<Box<str>>,
    /// The innermost systemd unit, a service or a scope, except a container's.
    pub unit: Option<Box<str>>,
}

impl Cgroup {
    pub fn new(path: &str) -> Self {
        let names = || path.rsplit('/').filter(|name| !name.is_empty());
        Self {
            container_id: names().find_map(container_id).map(Box::from),
            pod_uid: names().find_map(pod_uid).map(String::into_boxed_str),
            unit: names().find_map(unit).map(Box::from),
            path: path.into(),
        }
    }

    /// Whether it is the cgroup of that path or below it, or has a component of that name.
    pub fn is_within(&self, term: &str) -> bool {
        if term.starts_with('/') {
            let wanted = term.trim_end_matches('/');
            let rest = self.path.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        } else {
            self.path.split('/').any(|name| name == term)
        }
    }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn container_id(name: &str) -> Option<&str> {
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (engine, id) = name.rsplit_once(['-', ':']).unwrap_or(("", name));
    // Podman and CRI-O have one more cgroup for a container's monitor.
    (id.len() == ID && is_hex(id) && !engine.ends_with("conmon")).then_some(id)
}

fn pod_uid(name: &str) -> Option<String> {
    let name = name.split(':').next()?;
    let uid = match name.strip_suffix(".slice") {
        Some(slice) => slice.rsplit_once("-pod")?.1,
        None => name.strip_prefix("pod")?,
    };
    let uid = uid.replace('_', "-");
    // A static pod has a hash in place of a UID.
    let is_uuid = uid.len() == 36
        && uid.split('-').map(str::len).eq([8, 4, 4, 4, 12])
        && uid.split('-').all(is_hex);
    (is_uuid || (uid.len() == 32 && is_hex(&uid))).then_some(uid)
}

fn unit(name: &str) -> Option<&str> {
    let is_unit = [".service", ".scope", ".socket", ".mount", ".swap"]
        .iter()
        .any(|suffix| name.ends_with(suffix) && name.len() > suffix.len());
    if !is_unit || container_id(name).is_some() {
        return None;
    }
    // systemd's prefix for a name that the kernel could take for one of its own files.
    Some(name.strip_prefix('_').unwrap_or(name))
}

#[cfg(test)]
#[path = "container_tests.rs"]
mod tests;
