//! Errors of loading and attaching, each on one line.

use std::{
    io::{self, ErrorKind, Write as _},
    path::PathBuf,
};

use super::config::OLDEST_KERNEL;
use crate::{namespaces::NamespaceKind, privileges::capabilities};

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("Linux {0} is too old: tcptrace needs {major}.{minor} or newer", major = OLDEST_KERNEL.0, minor = OLDEST_KERNEL.1)]
    KernelTooOld(String),
    /// The kernel refuses permission.
    #[error("not permitted to load eBPF programs: {advice} ({why})")]
    NotPermitted {
        /// What is missing, and what to do.
        advice: String,
        /// The kernel's error.
        why: String,
    },
    /// Transitions can be attached in neither way.
    #[error(
        "cannot attach to inet_sock_set_state: as tp_btf: {tp_btf}; as a classic tracepoint: {tracepoint}. `tcptrace check` shows what this kernel allows"
    )]
    NoTransitions {
        /// Why not as tp_btf.
        tp_btf: String,
        /// Why not as a classic tracepoint.
        tracepoint: String,
    },
    /// The maps do not fit into what memory this process may use.
    #[error(
        "cannot load the eBPF object: there is no memory for it ({1}). The ring alone takes {0} bytes: choose a smaller --ring-size, or raise the memory limit of the cgroup (MemoryMax= of a systemd unit)"
    )]
    NoRoom(u32, String),
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object: {0}")]
    Load(String),
}

impl ProbeError {
    /// A refusal that names the capabilities this process lacks.
    pub(super) fn not_permitted(why: String) -> Self {
        let lacking = capabilities::lacking();
        let advice = if NamespaceKind::User.is_initial() == Some(false) {
            "this process is in a user namespace, where its capabilities do not count for eBPF; run it outside, as the host's root".to_owned()
        } else if lacking.is_empty() {
            "the process has CAP_BPF and CAP_PERFMON, so a sandbox or security module must be blocking bpf(2); run it outside, or allow bpf(2)".to_owned()
        } else {
            format!(
                "this process lacks {}; run as root (sudo tcptrace …), or give it CAP_BPF and CAP_PERFMON",
                lacking.join(" and ")
            )
        };
        Self::NotPermitted { advice, why }
    }
}

/// Returns an error with all its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// Returns an error like [`chain`], with the verifier's log cut to its objection. The whole log is
/// kept in a file, for it tells on which path through the program the objection is true.
pub(super) fn brief(error: &dyn std::error::Error) -> String {
    let text = chain(error);
    let Some((before, log)) = text.split_once("Verifier output:") else {
        return text;
    };
    let statistics = [
        "verification time",
        "stack depth",
        "processed ",
        "mark_precise",
    ];
    let objection = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)));
    match objection {
        Some(objection) => {
            let before = before.trim_end();
            let kept = match keep(log) {
                Ok(path) => format!("its whole log is in {}", path.display()),
                Err(error) => format!("its log cannot be kept: {error}"),
            };
            format!("{before} The verifier says: {objection} ({kept})")
        }
        None => before.trim_end().trim_end_matches('.').to_owned(),
    }
}

/// Writes a verifier's log to a new file, which only this user may read.
fn keep(log: &str) -> io::Result<PathBuf> {
    let mut file = tempfile::Builder::new()
        .prefix("tcptrace-verifier-")
        .suffix(".log")
        .tempfile()?;
    file.write_all(log.as_bytes())?;
    let (_, path) = file.keep()?;
    Ok(path)
}

/// Whether EPERM or EACCES is among the causes of an error.
pub(super) fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == ErrorKind::PermissionDenied
        {
            return true;
        }
        next = error.source();
    }
    false
}
