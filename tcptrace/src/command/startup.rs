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

/// Prints on standard error what is traced, and what is missing.
pub(crate) fn say_what_is_traced(probe: &Probe, filtered: bool) -> anyhow::Result<()> {
    let hooks = probe.hooks();
    let attached = hooks.iter().filter(|status| status.attached.is_ok());
    let which = if filtered {
        "the TCP connections of this host that pass the filter"
    } else {
        "every TCP connection of this host"
    };
    stdio::eprint_line(format_args!(
        "tcptrace: tracing {which} (Linux {}, {} of {} hooks); Ctrl-C ends it",
        kernel_release(),
        attached.count(),
        hooks.len(),
    ))?;
    for line in missing(probe) {
        stdio::eprint_line(format_args!("tcptrace: {line}"))?;
    }
    Ok(())
}
