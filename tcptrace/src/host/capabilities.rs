//! The capabilities of this process (capabilities(7)).

use caps::{CapSet, Capability};

/// The capabilities that tracing needs: name, and purpose.
pub const NEEDED: [(&str, Capability, &str); 2] = [
    ("CAP_BPF", Capability::CAP_BPF, "loading eBPF programs"),
    (
        "CAP_PERFMON",
        Capability::CAP_PERFMON,
        "attaching them and reading kernel memory",
    ),
];

/// The optional capabilities: name, and what is missing without it.
pub const OPTIONAL: [(&str, Capability, &str); 4] = [
    (
        "CAP_NET_ADMIN",
        Capability::CAP_NET_ADMIN,
        "the time of passive handshakes where functions cannot be traced (sock_ops)",
    ),
    (
        "CAP_SYS_ADMIN",
        Capability::CAP_SYS_ADMIN,
        "other network namespaces: sockets that exist already, comparisons, levels, late FINs",
    ),
    (
        "CAP_DAC_READ_SEARCH",
        Capability::CAP_DAC_READ_SEARCH,
        "the paths of cgroups that exist already, and so containers, pods and units",
    ),
    (
        "CAP_SYS_PTRACE",
        Capability::CAP_SYS_PTRACE,
        "which processes of other users hold the sockets that exist already",
    ),
];

/// Whether this process has the capability.
pub fn holds(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// Returns the names of the needed capabilities that this process lacks. CAP_SYS_ADMIN includes
/// them, as before they were split off.
pub fn lacking() -> Vec<&'static str> {
    if holds(Capability::CAP_SYS_ADMIN) {
        return Vec::new();
    }
    NEEDED
        .into_iter()
        .filter(|(_, capability, _)| !holds(*capability))
        .map(|(name, ..)| name)
        .collect()
}
