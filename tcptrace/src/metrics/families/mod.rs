//! Encodes a scrape: every metric's name, type, labels and help.
//!
//! One file per group of metrics. Nothing is decided here: what is counted, and under which label,
//! was decided when it was counted. What a missing hook or field would have measured is absent,
//! never zero.

mod build;
mod cgroups;
mod connections;
mod durations;
mod family;
mod levels;
mod process;
mod single;
mod tracer;

use prometheus::{Encoder, TextEncoder, proto::MetricFamily};

use self::family::Family;
pub use self::process::ProcessUse;
use super::scrape::Scrape;

/// Returns the text of a scrape.
pub fn encode(scrape: &Scrape) -> Result<String, prometheus::Error> {
    let mut families = of_scrape(scrape);
    families.push(build::info());
    spell_out(families)
}

/// Converts it to OpenMetrics 1.0: a counter's family has no `_total`, quotation marks in helps are
/// escaped, and there is an end.
pub fn as_open_metrics(text: &str) -> String {
    let mut open = String::with_capacity(text.len() + 1024);
    for line in text.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| {
            let (keyword, rest) = rest.split_once(' ')?;
            let (name, rest) = rest.split_once(' ')?;
            Some((keyword, name, rest))
        });
        match comment {
            Some((keyword, name, rest)) => {
                let family = name.strip_suffix("_total").unwrap_or(name);
                let rest = match keyword {
                    "HELP" => rest.replace('"', "\\\""),
                    _ => rest.to_owned(),
                };
                open.push_str(&format!("# {keyword} {family} {rest}\n"));
            }
            None => {
                open.push_str(line);
                open.push('\n');
            }
        }
    }
    open.push_str("# EOF\n");
    open
}

/// Returns the text of a scrape without what depends on this build.
#[cfg(test)]
pub(super) fn encode_scrape(scrape: &Scrape) -> String {
    spell_out(of_scrape(scrape)).unwrap()
}

/// Returns the table of all metrics, as Markdown.
#[cfg(test)]
pub(super) fn reference(scrape: &Scrape) -> String {
    let mut families = of_scrape(scrape);
    families.push(build::info());
    families.extend(process::families(&ProcessUse::read()));
    let mut rows: Vec<String> = families.iter().map(Family::row).collect();
    rows.sort();
    rows.dedup();
    let rows = rows.concat();
    format!(
        "# Metrics\n\n\
         Everything that `tcptrace daemon` exports. What the kernel or the privileges do not let it measure is absent, never\n\
         0. `port` is the port of the service: `other` is a port without a label of its own, `unknown` one that is not known.\n\n\
         At every scrape, attempts = established + failed + pending + evicted attempts, and established + seeded = closed +\n\
         live + evicted connections. [Operations](operations.md#labels) says which ports and cgroups get labels.\n\n\
         | metric | type | labels | what it tells |\n|---|---|---|---|\n{rows}"
    )
}

/// Returns the families that a scrape alone determines.
fn of_scrape(scrape: &Scrape) -> Vec<Family> {
    let mut families = connections::families(scrape);
    families.extend(durations::families(scrape));
    families.extend(cgroups::families(scrape));
    families.extend(tracer::families(scrape));
    families.extend(single::families(scrape));
    families.extend(levels::families(scrape));
    families.extend(process::families(&scrape.context.process));
    families
}

/// Returns the text of the families, in the order of their names.
fn spell_out(families: Vec<Family>) -> Result<String, prometheus::Error> {
    let mut families: Vec<MetricFamily> = families.into_iter().filter_map(Family::finish).collect();
    families.sort_by(|one, other| one.name().cmp(other.name()));
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}
