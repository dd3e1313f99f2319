//! `tcptrace check`: what this kernel and these privileges allow, and what is missing without it.

use std::process::ExitCode;

use crate::{probe::Report, stdio};

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
