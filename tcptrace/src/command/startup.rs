//! The messages of a command that starts to trace.

use crate::{
    host::{kernel_release, notices},
    probe::{self, Probe},
    stdio,
};

/// Returns one line for each measurement that this kernel and these privileges do not allow.
pub(crate) fn missing(probe: &Probe) -> impl Iterator<Item = String> {
    probe::missing(probe.hooks(), probe.btf(), probe.missing_fields())
        .into_iter()
        .chain(notices::notices())
}

/// Prints on standard error what is traced, and how much of it is measured. What is missing is
/// logged at the level debug.
pub(crate) fn print_what_is_traced(probe: &Probe, filtered: bool) -> anyhow::Result<()> {
    let which = if filtered {
        "the TCP connections of this host that pass the filter"
    } else {
        "every TCP connection of this host"
    };
    stdio::eprint_line(format_args!(
        "tcptrace: tracing {which} (Linux {}); Ctrl-C ends it",
        kernel_release(),
    ))?;
    if let Some(summary) = probe::summary(probe.hooks(), probe.missing_fields()) {
        stdio::eprint_line(format_args!(
            "tcptrace: {summary}; tcptrace check tells what is missing"
        ))?;
    }
    for line in probe::missing(probe.hooks(), probe.btf(), probe.missing_fields()) {
        tracing::debug!("{line}");
    }
    for notice in notices::notices() {
        stdio::eprint_line(format_args!("tcptrace: {notice}"))?;
    }
    Ok(())
}
