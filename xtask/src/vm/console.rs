//! What a guest says over its serial line, and what that means.
//!
//! Only a verdict makes a guest a good one. One that went away, panicked, hung or contradicts itself
//! has a failed test: the one that ran then, or the machine itself.

use std::collections::BTreeMap;

use super::machine::{End, Life};

/// What the guest's first process puts before the kernel's release, and before its verdict.
pub(super) const GREETING: &str = "TCPTRACE-VM-KERNEL: ";
const VERDICT: &str = "TCPTRACE-VM-VERDICT: ";
/// What a failure that is no test's is the failure of.
const MACHINE: &str = "(the machine)";
/// What a kernel says when it cannot go on.
const PANICS: [&str; 2] = ["Kernel panic - ", "Oops: "];

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It passed.
    Passed,
    /// It failed, for this reason.
    Failed(String),
    /// It could not run, for this reason.
    Skipped(String),
}

/// A test and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Test {
    /// Its name, with its module's.
    pub(crate) name: String,
    /// What became of it.
    pub(crate) outcome: Outcome,
}

/// How many tests passed, failed, and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How many passed.
    pub(crate) passed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// How many were skipped.
    pub(crate) skipped: usize,
}

/// What a guest said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// The tests that ended.
    pub(crate) tests: Vec<Test>,
    /// What is wrong with the guest itself, if something is. It is the failure of a test as well.
    pub(crate) trouble: Option<String>,
}

/// The lines that matter.
#[derive(Default)]
struct Lines<'a> {
    release: Option<&'a str>,
    tests: Vec<Test>,
    /// The test that began last, and has not ended.
    running: Option<&'a str>,
    verdict: Option<&'a str>,
    panic: Option<&'a str>,
}

impl Counts {
    /// Counts tests.
    pub(crate) fn of<'a>(tests: impl IntoIterator<Item = &'a Test>) -> Self {
        let mut counts = Self::default();
        for test in tests {
            match test.outcome {
                Outcome::Passed => counts.passed += 1,
                Outcome::Failed(_) => counts.failed += 1,
                Outcome::Skipped(_) => counts.skipped += 1,
            }
        }
        counts
    }

    /// Reads a verdict.
    fn parse(verdict: &str) -> Option<Self> {
        let mut words = verdict.split(' ');
        let mut count = |name: &str| -> Option<usize> {
            let value = words.next()?.strip_prefix(name)?.strip_prefix('=')?;
            value.parse().ok()
        };
        let counts = Self {
            passed: count("passed")?,
            failed: count("failed")?,
            skipped: count("skipped")?,
        };
        words.next().is_none().then_some(counts)
    }
}

/// Tells what happened in a guest that was asked for certain tests, or for all.
pub(crate) fn tell(life: &Life, for_all: bool) -> Story {
    let text = life.console.replace('\r', "");
    let mut lines = Lines::default();
    for line in text.lines() {
        lines.take(line);
    }
    let mut tests = lines.tests;
    explain(&mut tests, &text);
    let counts = Counts::of(&tests);
    let trouble = match lines.verdict {
        None => Some(silent_end(life, &text, lines.release, lines.panic)),
        Some(verdict) => match Counts::parse(verdict) {
            None => Some(verdict.to_owned()),
            Some(said) if said != counts => Some(format!(
                "its verdict is {verdict}, and its console shows {} passed, {} failed, {} skipped",
                counts.passed, counts.failed, counts.skipped
            )),
            Some(_) if counts.passed + counts.failed == 0 && (for_all || tests.is_empty()) => {
                Some("not one test ran".to_owned())
            }
            Some(_) => None,
        },
    };
    if let Some(trouble) = &trouble {
        tests.push(Test {
            name: lines.running.unwrap_or(MACHINE).to_owned(),
            outcome: Outcome::Failed(trouble.clone()),
        });
    }
    Story { tests, trouble }
}

impl<'a> Lines<'a> {
    /// Takes in the next one. A kernel that is in trouble speaks in the middle of a line.
    fn take(&mut self, line: &'a str) {
        if let Some(at) = PANICS.iter().find_map(|panic| line.find(panic)) {
            self.panic.get_or_insert(&line[at..]);
        }
        if let Some((_, release)) = line.split_once(GREETING) {
            self.release = Some(release);
        } else if let Some((_, verdict)) = line.split_once(VERDICT) {
            self.verdict = Some(verdict.trim_end());
        } else if let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.split_once(" ... "))
        {
            self.running = Some(name.trim_end());
            self.end(outcome);
        } else {
            self.end(line);
        }
    }

    /// Ends the test that runs, if this is an outcome. A test may say something itself before.
    fn end(&mut self, text: &str) {
        let outcome = match text {
            "ok" => Outcome::Passed,
            "FAILED" => Outcome::Failed(String::new()),
            "ignored" => Outcome::Skipped("it does not say why".to_owned()),
            text => {
                let reason = text.strip_prefix("ignored (");
                let Some(reason) = reason.and_then(|reason| reason.strip_suffix(')')) else {
                    return;
                };
                Outcome::Skipped(reason.to_owned())
            }
        };
        if let Some(name) = self.running.take() {
            self.tests.push(Test {
                name: name.to_owned(),
                outcome,
            });
        }
    }
}

/// Adds to failed tests what they say of it, at the end of all: below a line of their name.
fn explain(tests: &mut [Test], text: &str) {
    let mut reasons: BTreeMap<&str, String> = BTreeMap::new();
    let mut of = None;
    for line in text.lines() {
        let heading = line
            .strip_prefix("---- ")
            .and_then(|rest| rest.strip_suffix(" ----"));
        if heading.is_some() {
            of = heading;
        } else if line == "failures:" || line.starts_with("test result: ") {
            of = None;
        } else if let Some(test) = of {
            let reason = reasons.entry(test).or_default();
            reason.push_str(line);
            reason.push('\n');
        }
    }
    for test in tests {
        if let Outcome::Failed(reason) = &mut test.outcome {
            let said = reasons
                .get(test.name.as_str())
                .map_or("", |said| said.trim());
            *reason = if said.is_empty() {
                "it does not say why"
            } else {
                said
            }
            .to_owned();
        }
    }
}

/// How much of the console is shown when there is no verdict.
const LAST_LINES: usize = 20;

/// Why there is no verdict, and the end of the console.
fn silent_end(life: &Life, text: &str, release: Option<&str>, panic: Option<&str>) -> String {
    let stage = match release {
        Some(_) => "while the tests ran",
        None => "before its first process spoke",
    };
    let why = match (panic, &life.end) {
        (_, End::Broken(error)) => format!("QEMU failed {stage}: {error}"),
        (Some(panic), _) => format!("the kernel died {stage}: {}", panic.trim_end()),
        (None, End::Off) => format!("it went off without a verdict, {stage}"),
        (None, End::Unbooted(time)) => {
            format!("it did not boot: no greeting in {} s", time.as_secs())
        }
        (None, End::Silent(time)) => {
            format!(
                "it hung {stage}: nothing was heard for {} s",
                time.as_secs()
            )
        }
        (None, End::Endless(time)) => {
            format!("it was stopped {stage}, after {} s", time.as_secs())
        }
    };
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].join("\n");
    match last.is_empty() {
        true => format!("{why}. The console is empty"),
        false => format!("{why}. The end of the console:\n{last}"),
    }
}

#[cfg(test)]
mod tests;
