//! The build's identity.

use super::family::Family;

/// Returns the one series, always 1.
pub(super) fn info() -> Family {
    let mut info = Family::gauge(
        "tcptrace_build_info",
        &["version", "revision", "rustc", "ebpf_object"],
        "1, with what this tcptrace was built from; ebpf_object is the SHA-256 of the embedded eBPF object.",
    );
    let or_unknown = |value: Option<&'static str>| value.unwrap_or("unknown");
    info.add(
        &[
            env!("CARGO_PKG_VERSION"),
            or_unknown(option_env!("TCPTRACE_GIT_REVISION")),
            or_unknown(option_env!("TCPTRACE_RUSTC")),
            or_unknown(option_env!("TCPTRACE_EBPF_SHA256")),
        ],
        1.0,
    );
    info
}
