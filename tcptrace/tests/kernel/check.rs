//! `tcptrace check`: a line for each thing, and a status that agrees with tracing itself.

use anyhow::{Context, ensure};
use caps::Capability;

use crate::support::{
    Check, functions_can_be_traced, ignored,
    program::{Output, Running, tcptrace, tcptrace_as_nobody, with_only},
    surroundings::{Surroundings, has_tracefs},
    tests,
};

tests![
    with_btf_and_tracefs_nothing_is_missing,
    where_functions_can_be_traced_every_hook_uses_its_best_source,
    where_functions_cannot_be_traced_weaker_sources_are_used,
    without_tracefs_nothing_is_missing,
    without_btf_there_are_transitions_only,
    without_btf_and_tracefs_check_fails_and_says_what_to_do,
    an_unprivileged_user_is_told_to_be_root,
    each_capability_is_named_with_what_is_missing_without_it,
    tracefs_that_may_not_be_read_is_not_said_to_be_unmounted,
];

/// The columns of what a line is about and how that stands.
const WORDS: usize = 38;

/// A report, with and without `--strict`.
struct Report {
    usual: Output,
    strict: Output,
}

impl Report {
    fn of(tracefs: bool, btf: bool) -> anyhow::Result<Self> {
        Surroundings { tracefs, btf }.run(|| {
            Ok(Self {
                usual: Running::to_end(&mut tcptrace(&["check"]))?,
                strict: Running::to_end(&mut tcptrace(&["check", "--strict"]))?,
            })
        })
    }

    fn text(&self) -> &str {
        &self.usual.stdout
    }

    /// The line about something.
    fn line(&self, what: &str) -> anyhow::Result<&str> {
        self.text()
            .lines()
            .find_map(|line| line.strip_prefix(what)?.strip_prefix(' '))
            .map(str::trim_start)
            .with_context(|| format!("no line about {what} in:\n{}", self.text()))
    }

    fn must_say(&self, what: &str, begins: &str, contains: &str) -> Check {
        let line = self.line(what)?;
        ensure!(
            line.starts_with(begins) && line.contains(contains),
            "{what} is not {begins}, {contains}:\n{}",
            self.text()
        );
        Ok(())
    }

    /// It says the same twice; strictly, whatever is missing is a failure.
    fn must_end_with(&self, status: i32) -> Check {
        self.usual.must_end_with(status)?;
        ensure!(
            self.usual.stderr.is_empty() && self.strict.stderr.is_empty(),
            "it complains: {:?}",
            self.usual
        );
        let worse = self.text().lines().any(|line| {
            [" missing ", " weaker ", " FAILED "]
                .iter()
                .any(|word| line.contains(word))
        });
        self.strict.must_end_with(i32::from(worse))?;
        // Only the words: of several things refused, the first one named may differ.
        let words = |text: &str| -> Vec<_> {
            text.lines()
                .map(|line| line.chars().take(WORDS).collect::<String>())
                .collect()
        };
        ensure!(
            words(&self.strict.stdout) == words(&self.usual.stdout),
            "it says otherwise: {:?}",
            self.strict
        );
        Ok(())
    }
}

fn with_btf_and_tracefs_nothing_is_missing() -> Check {
    let report = Report::of(true, true)?;
    report.must_end_with(0)?;
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    report.must_say("kernel", "ok", release.trim())?;
    report.must_say("BTF", "ok", "/sys/kernel/btf/vmlinux")?;
    report.must_say("tracefs", "ok", "/sys/kernel/tracing")?;
    report.must_say("CAP_BPF", "ok", "")?;
    report.must_say("CAP_PERFMON", "ok", "")?;
    report.must_say("inet_sock_set_state", "ok", "as tp_btf")
}

/// What each hook is attached by where everything is allowed.
const BEST: [(&str, &str); 10] = [
    ("inet_sock_set_state", "tp_btf"),
    ("tcp_create_openreq_child", "fentry"),
    ("tcp_retransmit_synack", "tp_btf"),
    ("inet_csk_accept", "fexit"),
    ("tcp_receive_reset", "tp_btf"),
    ("tcp_send_reset", "tp_btf"),
    ("inet_twsk_alloc", "fexit"),
    ("tcp_v4_connect", "fexit"),
    ("tcp_timewait_state_process", "fexit"),
    ("iter/tcp", "iter"),
];

fn where_functions_can_be_traced_every_hook_uses_its_best_source() -> Check {
    functions_can_be_traced()?;
    let report = Report::of(true, true)?;
    report.must_end_with(0)?;
    for (hook, source) in BEST {
        report.must_say(hook, "ok", &format!("as {source}"))?;
    }
    Ok(())
}

fn where_functions_cannot_be_traced_weaker_sources_are_used() -> Check {
    if functions_can_be_traced().is_ok() {
        return Err(ignored("this kernel lets functions be traced".to_owned()));
    }
    let report = Report::of(true, true)?;
    report.must_end_with(0)?;
    report.strict.must_end_with(1)?;
    report.must_say("tcp_create_openreq_child", "weaker", "as sock_ops")?;
    report.must_say("inet_csk_accept", "weaker", "as tracepoint")?;
    report.must_say("tcp_v4_connect", "weaker", "as tracepoint")?;
    report.must_say("inet_twsk_alloc", "missing", "flags")?;
    report.must_say("tcp_timewait_state_process", "missing", "sock_diag")?;
    for (hook, source) in BEST {
        if !matches!(source, "fentry" | "fexit") {
            report.must_say(hook, "ok", &format!("as {source}"))?;
        }
    }
    Ok(())
}

fn without_tracefs_nothing_is_missing() -> Check {
    let report = Report::of(false, true)?;
    report.must_end_with(0)?;
    report.must_say("tracefs", "not there", "only without BTF or fexit")?;
    report.must_say("inet_sock_set_state", "ok", "as tp_btf")
}

fn without_btf_there_are_transitions_only() -> Check {
    let report = Report::of(true, false)?;
    report.must_end_with(0)?;
    report.strict.must_end_with(1)?;
    report.must_say("BTF", "missing", "CONFIG_DEBUG_INFO_BTF")?;
    report.must_say("tracefs", "ok", "/sys/kernel/tracing")?;
    report.must_say("inet_sock_set_state", "missing", "transitions only")?;
    report.must_say("tcp_receive_reset", "missing", "no BTF")
}

fn without_btf_and_tracefs_check_fails_and_says_what_to_do() -> Check {
    let report = Report::of(false, false)?;
    report.must_end_with(1)?;
    let way_out = "mount -t tracefs tracefs /sys/kernel/tracing";
    report.must_say("tracefs", "FAILED", way_out)?;
    report.must_say("tracing", "FAILED", "inet_sock_set_state")
}

fn an_unprivileged_user_is_told_to_be_root() -> Check {
    let (mut command, _binary) = tcptrace_as_nobody(&["check"])?;
    let usual = Running::to_end(&mut command)?;
    let (mut command, _binary) = tcptrace_as_nobody(&["check", "--strict"])?;
    let strict = Running::to_end(&mut command)?;
    let report = Report { usual, strict };
    report.must_end_with(1)?;
    report.must_say("CAP_BPF", "FAILED", "sudo tcptrace check")?;
    report.must_say("CAP_PERFMON", "FAILED", "sudo tcptrace check")?;
    report.must_say("tracing", "FAILED", "not permitted")
}

/// The capabilities beside CAP_BPF and CAP_PERFMON, a word of what each allows, and a hook that
/// needs it.
const OPTIONAL: [(Capability, &str, Option<&str>); 4] = [
    (
        Capability::CAP_NET_ADMIN,
        "sock_ops",
        Some("tcp_create_openreq_child"),
    ),
    (Capability::CAP_SYS_ADMIN, "other network namespaces", None),
    (Capability::CAP_DAC_READ_SEARCH, "cgroups", None),
    (Capability::CAP_SYS_PTRACE, "processes of other users", None),
];

fn each_capability_is_named_with_what_is_missing_without_it() -> Check {
    let report = |more: &[Capability]| -> anyhow::Result<Report> {
        let mut held = vec![
            Capability::CAP_BPF,
            Capability::CAP_PERFMON,
            // Root's files, and memory for the maps before Linux 5.11.
            Capability::CAP_DAC_OVERRIDE,
            Capability::CAP_SYS_RESOURCE,
        ];
        held.extend(more);
        let run =
            |arguments: &[&str]| Running::to_end(with_only(&mut tcptrace(arguments), held.clone()));
        Ok(Report {
            usual: run(&["check"])?,
            strict: run(&["check", "--strict"])?,
        })
    };
    let none = report(&[])?;
    none.must_end_with(0)?;
    for (capability, missing, hook) in OPTIONAL {
        let name = capability.to_string();
        none.must_say(&name, "missing", missing)?;
        let with = report(&[capability])?;
        with.must_say(&name, "ok", missing)?;
        for (other, ..) in OPTIONAL {
            // CAP_SYS_ADMIN stands for CAP_NET_ADMIN.
            let stands_in =
                capability == Capability::CAP_SYS_ADMIN && other == Capability::CAP_NET_ADMIN;
            if other != capability && !stands_in {
                with.must_say(&other.to_string(), "missing", "")?;
            }
        }
        if let Some(hook) = hook
            && functions_can_be_traced().is_err()
            && tcptrace::testing::cgroup::hierarchy().is_some()
        {
            none.must_say(hook, "missing", "sock_ops")?;
            with.must_say(hook, "weaker", "as sock_ops")?;
        }
    }
    Ok(())
}

fn tracefs_that_may_not_be_read_is_not_said_to_be_unmounted() -> Check {
    if !has_tracefs() {
        return Err(ignored("tracefs is not mounted"));
    }
    let (mut command, _binary) = tcptrace_as_nobody(&["check"])?;
    let usual = Running::to_end(&mut command)?;
    let line = usual
        .stdout
        .lines()
        .find(|line| line.starts_with("tracefs "))
        .context("no line about tracefs")?;
    // Where it is for everybody it is simply there.
    ensure!(
        line.contains("Permission denied") || line.contains(" ok "),
        "{line}"
    );
    Ok(())
}
