//! `tcptrace check`: shows what this kernel and these privileges allow, and what is missing.

use std::process::ExitCode;

use crate::{
    cli::{ColorChoice, config::color},
    output::render::Width,
    probe::Report,
    stdio,
};

/// Prints the report. The status is 0 if tracing works, and with `strict` only if every hook is
/// available.
pub fn run(strict: bool) -> anyhow::Result<ExitCode> {
    let report = Report::make();
    stdio::print(report.shown(Width::Terminal.now(), color(ColorChoice::Auto)))?;
    Ok(if report.passes(strict) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
