//! What this process is allowed (capabilities(7)).

use caps::{CapSet, Capability};

/// What tracing takes: its name, and what for.
pub const NEEDED: [(&str, Capability, &str); 2] = [
    ("CAP_BPF", Capability::CAP_BPF, "loading eBPF programs"),
    (
        "CAP_PERFMON",
        Capability::CAP_PERFMON,
        "attaching them and reading kernel memory",
    ),
];

/// What more a capability allows: its name, and what is missing without it.
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

/// This process holds it.
pub fn holds(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// The names of those that tracing takes and this process lacks. CAP_SYS_ADMIN stands for both, as before
/// they were split off.
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
