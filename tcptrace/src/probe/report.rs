//! What this kernel and these privileges allow, hook by hook.
//!
//! It does not reason about versions: it loads and attaches for real, and detaches at once.

use std::fmt::Write as _;

use caps::Capability;

use super::{
    config::{AttachMode, OLDEST_KERNEL, ProbeConfig},
    error::ProbeError,
    hooks::{Hook, HookStatus, Source},
    layout::KERNEL_BTF,
    loaded::{Probe, kernel_types},
    resolve::MissingGroup,
    tracefs::mounted as tracefs_mounted,
};
use crate::host::{self, capabilities};

/// The report of `tcptrace check`.
#[derive(Debug)]
pub struct Report {
    lines: Vec<(&'static str, LineStatus, String)>,
}

/// The status of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineStatus {
    /// Available.
    Good,
    /// Available, but not in the best way.
    Weaker,
    /// Missing, and something cannot be measured.
    Missing,
    /// Missing, but not needed here.
    Unneeded,
    /// Missing, and nothing works.
    Bad,
}

impl LineStatus {
    const fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Weaker => "weaker",
            Self::Missing => "missing",
            Self::Unneeded => "not there",
            Self::Bad => "FAILED",
        }
    }
}

impl Report {
    /// Loads and attaches the programs for real, and detaches them at once.
    pub fn make() -> Self {
        let probed = load(AttachMode::Auto);
        let mut report = Self { lines: Vec::new() };
        report.kernel(probed.as_ref().err());
        let btf = kernel_types();
        match &btf {
            Ok(types) => {
                report.add("BTF", LineStatus::Good, KERNEL_BTF.to_owned());
                for group in types.missing() {
                    let text = format!("{}: {} ({})", group.what, group.consequence, group.why);
                    report.add("BTF", LineStatus::Missing, text);
                }
            }
            Err(error) => report.add(
                "BTF",
                LineStatus::Missing,
                format!(
                    "{error}. Without it there are transitions only: no verdicts, bytes, users, \
                     cgroups or namespaces. A kernel built with CONFIG_DEBUG_INFO_BTF has it"
                ),
            ),
        }
        match tracefs_mounted() {
            Ok(place) => report.add("tracefs", LineStatus::Good, place.display().to_string()),
            Err(why) if btf.is_ok() => report.add(
                "tracefs",
                LineStatus::Unneeded,
                format!("{why}; it is needed only without BTF or fexit"),
            ),
            Err(why) => report.add("tracefs", LineStatus::Bad, why.to_string()),
        }
        report.capabilities(probed.is_ok());
        for notice in host::notices::notices() {
            report.add("namespaces", LineStatus::Missing, notice);
        }
        match probed {
            Ok(hooks) => report.hooks(&hooks),
            Err(error) => report.add("tracing", LineStatus::Bad, error.to_string()),
        }
        report
    }

    fn add(&mut self, what: &'static str, status: LineStatus, text: String) {
        self.lines.push((what, status, text));
    }

    fn kernel(&mut self, error: Option<&ProbeError>) {
        let too_old = matches!(error, Some(ProbeError::KernelTooOld(_)));
        let verdict = if too_old {
            LineStatus::Bad
        } else {
            LineStatus::Good
        };
        let (major, minor) = OLDEST_KERNEL;
        self.add(
            "kernel",
            verdict,
            format!(
                "{} ({major}.{minor} or newer is needed)",
                host::kernel_release()
            ),
        );
    }

    /// Adds the capabilities. One is missing only if loading failed as well: the kernel decides.
    fn capabilities(&mut self, loaded: bool) {
        for (name, capability, purpose) in capabilities::NEEDED {
            let has = capabilities::holds;
            // CAP_SYS_ADMIN includes both, as before they were split off.
            let (verdict, text) = if has(capability) {
                (LineStatus::Good, purpose.to_owned())
            } else if has(Capability::CAP_SYS_ADMIN) {
                (
                    LineStatus::Good,
                    format!("{purpose} (through CAP_SYS_ADMIN)"),
                )
            } else if loaded {
                (
                    LineStatus::Good,
                    format!("{purpose}: not held, and this kernel does not ask for it"),
                )
            } else {
                (
                    LineStatus::Bad,
                    format!("{purpose}. Run as root: sudo tcptrace check"),
                )
            };
            self.add(name, verdict, text);
        }
        for (name, capability, purpose) in capabilities::OPTIONAL {
            // CAP_SYS_ADMIN includes this one too.
            let stands_in = capability == Capability::CAP_NET_ADMIN
                && capabilities::holds(Capability::CAP_SYS_ADMIN);
            let (verdict, without) = if capabilities::holds(capability) || stands_in {
                (LineStatus::Good, "")
            } else {
                (LineStatus::Missing, "not held, so missing: ")
            };
            self.add(name, verdict, format!("{without}{purpose}"));
        }
    }

    fn hooks(&mut self, hooks: &[HookStatus]) {
        for status in hooks {
            let hook = status.hook;
            let (verdict, text) = match &status.attached {
                Ok(Source::TracepointOnly) => (
                    LineStatus::Missing,
                    "as the classic tracepoint, transitions only because there is no BTF"
                        .to_owned(),
                ),
                Ok(source) => match hook.weakness(*source) {
                    None => (
                        LineStatus::Good,
                        format!("{}, as {}", hook.purpose(), source.name()),
                    ),
                    Some(weakness) => (
                        LineStatus::Weaker,
                        format!(
                            "{}, as {}: {weakness} ({})",
                            hook.purpose(),
                            source.name(),
                            status.better.as_deref().unwrap_or("unknown why"),
                        ),
                    ),
                },
                Err(why) => (
                    LineStatus::Missing,
                    format!("{}: {} ({why})", hook.purpose(), hook.consequence()),
                ),
            };
            self.add(hook.name(), verdict, text);
        }
    }

    /// Whether tracing works, and with `strict` whether every hook is available in its best way.
    pub fn passes(&self, strict: bool) -> bool {
        self.lines.iter().all(|(_, verdict, _)| match verdict {
            LineStatus::Good | LineStatus::Unneeded => true,
            LineStatus::Weaker | LineStatus::Missing => !strict,
            LineStatus::Bad => false,
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (what, verdict, text) in &self.lines {
            let mut line = String::new();
            write!(line, "{what:<27} {:<10} {text}", verdict.word())?;
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Loads and attaches for real, and detaches at once.
fn load(attach: AttachMode) -> Result<Vec<HookStatus>, ProbeError> {
    let config = ProbeConfig {
        ring_bytes: 1 << 16,
        attach,
        without: Vec::new(),
        log_level: 0,
    };
    Probe::load(&config).map(|probe| probe.hooks().to_vec())
}

/// Returns a line for each hook that is missing or not attached in the best way, with the
/// consequence.
pub fn missing(
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
            // Without BTF no other hook is available, as the line above says.
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

/// Returns how much is measured; `None` if everything is, in the best way.
pub fn summary(hooks: &[HookStatus], fields: &[MissingGroup]) -> Option<String> {
    let attached: Vec<_> = hooks
        .iter()
        .filter_map(|status| Some((status.hook, *status.attached.as_ref().ok()?)))
        .collect();
    if attached.contains(&(Hook::SetState, Source::TracepointOnly)) {
        return Some("only state transitions are measured, for lack of BTF".to_owned());
    }
    let weaker = attached
        .iter()
        .filter(|(hook, source)| hook.weakness(*source).is_some())
        .count();
    if attached.len() == hooks.len() && weaker == 0 && fields.is_empty() {
        return None;
    }
    let mut summary = format!("{} of {} hooks", attached.len(), hooks.len());
    if weaker > 0 {
        write!(summary, ", {weaker} of them by a weaker source").unwrap_or_default();
    }
    for (index, group) in fields.iter().enumerate() {
        let word = if index == 0 { ", without" } else { "," };
        write!(summary, "{word} {}", group.what).unwrap_or_default();
    }
    Some(summary)
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
    fn no_line_is_printed_when_nothing_is_missing() {
        let hooks: Vec<_> = Hook::ALL
            .iter()
            .map(|&hook| status(hook, Ok(Source::TpBtf)))
            .collect();
        assert!(missing(&hooks, Ok(()), &[]).is_empty());
        assert_eq!(summary(&hooks, &[]), None);
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
        assert_eq!(summary(&hooks, &[]).as_deref(), Some("1 of 2 hooks"));
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
        let summary = summary(&hooks, &[]);
        assert!(summary.is_some_and(|summary| summary.contains("only state transitions")));
    }
}
