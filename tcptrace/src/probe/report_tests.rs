//! The report of `tcptrace check`, of hosts that are written down here.

use super::*;
use crate::probe::hooks::ways;

/// A host whose kernel lets no function be traced.
fn without_functions() -> Findings {
    const REFUSED: &str = "Operation not permitted (os error 1)";
    let hooks = Hook::ALL.iter().map(|&hook| {
        let traces_functions = |source| matches!(source, Source::Fentry | Source::Fexit);
        let best = ways(hook).first().copied().unwrap_or(Source::TpBtf);
        let refused = traces_functions(best).then(|| format!("{}: {REFUSED}", best.name()));
        let other = ways(hook)
            .iter()
            .copied()
            .find(|&source| !traces_functions(source));
        HookStatus {
            hook,
            attached: match &refused {
                Some(why) => other.ok_or_else(|| why.clone()),
                None => Ok(best),
            },
            better: refused,
        }
    });
    Findings {
        kernel_release: "6.12.95".to_owned(),
        btf: Ok(Vec::new()),
        tracefs: Ok("/sys/kernel/tracing".to_owned()),
        holds: |_| true,
        notices: Vec::new(),
        hooks: Ok(hooks.collect()),
    }
}

/// The picture of operations.md. `TCPTRACE_BLESS=1` rewrites it.
#[test]
fn the_picture_is_of_this_report() {
    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/check.svg");
    let report = Report::of(&without_functions());
    let seen = format!("$ tcptrace check\n{}", report.shown(Some(120), true));
    let picture = anstyle_svg::Term::new().render_svg(&seen);
    if std::env::var_os("TCPTRACE_BLESS").is_some() {
        std::fs::write(PATH, &picture).unwrap();
    }
    let committed = std::fs::read_to_string(PATH).unwrap_or_default();
    assert!(
        committed == picture,
        "docs/check.svg shows another report: TCPTRACE_BLESS=1 rewrites it"
    );
}

#[test]
fn lines_are_as_wide_as_the_terminal_and_no_word_is_lost() {
    let report = Report::of(&without_functions());
    let whole = report.shown(None, false).to_string();
    assert_eq!(whole.lines().count(), report.lines.len());
    let words = |text: &str| {
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    for width in [80, 100, 200] {
        let wrapped = report.shown(Some(width), false).to_string();
        assert!(
            wrapped.lines().all(|line| line.chars().count() <= width),
            "{wrapped}"
        );
        assert_eq!(words(&wrapped), words(&whole));
    }
}

#[test]
fn a_weaker_source_passes_unless_all_must_be_the_best() {
    let mut findings = without_functions();
    assert!(Report::of(&findings).passes(false));
    assert!(!Report::of(&findings).passes(true));
    findings.hooks = Err(ProbeError::KernelTooOld("4.19".to_owned()));
    assert!(!Report::of(&findings).passes(false));
}

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
