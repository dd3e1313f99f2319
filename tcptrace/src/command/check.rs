//! `tcptrace check`: what this kernel and these privileges allow, and what to do about the rest.
//!
//! It does not reason about versions: it loads and attaches for real, and lets go at once.

use std::{fmt::Write as _, process::ExitCode};

use caps::Capability;

use crate::{
    host::{self, capabilities},
    probe::{
        AttachMode, HookStatus, KERNEL_BTF, Probe, ProbeConfig, ProbeError, Source, kernel_types,
        tracefs_mounted,
    },
    stdio,
};

/// What was found.
#[derive(Debug)]
struct Report {
    lines: Vec<(&'static str, Verdict, String)>,
}

/// How a line stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// There.
    Good,
    /// There in a weaker way than there could be.
    Weaker,
    /// Missing, and something cannot be measured.
    Missing,
    /// Missing, and not needed here.
    Unneeded,
    /// Missing, and nothing works.
    Bad,
}

impl Verdict {
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

/// Checks and prints. The status is 0 when tracing works, and with `strict` only when every hook
/// can be had.
///
/// Fails when the report cannot be written; a closed pipe is no error.
pub fn run(strict: bool) -> anyhow::Result<ExitCode> {
    let report = Report::make();
    stdio::print(&report)?;
    Ok(if report.passes(strict) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

impl Report {
    fn make() -> Self {
        let probed = load(AttachMode::Auto);
        let mut report = Self { lines: Vec::new() };
        report.kernel(probed.as_ref().err());
        let btf = kernel_types();
        match &btf {
            Ok(types) => {
                report.add("BTF", Verdict::Good, KERNEL_BTF.to_owned());
                for group in types.missing() {
                    let text = format!("{}: {} ({})", group.what, group.consequence, group.why);
                    report.add("BTF", Verdict::Missing, text);
                }
            }
            Err(error) => report.add(
                "BTF",
                Verdict::Missing,
                format!(
                    "{error}. Without it there are transitions only: no verdicts, bytes, users, \
                     cgroups or namespaces. A kernel built with CONFIG_DEBUG_INFO_BTF has it"
                ),
            ),
        }
        match tracefs_mounted() {
            Ok(place) => report.add("tracefs", Verdict::Good, place.display().to_string()),
            Err(why) if btf.is_ok() => report.add(
                "tracefs",
                Verdict::Unneeded,
                format!("{why}; it is needed only without BTF or fexit"),
            ),
            Err(why) => report.add("tracefs", Verdict::Bad, why.to_string()),
        }
        report.capabilities(probed.is_ok());
        for notice in host::notices::notices() {
            report.add("namespaces", Verdict::Missing, notice);
        }
        match probed {
            Ok(hooks) => report.hooks(&hooks),
            Err(error) => report.add("tracing", Verdict::Bad, error.to_string()),
        }
        report
    }

    fn add(&mut self, what: &'static str, verdict: Verdict, text: String) {
        self.lines.push((what, verdict, text));
    }

    fn kernel(&mut self, error: Option<&ProbeError>) {
        let too_old = matches!(error, Some(ProbeError::KernelTooOld(_)));
        let verdict = if too_old { Verdict::Bad } else { Verdict::Good };
        let (major, minor) = crate::probe::OLDEST_KERNEL;
        self.add(
            "kernel",
            verdict,
            format!(
                "{} ({major}.{minor} or newer is needed)",
                host::kernel_release()
            ),
        );
    }

    /// The kernel has the last word: a capability is only missing when loading failed as well.
    fn capabilities(&mut self, loaded: bool) {
        for (name, capability, purpose) in capabilities::NEEDED {
            let has = capabilities::holds;
            // Before it was split, and still, CAP_SYS_ADMIN stands for both.
            let (verdict, text) = if has(capability) {
                (Verdict::Good, purpose.to_owned())
            } else if has(Capability::CAP_SYS_ADMIN) {
                (Verdict::Good, format!("{purpose} (through CAP_SYS_ADMIN)"))
            } else if loaded {
                (
                    Verdict::Good,
                    format!("{purpose}: not held, and this kernel does not ask for it"),
                )
            } else {
                (
                    Verdict::Bad,
                    format!("{purpose}. Run as root: sudo tcptrace check"),
                )
            };
            self.add(name, verdict, text);
        }
        for (name, capability, purpose) in capabilities::OPTIONAL {
            // CAP_SYS_ADMIN stands for this one too.
            let stands_in = capability == Capability::CAP_NET_ADMIN
                && capabilities::holds(Capability::CAP_SYS_ADMIN);
            let (verdict, without) = if capabilities::holds(capability) || stands_in {
                (Verdict::Good, "")
            } else {
                (Verdict::Missing, "not held, so missing: ")
            };
            self.add(name, verdict, format!("{without}{purpose}"));
        }
    }

    fn hooks(&mut self, hooks: &[HookStatus]) {
        for status in hooks {
            let hook = status.hook;
            let (verdict, text) = match &status.attached {
                Ok(Source::TracepointOnly) => (
                    Verdict::Missing,
                    "as the classic tracepoint, transitions only because there is no BTF"
                        .to_owned(),
                ),
                Ok(source) => match hook.weakness(*source) {
                    None => (
                        Verdict::Good,
                        format!("{}, as {}", hook.purpose(), source.name()),
                    ),
                    Some(weakness) => (
                        Verdict::Weaker,
                        format!(
                            "{}, as {}: {weakness} ({})",
                            hook.purpose(),
                            source.name(),
                            status.better.as_deref().unwrap_or("unknown why"),
                        ),
                    ),
                },
                Err(why) => (
                    Verdict::Missing,
                    format!("{}: {} ({why})", hook.purpose(), hook.consequence()),
                ),
            };
            self.add(hook.name(), verdict, text);
        }
    }

    fn passes(&self, strict: bool) -> bool {
        self.lines.iter().all(|(_, verdict, _)| match verdict {
            Verdict::Good | Verdict::Unneeded => true,
            Verdict::Weaker | Verdict::Missing => !strict,
            Verdict::Bad => false,
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

/// Loads and attaches for real, and lets go.
fn load(attach: AttachMode) -> Result<Vec<HookStatus>, ProbeError> {
    let config = ProbeConfig {
        ring_bytes: 1 << 16,
        attach,
        without: Vec::new(),
        log_level: 0,
    };
    Probe::load(&config).map(|probe| probe.hooks().to_vec())
}
