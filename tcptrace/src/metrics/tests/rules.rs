//! The rules for Prometheus and the dashboard: they ask for metrics that exist, and the runbook
//! knows every alert.

use std::collections::BTreeSet;

const RULES: &str = include_str!("../../../../deploy/prometheus/rules.yml");
const DASHBOARD: &str = include_str!("../../../../deploy/grafana/tcptrace.json");
const RUNBOOK: &str = include_str!("../../../../docs/runbook.md");
/// Of this code: another test sees to that.
const REFERENCE: &str = include_str!("../../../../docs/metrics.md");

/// The names with the tracer's prefix; those that are recorded have colons before it.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_:".contains(character);
    text.split(|character| !is_part(character))
        .filter(|word| word.starts_with("tcptrace_"))
        .map(|word| {
            let ends = ["_bucket", "_count", "_sum"];
            let base = ends.iter().find_map(|end| word.strip_suffix(end));
            base.unwrap_or(word)
        })
        .collect()
}

#[test]
fn rules_dashboard_and_runbook_ask_for_metrics_that_exist() {
    let exist: BTreeSet<&str> = REFERENCE
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    for (what, text) in [
        ("the rules", RULES),
        ("the dashboard", DASHBOARD),
        ("the runbook", RUNBOOK),
    ] {
        let asked = metrics(text);
        assert!(asked.len() > 5, "{what} ask for {asked:?}");
        let missing: Vec<_> = asked.difference(&exist).collect();
        assert!(missing.is_empty(), "{what} ask for {missing:?}");
    }
}

#[test]
fn every_alert_is_in_the_runbook_and_leads_there() {
    let after = |text: &'static str, prefix| {
        let lines = text.lines().map(str::trim_start);
        lines.filter_map(move |line| line.strip_prefix(prefix))
    };
    let alerts: Vec<&str> = after(RULES, "- alert: ").collect();
    let headings: Vec<&str> = after(RUNBOOK, "## ").collect();
    assert_eq!(alerts, headings);
    let anchors: Vec<String> = after(RULES, "runbook_url: ")
        .map(|url| url.rsplit('#').next().unwrap_or_default().to_owned())
        .collect();
    let expected: Vec<String> = alerts.iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(anchors, expected);
}
