//! This host: its name, this boot of it, its kernel.

pub mod capabilities;
pub mod cgroup;
pub mod names;
pub mod resolve;

use std::ffi::OsString;

/// What every record carries, so that a file of them from many hosts can be poured into one
/// table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// `uname -n`.
    pub name: String,
    /// `/proc/sys/kernel/random/boot_id`; empty when it cannot be read.
    pub boot_id: String,
    /// Goes before each connection's number: this boot and this start of the program.
    pub run: String,
}

impl Host {
    /// This host, for a run that begins at `start_ns` of the events' clock.
    #[must_use]
    pub fn this(start_ns: u64) -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_default();
        let boot = boot_id.get(..8).unwrap_or("00000000");
        Self {
            name: nix::unistd::gethostname()
                .unwrap_or_else(|_| OsString::from("unknown"))
                .to_string_lossy()
                .into_owned(),
            run: format!("{boot}-{start_ns:x}"),
            boot_id,
        }
    }
}

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |names| names.release().to_string_lossy().into_owned(),
    )
}
