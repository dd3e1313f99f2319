//! Whether this process is in the host's own namespaces. In a container it may be in others, and
//! what it reads there is not the host's.

use std::{fs, io, path::Path};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamespaceKind {
    Pid,
    /// CLOCK_MONOTONIC and CLOCK_BOOTTIME.
    Time,
    User,
    Uts,
}

impl NamespaceKind {
    /// Returns its file in /proc/self/ns.
    const fn file(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Time => "time",
            Self::User => "user",
            Self::Uts => "uts",
        }
    }

    /// Returns the inode number of the initial namespace, which is fixed
    /// (`include/linux/proc_ns.h`, `include/uapi/linux/nsfs.h`).
    const fn initial(self) -> u32 {
        match self {
            Self::Pid => 0xEFFF_FFFC,
            Self::Time => 0xEFFF_FFFA,
            Self::User => 0xEFFF_FFFD,
            Self::Uts => 0xEFFF_FFFE,
        }
    }

    /// Whether this process is in the initial namespace; `None` without /proc.
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
