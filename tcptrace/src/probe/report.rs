//! What this kernel and these privileges allow, hook by hook.
//!
//! It does not reason about versions: it loads and attaches for real, and detaches at once.

use std::fmt::{self, Write as _};

use anstyle::{AnsiColor, Style};
use caps::Capability;
use textwrap::Options;

use super::{
    config::{AttachMode, OLDEST_KERNEL, ProbeConfig},
    error::ProbeError,
    hooks::{Hook, HookStatus, Source},
    layout::KERNEL_BTF,
    loaded::{Probe, kernel_types},
    resolve::MissingGroup,
    tracefs::mounted as tracefs_mounted,
};
use crate::{
    host,
    privileges::capabilities::{self, CapabilityUse},
};

/// The fewest characters of text in a line, however narrow the terminal.
const MIN_TEXT: usize = 20;

/// The report of `tcptrace check`.
#[derive(Debug)]
pub struct Report {
    lines: Vec<(&'static str, LineStatus, String)>,
}

/// What was found on a host.
struct Findings {
    kernel_release: String,
    /// The groups of fields that BTF does not describe; an error without BTF.
    btf: Result<Vec<MissingGroup>, String>,
    /// Where tracefs is mounted.
    tracefs: Result<String, String>,
    holds: fn(Capability) -> bool,
    notices: Vec<String>,
    hooks: Result<Vec<HookStatus>, ProbeError>,
}

impl Findings {
    /// Loads and attaches the programs for real, and detaches them at once.
    fn of_this_host() -> Self {
        Self {
            kernel_release: host::kernel_release(),
            btf: match kernel_types() {
                Ok(types) => Ok(types.missing().to_vec()),
                Err(error) => Err(error.to_string()),
            },
            tracefs: match tracefs_mounted() {
                Ok(place) => Ok(place.display().to_string()),
                Err(error) => Err(error.to_string()),
            },
            holds: capabilities::holds,
            notices: host::notices::notices(),
            hooks: load(AttachMode::Auto),
        }
    }
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

    const fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Weaker => AnsiColor::Yellow.on_default(),
            Self::Missing => AnsiColor::Red.on_default(),
            Self::Unneeded => Style::new(),
            Self::Bad => AnsiColor::Red.on_default().bold(),
        }
    }
}

impl Report {
    /// Loads and attaches the programs for real, and detaches them at once.
    pub fn make() -> Self {
        Self::of(&Findings::of_this_host())
    }

    fn of(findings: &Findings) -> Self {
        let mut report = Self { lines: Vec::new() };
        report.kernel(findings);
        match &findings.btf {
            Ok(missing) => {
                report.add("BTF", LineStatus::Good, KERNEL_BTF.to_owned());
                for group in missing {
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
        match &findings.tracefs {
            Ok(place) => report.add("tracefs", LineStatus::Good, place.clone()),
            Err(why) if findings.btf.is_ok() => report.add(
                "tracefs",
                LineStatus::Unneeded,
                format!("{why}; it is needed only without BTF or fexit"),
            ),
            Err(why) => report.add("tracefs", LineStatus::Bad, why.clone()),
        }
        report.capabilities(findings);
        for notice in &findings.notices {
            report.add("namespaces", LineStatus::Missing, notice.clone());
        }
        match &findings.hooks {
            Ok(hooks) => report.hooks(hooks),
            Err(error) => report.add("tracing", LineStatus::Bad, error.to_string()),
        }
        report
    }

    fn add(&mut self, what: &'static str, status: LineStatus, text: String) {
        self.lines.push((what, status, text));
    }

    fn kernel(&mut self, findings: &Findings) {
        let too_old = matches!(findings.hooks, Err(ProbeError::KernelTooOld(_)));
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
                findings.kernel_release
            ),
        );
    }

    /// Adds the capabilities. One is missing only if loading failed as well: the kernel decides.
    fn capabilities(&mut self, findings: &Findings) {
        let has = findings.holds;
        for CapabilityUse {
            capability,
            name,
            of,
            purpose,
            ..
        } in capabilities::USES
            .into_iter()
            .filter(|entry| entry.required)
        {
            // CAP_SYS_ADMIN includes both, as before they were split off.
            let (verdict, text) = if has(capability) {
                (LineStatus::Good, format!("{of}: {purpose}"))
            } else if has(Capability::CAP_SYS_ADMIN) {
                (
                    LineStatus::Good,
                    format!("{of}: {purpose} (through CAP_SYS_ADMIN)"),
                )
            } else if findings.hooks.is_ok() {
                (
                    LineStatus::Good,
                    format!("{of}: {purpose}: not held, and this kernel does not ask for it"),
                )
            } else {
                (
                    LineStatus::Bad,
                    format!("{of}: {purpose}. Run as root: sudo tcptrace check"),
                )
            };
            self.add(name, verdict, text);
        }
        for CapabilityUse {
            capability,
            name,
            of,
            purpose,
            ..
        } in capabilities::USES
            .into_iter()
            .filter(|entry| !entry.required)
        {
            // CAP_SYS_ADMIN includes this one too.
            let stands_in =
                capability == Capability::CAP_NET_ADMIN && has(Capability::CAP_SYS_ADMIN);
            let (verdict, without) = if has(capability) || stands_in {
                (LineStatus::Good, "")
            } else {
                (LineStatus::Missing, "not held, so missing: ")
            };
            self.add(name, verdict, format!("{of}: {without}{purpose}"));
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

    /// Returns the report in lines of at most so many characters, where that is possible.
    pub const fn shown(&self, width: Option<usize>, color: bool) -> Shown<'_> {
        Shown {
            report: self,
            width,
            color,
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

/// The report as a person reads it: each line is wrapped at the width, if there is one.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    report: &'a Report,
    width: Option<usize>,
    color: bool,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Before the text, so that what is wrapped stands below it.
        const INDENT: usize = 39;
        let width = self
            .width
            .map(|width| width.saturating_sub(INDENT).max(MIN_TEXT));
        for (what, status, text) in &self.report.lines {
            let style = if self.color {
                status.style()
            } else {
                Style::new()
            };
            write!(f, "{what:<27} {style}{:<10}{style:#}", status.word())?;
            let parts = match width {
                Some(width) => textwrap::wrap(text, Options::new(width).break_words(false)),
                None => vec![text.into()],
            };
            for (index, part) in parts.iter().enumerate() {
                let indent = if index == 0 { 1 } else { INDENT };
                writeln!(f, "{:indent$}{part}", "")?;
            }
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
#[path = "report_tests.rs"]
mod tests;
