//! What the tests said, gathered from what they print, and the summary of it.
//!
//! Understands the test harness of the standard library and those that imitate it, libtest-mimic
//! for one.

use std::fmt;

use crate::vm::{Counts, Guest, Outcome};

/// The tests of one binary, or of one crate's documentation.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    /// What was tested.
    pub(crate) name: String,
    /// How many tests passed.
    pub(crate) passed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// How many did not run: each says why, below.
    pub(crate) skipped: usize,
    /// Whether the line that closes a suite was seen.
    finished: bool,
}

/// A test that failed or was skipped.
#[derive(Debug, PartialEq, Eq)]
struct Remark {
    /// The suite it belongs to.
    suite: String,
    /// The test.
    test: String,
    /// Why it was skipped, if it says so.
    reason: Option<String>,
}

/// All suites of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    suites: Vec<Suite>,
    skipped: Vec<Remark>,
    failed: Vec<Remark>,
    /// A test whose name was printed, and its outcome not yet: it prints something itself.
    pending: Option<String>,
}

impl Report {
    /// Adds a suite of one check, made without a test harness.
    pub(crate) fn check(&mut self, name: &str, passed: bool) {
        self.suites.push(Suite {
            name: name.to_owned(),
            passed: usize::from(passed),
            failed: usize::from(!passed),
            skipped: 0,
            finished: true,
        });
    }

    /// Adds a suite that is not run, and why.
    pub(crate) fn skip(&mut self, suite: &str, test: &str, reason: &str) {
        self.suites.push(Suite {
            name: suite.to_owned(),
            skipped: 1,
            finished: true,
            ..Suite::default()
        });
        self.skipped.push(Remark {
            suite: suite.to_owned(),
            test: test.to_owned(),
            reason: Some(reason.to_owned()),
        });
    }

    /// Adds the tests that another kernel ran.
    pub(crate) fn guest(&mut self, guest: &Guest) {
        let Counts {
            passed,
            failed,
            skipped,
        } = guest.counts();
        let suite = format!("tests/kernel on Linux {}", guest.version());
        for test in &guest.story.tests {
            let (remarks, reason) = match &test.outcome {
                Outcome::Passed => continue,
                Outcome::Failed(_) => (&mut self.failed, None),
                Outcome::Skipped(reason) => (&mut self.skipped, Some(reason.clone())),
            };
            remarks.push(Remark {
                suite: suite.clone(),
                test: test.name.clone(),
                reason,
            });
        }
        self.suites.push(Suite {
            name: suite,
            passed,
            failed,
            skipped,
            finished: true,
        });
    }

    /// Takes in one line of what `cargo test` printed.
    pub(crate) fn line(&mut self, line: &str) {
        let line = plain(line);
        let trimmed = line.trim();
        if let Some(suite) = heading(trimmed) {
            self.suites.push(Suite {
                name: suite,
                ..Suite::default()
            });
            self.pending = None;
        } else if let Some(counts) = trimmed.strip_prefix("test result: ") {
            self.result(counts);
        } else if let Some((test, outcome)) = trimmed
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ..."))
        {
            self.outcome(test.trim(), outcome.trim());
        } else if let Some(test) = self.pending.take_if(|_| is_outcome(trimmed)) {
            self.outcome(&test, trimmed);
        }
    }

    /// Ends the run. When cargo failed, a suite without a result did, and so did what is no suite.
    pub(crate) fn end(&mut self, success: bool) {
        if success {
            return;
        }
        for suite in self.suites.iter_mut().filter(|suite| !suite.finished) {
            suite.failed += 1;
            suite.name.push_str(" (ended before its tests did)");
        }
        if self.suites.iter().all(|suite| suite.failed == 0) {
            self.check("cargo test (failed before it ran all tests)", false);
        }
    }

    /// Whether nothing failed.
    pub(crate) fn success(&self) -> bool {
        self.suites.iter().all(|suite| suite.failed == 0)
    }

    /// Takes in the line that closes a suite.
    fn result(&mut self, counts: &str) {
        let count = |what: &str| {
            let number = counts
                .split([';', '.'])
                .find_map(|part| part.trim().strip_suffix(what));
            number
                .and_then(|number| number.trim().parse().ok())
                .unwrap_or(0)
        };
        if self.suites.last().is_none_or(|suite| suite.finished) {
            self.suites.push(Suite {
                name: "(a suite without a name)".to_owned(),
                ..Suite::default()
            });
        }
        if let Some(suite) = self.suites.last_mut() {
            suite.passed = count("passed");
            suite.failed = count("failed");
            suite.skipped = count("ignored");
            suite.finished = true;
        }
    }

    /// Takes in what became of one test.
    fn outcome(&mut self, test: &str, outcome: &str) {
        self.pending = None;
        let suite = self
            .suites
            .last()
            .map_or_else(String::new, |suite| suite.name.clone());
        let remark = |reason| Remark {
            suite,
            test: test.to_owned(),
            reason,
        };
        if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches([',', ' ']);
            let reason = reason
                .strip_prefix('(')
                .and_then(|r| r.strip_suffix(')'))
                .unwrap_or(reason);
            self.skipped
                .push(remark((!reason.is_empty()).then(|| reason.to_owned())));
        } else if outcome.starts_with("FAILED") {
            self.failed.push(remark(None));
        } else if !is_outcome(outcome) {
            self.pending = Some(test.to_owned());
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suites = || {
            self.suites
                .iter()
                .filter(|s| s.passed + s.failed + s.skipped > 0)
        };
        let width = suites().map(|suite| suite.name.len()).max().unwrap_or(0);
        writeln!(formatter, "{:width$}  passed  failed  skipped", "suite")?;
        for Suite {
            name,
            passed,
            failed,
            skipped,
            ..
        } in suites()
        {
            writeln!(
                formatter,
                "{name:width$}  {passed:6}  {failed:6}  {skipped:7}"
            )?;
        }
        for (heading, remarks) in [("Skipped", &self.skipped), ("Failed", &self.failed)] {
            if !remarks.is_empty() {
                writeln!(formatter, "\n{heading}:")?;
            }
            for Remark {
                suite,
                test,
                reason,
            } in remarks
            {
                let reason = reason
                    .as_ref()
                    .map_or_else(String::new, |reason| format!(": {reason}"));
                writeln!(formatter, "  {suite}  {test}{reason}")?;
            }
        }
        Ok(())
    }
}

/// The last line of a run, as tools that read such lines know it.
pub(crate) fn closing_line(report: &Report) -> String {
    let sum = |count: fn(&Suite) -> usize| report.suites.iter().map(count).sum::<usize>();
    format!(
        "{} passed, {} failed, {} skipped",
        sum(|suite| suite.passed),
        sum(|suite| suite.failed),
        sum(|suite| suite.skipped)
    )
}

/// The name of the suite that cargo says it runs now.
fn heading(line: &str) -> Option<String> {
    if let Some(package) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{package} (documentation)"));
    }
    let (source, binary) = line
        .strip_prefix("Running ")?
        .strip_suffix(')')?
        .split_once(" (")?;
    let Some(source) = source.strip_prefix("unittests ") else {
        return Some(source.to_owned());
    };
    // cargo does not name the package, but the binary is called after the crate:
    // crate-0123456789abcdef.
    let name = binary.rsplit('/').next()?.rsplit_once('-')?.0;
    Some(format!("{name} ({source})"))
}

/// Whether a line is what a test harness writes after a test's name.
fn is_outcome(text: &str) -> bool {
    text == "ok"
        || text == "FAILED"
        || text == "ignored"
        || text.starts_with("ignored (")
        || text.starts_with("ignored, ")
        || text.starts_with("bench:")
}

/// A line without the escape sequences that color it.
fn plain(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\x1b' {
            characters.find(char::is_ascii_alphabetic);
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests;
