//! What is said at the start: which measurements this kernel and these privileges do not allow.

use crate::{
    host::{kernel_release, notices},
    probe::{Hook, HookStatus, MissingGroup, Probe, Source},
    stdio,
};

/// One line for each hook that is missing or weaker than it could be, with what follows.
pub(crate) fn missing(
    hooks: &[HookStatus],
    btf: Result<(), &str>,
    fields: &[MissingGroup],
) -> Vec<String> {
    let mut lines: Vec<String> = fields
        .iter()
        .map(|group| format!("no {}: {} ({})", group.what, group.consequence, group.why))
        .collect();
    for status in hooks {
        match &status.attached {
            Ok(Source::TracepointOnly) => lines.push(format!(
                "transitions only: verdicts, bytes, users, cgroups, namespaces and retransmits are missing, for socket fields cannot be read without BTF ({})",
                btf.err().unwrap_or("unknown why"),
            )),
            Ok(source) => {
                if let Some(weakness) = status.hook.weakness(*source) {
                    let why = status.better.as_deref().unwrap_or("unknown why");
                    lines.push(format!("{}: {weakness} ({why})", status.hook.name()));
                }
            }
            // Without BTF no other hook can be had, which the line above says.
            Err(_) if btf.is_err() && status.hook != Hook::SetState => {}
            Err(why) => lines.push(format!(
                "no {}: {} ({why})",
                status.hook.name(),
                status.hook.consequence(),
            )),
        }
    }
    lines
}

/// Says on standard error what is traced, and what is missing.
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
    for line in missing(probe.hooks(), probe.btf(), probe.missing_fields())
        .into_iter()
        .chain(notices::notices())
    {
        stdio::eprint_line(format_args!("tcptrace: {line}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hook: Hook, attached: Result<Source, &str>) -> HookStatus {
        HookStatus {
            hook,
            attached: attached.map_err(str::to_owned),
            better: None,
        }
    }

    #[test]
    fn nothing_is_said_when_everything_is_there() {
        let hooks: Vec<_> = Hook::ALL
            .iter()
            .map(|&hook| status(hook, Ok(Source::TpBtf)))
            .collect();
        assert!(missing(&hooks, Ok(()), &[]).is_empty());
    }

    #[test]
    fn a_missing_hook_is_one_line_with_its_consequence() {
        let hooks = [
            status(Hook::SetState, Ok(Source::TpBtf)),
            status(Hook::SendReset, Err("refused")),
        ];
        let lines = missing(&hooks, Ok(()), &[]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("tcp_send_reset"), "{lines:?}");
        assert!(
            lines[0].contains(Hook::SendReset.consequence()),
            "{lines:?}"
        );
        assert!(lines[0].contains("refused"), "{lines:?}");
    }

    #[test]
    fn without_btf_one_line_says_it_all() {
        let hooks = [
            status(Hook::SetState, Ok(Source::TracepointOnly)),
            status(Hook::ReceiveReset, Err("no BTF")),
            status(Hook::SendReset, Err("no BTF")),
        ];
        let lines = missing(&hooks, Err("no such file"), &[]);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].contains("no such file"), "{lines:?}");
    }
}
