//! The capabilities of this process (capabilities(7)).

use caps::{CapSet, Capability, CapsHashSet, errors::CapsError};

/// What a capability is for.
#[derive(Clone, Copy, Debug)]
pub struct CapabilityUse {
    pub capability: Capability,
    /// The name, as in `CAP_BPF`.
    pub name: &'static str,
    /// The hook or the feature that needs it.
    pub of: &'static str,
    /// What it is needed for; of an optional one, what is missing without it.
    pub purpose: &'static str,
    /// Nothing can be traced without it.
    pub required: bool,
    /// What needs it once the programs are attached; `None` if it is given up then.
    pub later: Option<&'static str>,
}

/// The capabilities that tracing uses, the required ones first.
pub const USES: [CapabilityUse; 6] = [
    CapabilityUse {
        capability: Capability::CAP_BPF,
        name: "CAP_BPF",
        of: "every hook",
        purpose: "loading eBPF programs",
        required: true,
        later: Some("walks over sockets"),
    },
    CapabilityUse {
        capability: Capability::CAP_PERFMON,
        name: "CAP_PERFMON",
        of: "every hook",
        purpose: "attaching them and reading kernel memory",
        required: true,
        later: Some("walks over sockets"),
    },
    CapabilityUse {
        capability: Capability::CAP_NET_ADMIN,
        name: "CAP_NET_ADMIN",
        of: "tcp_create_openreq_child",
        purpose: "the time of passive handshakes where functions cannot be traced (sock_ops)",
        required: false,
        later: None,
    },
    CapabilityUse {
        capability: Capability::CAP_SYS_ADMIN,
        name: "CAP_SYS_ADMIN",
        of: "iter/tcp",
        purpose: "other network namespaces: sockets that exist already, comparisons, levels, late FINs",
        required: false,
        later: Some("entering network namespaces"),
    },
    CapabilityUse {
        capability: Capability::CAP_DAC_READ_SEARCH,
        name: "CAP_DAC_READ_SEARCH",
        of: "names of cgroups",
        purpose: "the paths of cgroups that exist already, and so containers, pods and units",
        required: false,
        later: Some("finding cgroups, and files below /proc/PID"),
    },
    CapabilityUse {
        capability: Capability::CAP_SYS_PTRACE,
        name: "CAP_SYS_PTRACE",
        of: "iter/tcp",
        purpose: "finding the network namespaces of processes of other users, and which sockets they hold",
        required: false,
        later: Some("reading /proc/PID/fd and /proc/PID/ns of other users"),
    },
];

/// Whether this thread has the capability.
pub fn holds(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Returns the names of the required capabilities that this process lacks. CAP_SYS_ADMIN includes
/// them, as before they were split off.
pub fn lacking() -> Vec<&'static str> {
    if holds(Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    let required = USES.into_iter().filter(|entry| entry.required);
    required
        .filter(|entry| !holds(entry.capability))
        .map(|entry| entry.name)
        .collect()
}

/// Gives up every capability of this thread but those of `kept` that it has, for good: in the
/// bounding set too, so that no program it could execute regains them.
///
/// Fails when the kernel refuses.
pub(super) fn keep_only(kept: &[Capability]) -> Result<(), CapsError> {
    // Needs CAP_SETPCAP. Without it, no_new_privs does the same.
    if holds(Capability::CAP_SETPCAP) {
        caps::clear(None, CapSet::Bounding)?;
    }
    let held = caps::read(None, CapSet::Permitted)?;
    let kept: CapsHashSet = kept
        .iter()
        .copied()
        .filter(|one| held.contains(one))
        .collect();
    // The kernel has had no ambient set only before Linux 4.3.
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    // None may be effective that is not permitted.
    caps::set(None, CapSet::Effective, &CapsHashSet::new())?;
    caps::set(None, CapSet::Permitted, &kept)?;
    caps::set(None, CapSet::Effective, &kept)
}

/// Parses a name such as `CAP_SYS_ADMIN` or `sys_admin`.
pub fn parse(name: &str) -> Result<Capability, String> {
    let upper = name.to_ascii_uppercase();
    let whole = match upper.strip_prefix("CAP_") {
        Some(_) => upper,
        None => format!("CAP_{upper}"),
    };
    whole
        .parse()
        .map_err(|_: CapsError| "not a capability, such as CAP_SYS_ADMIN (capabilities(7))".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Hook;

    #[test]
    fn the_documentation_has_the_table() {
        let mut table =
            "| capability | hook or feature | missing without it | kept for |\n|---|---|---|---|\n"
                .to_owned();
        for entry in USES {
            let without = match entry.required {
                true => format!("everything: {}", entry.purpose),
                false => entry.purpose.to_owned(),
            };
            let later = entry.later.unwrap_or("");
            table += &format!("| {} | {} | {without} | {later} |\n", entry.name, entry.of);
            let is_hook = Hook::ALL.iter().any(|hook| hook.name() == entry.of);
            assert!(is_hook || entry.of.contains(' '), "{}", entry.of);
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&table), "{path} lacks the table:\n{table}");
    }

    #[test]
    fn a_name_is_taken_in_any_form() {
        for name in ["CAP_SYS_ADMIN", "cap_sys_admin", "Sys_Admin"] {
            assert_eq!(parse(name), Ok(Capability::CAP_SYS_ADMIN), "{name}");
        }
        assert!(parse("").is_err());
        assert!(parse("CAP_").is_err());
        assert!(parse("root").is_err());
    }
}
