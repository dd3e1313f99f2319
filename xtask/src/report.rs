//! Collects the results of tests from their output, and summarizes them.
//!
//! Understands the test harness of the standard library and those that imitate it, such as
//! libtest-mimic.

use std::{
    fmt,
    ops::{Add, AddAssign},
};

/// The most lines shown of a failure's reason.
const LINES: usize = 40;

/// The outcome of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Passed,
    /// It failed, with this output.
    Failed(String),
    /// It could not run, for this reason.
    Skipped(String),
}

/// How many tests passed, failed, and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

/// The tests of one binary, of one crate's documentation, or of one kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    /// What was tested.
    name: String,
    /// The finished tests, by name.
    tests: Vec<(String, Outcome)>,
    /// The test in progress: it may print something itself.
    running: Option<String>,
    /// The failed test whose output is being repeated.
    speaks: Option<usize>,
    /// The counts in the suite's last line, if it was seen.
    result: Option<Counts>,
}

/// All suites of a run.
#[derive(Debug, Default)]
pub(crate) struct Report {
    suites: Vec<Suite>,
}

impl Suite {
    /// A suite that has not begun.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }

    /// Takes one line of the tests' output.
    pub(crate) fn line(&mut self, line: &str) {
        let line = plain(line);
        let line = line.trim_end();
        if let Some(counts) = line.strip_prefix("test result: ") {
            let counts = Counts::parse(counts);
            self.result = Some(self.result.unwrap_or_default() + counts);
            (self.running, self.speaks) = (None, None);
        } else if line == "failures:" {
            self.speaks = None;
        } else if let Some(name) = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" ----"))
        {
            let name = name.strip_suffix(" stdout").unwrap_or(name);
            self.speaks = self.tests.iter().rposition(|(test, _)| test == name);
        } else if let Some(test) = self.speaks {
            if let Outcome::Failed(said) = &mut self.tests[test].1 {
                said.push_str(line);
                said.push('\n');
            }
        } else if let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ..."))
        {
            self.running = Some(name.trim_end().to_owned());
            self.end(outcome.trim_start());
        } else {
            self.end(line);
        }
    }

    /// Ends the test in progress, if this is an outcome.
    fn end(&mut self, text: &str) {
        let outcome = match text {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed(String::new()),
            "ignored" => Outcome::Skipped("it does not say why".to_owned()),
            _ => {
                let in_parentheses = text.strip_prefix("ignored (");
                let reason = in_parentheses.and_then(|reason| reason.strip_suffix(')'));
                match reason.or_else(|| text.strip_prefix("ignored, ")) {
                    Some(reason) => Outcome::Skipped(reason.to_owned()),
                    None => return,
                }
            }
        };
        if let Some(test) = self.running.take() {
            self.tests.push((test, outcome));
        }
    }

    /// Adds a failure that is not a test's own: of the test in progress, or of `what`.
    pub(crate) fn fail(&mut self, what: &str, why: String) {
        let test = self.running.take().unwrap_or_else(|| what.to_owned());
        self.tests.push((test, Outcome::Failed(why)));
        self.result = None;
    }

    /// Whether its last line was seen, and counts what was seen.
    pub(crate) fn is_whole(&self) -> bool {
        self.result == Some(self.seen())
    }

    /// Returns the suite's own counts, or else what was seen.
    pub(crate) fn counts(&self) -> Counts {
        self.result.unwrap_or_else(|| self.seen())
    }

    /// Returns the counts of the finished tests.
    fn seen(&self) -> Counts {
        let mut counts = Counts::default();
        for (_, outcome) in &self.tests {
            match outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Failed(_) => counts.failed += 1,
                Outcome::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }
}

impl Report {
    pub(crate) fn add(&mut self, suite: Suite) {
        self.suites.push(suite);
    }

    /// Adds a suite of one check, made without a test harness.
    pub(crate) fn check(&mut self, name: &str, outcome: Outcome) {
        self.add(Suite {
            name: name.to_owned(),
            tests: vec![(name.to_owned(), outcome)],
            ..Suite::default()
        });
    }

    /// Takes one line of the output of `cargo test`.
    pub(crate) fn line(&mut self, line: &str) {
        if let Some(suite) = heading(plain(line).trim()) {
            self.add(Suite::new(suite));
        } else if let Some(suite) = self.suites.last_mut() {
            suite.line(line);
        }
    }

    /// Ends the output of `cargo test`. If it failed, a suite without a result failed, or something
    /// else did.
    pub(crate) fn end(&mut self, success: bool) {
        if success {
            return;
        }
        for suite in &mut self.suites {
            if suite.result.is_none() && suite.running.is_some() {
                suite.fail("", "the suite ended before it did".to_owned());
            } else if suite.result.is_none() && suite.tests.is_empty() {
                suite.fail("(all)", "the suite ended before its tests did".to_owned());
            }
        }
        if self.counts().failed == 0 {
            let failed = Outcome::Failed("it failed before it ran all tests".to_owned());
            self.check("cargo test", failed);
        }
    }

    /// Returns the sum of all suites.
    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for suite in &self.suites {
            sum += suite.counts();
        }
        sum
    }

    /// Returns the tests with remarks, and where they ran; equal remarks of several suites once.
    fn remarks<'a>(
        &'a self,
        says: impl Fn(&'a Outcome) -> Option<&'a str>,
    ) -> Vec<(&'a str, &'a str, Vec<&'a str>)> {
        let mut remarks: Vec<(&str, &str, Vec<&str>)> = Vec::new();
        for suite in &self.suites {
            for (test, outcome) in &suite.tests {
                let Some(said) = says(outcome) else {
                    continue;
                };
                let mut known = remarks.iter_mut();
                match known.find(|(name, what, _)| (*name, *what) == (test, said)) {
                    Some((_, _, suites)) => suites.push(&suite.name),
                    None => remarks.push((test, said, vec![&suite.name])),
                }
            }
        }
        remarks
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suites = self
            .suites
            .iter()
            .map(|suite| (&suite.name, suite.counts()));
        let suites: Vec<_> = suites
            .filter(|(_, counts)| *counts != Counts::default())
            .collect();
        let width = suites.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        writeln!(formatter, "{:width$}  passed  failed  skipped", "suite")?;
        for (name, counts) in suites {
            writeln!(
                formatter,
                "{name:width$}  {:6}  {:6}  {:7}",
                counts.passed, counts.failed, counts.skipped
            )?;
        }
        let skipped = self.remarks(|outcome| match outcome {
            Outcome::Skipped(reason) => Some(reason),
            Outcome::Passed | Outcome::Failed(_) => None,
        });
        if !skipped.is_empty() {
            writeln!(formatter, "\nSkipped:")?;
        }
        for (test, reason, suites) in skipped {
            writeln!(formatter, "  {test} ({}): {reason}", suites.join(", "))?;
        }
        let failed = self.remarks(|outcome| match outcome {
            Outcome::Failed(said) => Some(said.trim()),
            Outcome::Passed | Outcome::Skipped(_) => None,
        });
        if !failed.is_empty() {
            writeln!(formatter, "\nFailed:")?;
        }
        for (test, said, suites) in failed {
            writeln!(formatter, "  {test} ({})", suites.join(", "))?;
            for line in said.lines().take(LINES) {
                writeln!(formatter, "    {line}")?;
            }
        }
        Ok(())
    }
}

impl Counts {
    /// Parses the last line of a suite.
    fn parse(line: &str) -> Self {
        let count = |what: &str| {
            let mut parts = line.split([';', '.']);
            let number = parts.find_map(|part| part.trim().strip_suffix(what))?;
            number.trim().parse().ok()
        };
        Self {
            passed: count("passed").unwrap_or(0),
            failed: count("failed").unwrap_or(0),
            skipped: count("ignored").unwrap_or(0),
        }
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            skipped: self.skipped + other.skipped,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

/// Prints them in the format of test harnesses, for tools that read the last line of a run.
impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passed,
            failed,
            skipped,
        } = self;
        write!(
            formatter,
            "{passed} passed, {failed} failed, {skipped} skipped"
        )
    }
}

/// Returns the name of the suite that cargo is about to run.
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

/// Returns a line without colour sequences.
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
mod tests {
    use super::*;

    /// A run as cargo prints it: a library, a harness of our own, documentation in two parts.
    const RUN: &str = "\
   Compiling tcptrace v0.1.0 (/src/tcptrace)
\x1b[1m\x1b[92m     Running\x1b[0m unittests src/lib.rs (target/debug/deps/tcptrace-0123456789abcdef)

running 3 tests
test state::names ... \x1b[32mok\x1b[0m
test tracker::refused ... FAILED
test slow::all_of_it ... ignored, takes an hour

failures:

---- tracker::refused stdout ----
test tracker ... ok
it was not refused

failures:
    tracker::refused

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.12s

     Running tests/kernel.rs (target/debug/deps/kernel-fedcba9876543210)

running 2 tests
test open   ... ok
test accept ... the daemon says something
ignored (needs root)

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 3.00s

   Doc-tests tcptrace

running 1 test
test src/lib.rs - state (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s

running 1 test
test src/lib.rs - state (line 9) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s
";

    /// Returns the report on some output.
    fn report(output: &str, success: bool) -> Report {
        let mut report = Report::default();
        output.lines().for_each(|line| report.line(line));
        report.end(success);
        report
    }

    #[test]
    fn counts_and_names_what_ran() {
        let report = report(RUN, false);
        assert_eq!(report.counts().to_string(), "4 passed, 1 failed, 2 skipped");
        assert_eq!(
            report.to_string(),
            "\
suite                     passed  failed  skipped
tcptrace (src/lib.rs)          1       1        1
tests/kernel.rs                1       0        1
tcptrace (documentation)       2       0        0

Skipped:
  slow::all_of_it (tcptrace (src/lib.rs)): takes an hour
  accept (tests/kernel.rs): needs root

Failed:
  tracker::refused (tcptrace (src/lib.rs))
    test tracker ... ok
    it was not refused
"
        );
    }

    #[test]
    fn a_suite_that_crashes_has_failed() {
        let (begun, _) = RUN.split_once("FAILED").expect("a test of it");
        for (crashed, failed) in [
            (begun, "  tracker::refused (tcptrace (src/lib.rs))\n"),
            (
                &RUN[..begun.find("\ntest ").expect("a test")],
                "  (all) (tcptrace (src/lib.rs))\n",
            ),
        ] {
            let report = report(crashed, false);
            assert_eq!(report.counts().failed, 1, "{crashed}");
            assert!(report.to_string().contains(failed), "{report}");
        }
    }

    #[test]
    fn a_suite_that_does_not_compile_has_failed() {
        let report = report("error: could not compile `tcptrace`\n", false);
        assert_eq!(report.counts().to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_run_that_only_counts_is_counted() {
        let quiet = |line: &&str| !line.starts_with("test ") || line.starts_with("test result: ");
        let run: String = RUN
            .lines()
            .filter(quiet)
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(
            report(&run, false).counts().to_string(),
            "4 passed, 1 failed, 2 skipped"
        );
    }

    #[test]
    fn a_skip_reason_of_several_suites_is_listed_once() {
        let mut report = Report::default();
        for kernel in ["Linux 5.10", "Linux 6.1"] {
            let mut suite = Suite::new(kernel);
            suite.line("test mptcp ... ignored (no MPTCP)");
            report.add(suite);
        }
        let shown = report.to_string();
        assert!(
            shown.ends_with("\n  mptcp (Linux 5.10, Linux 6.1): no MPTCP\n"),
            "{shown}"
        );
    }
}
