//! What is missing because this process is not in the host's own namespaces.

use crate::namespaces::NamespaceKind;

/// Returns what is missing for that reason, a sentence each, with the remedy.
pub fn notices() -> Vec<String> {
    let mut notices = Vec::new();
    let mut say = |is_initial: Option<bool>, what: &str, remedy: &str| {
        let why = match is_initial {
            Some(true) => return,
            Some(false) => remedy,
            None => "/proc cannot be read",
        };
        notices.push(format!("{what} ({why})"));
    };
    say(
        NamespaceKind::Uts.is_initial(),
        "records have no host: this process has a host name of its own",
        "as in a container; docker run --uts=host, Kubernetes hostNetwork: true",
    );
    say(
        NamespaceKind::Pid.is_initial(),
        "who opened the sockets that exist already is not known: /proc shows another pid namespace",
        "as in a container; docker run --pid=host, Kubernetes hostPID: true",
    );
    if let Some(root) = super::cgroup::hierarchy() {
        say(
            Some(super::cgroup::is_whole(&root)),
            "cgroups that were there before are told by their numbers (cgroup_id) only: the hierarchy's root is not mounted",
            "as in a container with a cgroup namespace; docker run --cgroupns=host, or mount the host's /sys/fs/cgroup",
        );
    }
    if crate::clock::offset().is_none() {
        say(
            Some(false),
            "times are wrong: this process is in a time namespace whose offset cannot be read",
            "/proc/self/timens_offsets",
        );
    }
    notices
}
