//! Whether this process is in the host's own namespaces. In a container it may be in others, and what it
//! is told through them is not what the host would be told.

use std::{fs, io, path::Path};

/// A kind of namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Process ids.
    Pid,
    /// CLOCK_MONOTONIC and CLOCK_BOOTTIME.
    Time,
    /// Users and capabilities.
    User,
    /// The host's name.
    Uts,
}

impl Namespace {
    /// Its file in /proc/self/ns.
    const fn file(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    /// The inode number of the initial one, which is fixed (`include/linux/proc_ns.h`,
    /// `include/uapi/linux/nsfs.h`).
    const fn initial(self) -> u32 {
        match self {
            Self::Pid => 0xEFFF_FFFC,
            Self::Time => 0xEFFF_FFFA,
            Self::User => 0xEFFF_FFFD,
            Self::Uts => 0xEFFF_FFFE,
        }
    }

    /// This process is in the initial one; `None` when that cannot be told, for want of /proc.
    #[must_use]
    pub fn is_initial(self) -> Option<bool> {
        let links = Path::new("/proc/self/ns");
        match fs::read_link(links.join(self.file())) {
            Ok(link) => {
                let initial = format!("{}:[{}]", self.file(), self.initial());
                Some(link.as_os_str() == initial.as_str())
            }
            // A kernel without that kind has one for all.
            Err(error) if error.kind() == io::ErrorKind::NotFound && links.is_dir() => Some(true),
            Err(_) => None,
        }
    }
}

/// What is missing because this process is not in the host's namespaces, a sentence each, with the remedy.
#[must_use]
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
        Namespace::Uts.is_initial(),
        "records have no host: this process has a host name of its own",
        "as in a container; docker run --uts=host, Kubernetes hostNetwork: true",
    );
    say(
        Namespace::Pid.is_initial(),
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
