//! What became of each test on each kernel.

use std::fmt;

use super::{
    console::{Counts, Outcome, Test},
    guest::Guest,
};

/// So much of a failure's reason is shown; the rest is in the log.
const LINES: usize = 20;
/// So much of the console of a guest that is in trouble.
const END: usize = 40;

/// The table of all guests, and below it the reasons.
pub(crate) struct Table<'a>(pub(crate) &'a [Guest]);

impl Table<'_> {
    /// The tests' names: those of each guest in its order, each once.
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for test in self.0.iter().flat_map(|guest| &guest.story.tests) {
            if !names.contains(&test.name.as_str()) {
                names.push(&test.name);
            }
        }
        names
    }

    /// A line for each test.
    fn rows(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
        let mut header = format!("{:width$}", "test");
        for guest in self.0 {
            header.push_str("  ");
            header.push_str(guest.version());
        }
        writeln!(formatter, "{header}")?;
        for name in names {
            let mut row = format!("{name:width$}");
            for guest in self.0 {
                let width = guest.version().len();
                row.push_str(&format!("  {:width$}", word(guest.test(name))));
            }
            writeln!(formatter, "{}", row.trim_end())?;
        }
        Ok(())
    }

    /// The reasons for what was skipped: those that are the same on several kernels once.
    fn skipped(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut reasons: Vec<(&str, &str, Vec<&str>)> = Vec::new();
        for guest in self.0 {
            for test in &guest.story.tests {
                let Outcome::Skipped(reason) = &test.outcome else {
                    continue;
                };
                let same = |known: &&mut (&str, &str, Vec<&str>)| {
                    (known.0, known.1) == (test.name.as_str(), reason.as_str())
                };
                match reasons.iter_mut().find(same) {
                    Some((_, _, kernels)) => kernels.push(guest.version()),
                    None => reasons.push((&test.name, reason, vec![guest.version()])),
                }
            }
        }
        if !reasons.is_empty() {
            writeln!(formatter, "\nSkipped:")?;
        }
        for (test, reason, kernels) in reasons {
            writeln!(formatter, "  {test} on {}: {reason}", kernels.join(", "))?;
        }
        Ok(())
    }

    /// What failed, with the end of the console where the guest itself did.
    fn failed(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for guest in self.0 {
            for test in &guest.story.tests {
                if let Outcome::Failed(reason) = &test.outcome {
                    writeln!(formatter, "\nFAILED: {} on {}", test.name, guest.version())?;
                    let lines: Vec<&str> = reason.lines().collect();
                    indent(formatter, &lines[..lines.len().min(LINES)])?;
                    if lines.len() > LINES {
                        let log = guest.log.display();
                        writeln!(
                            formatter,
                            "  ... {} lines more in {log}",
                            lines.len() - LINES
                        )?;
                    }
                }
            }
            if guest.story.trouble.is_some() {
                let log = guest.log.display();
                writeln!(formatter, "\nThe end of {log}, of {}:", guest.version())?;
                let lines: Vec<&str> = guest.console.lines().map(str::trim_end).collect();
                indent(formatter, &lines[lines.len().saturating_sub(END)..])?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows(formatter)?;
        self.skipped(formatter)?;
        self.failed(formatter)
    }
}

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

/// What stands in the table.
fn word(test: Option<&Test>) -> &'static str {
    match test.map(|test| &test.outcome) {
        Some(Outcome::Passed) => "ok",
        Some(Outcome::Failed(_)) => "FAILED",
        Some(Outcome::Skipped(_)) => "skipped",
        None => "-",
    }
}

/// Lines, set off from the margin.
fn indent(formatter: &mut fmt::Formatter<'_>, lines: &[&str]) -> fmt::Result {
    lines
        .iter()
        .try_for_each(|line| writeln!(formatter, "  {line}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{console::Story, machine::Accelerator},
        *,
    };

    /// A guest with three tests: what passed, what failed and why, what was skipped and why.
    fn guest(release: &str, outcomes: [(&str, Outcome); 3]) -> Guest {
        let tests = outcomes.map(|(name, outcome)| Test {
            name: name.to_owned(),
            outcome,
        });
        Guest {
            release: release.to_owned(),
            accelerator: Accelerator::Tcg,
            took: Duration::from_secs(60),
            story: Story {
                tests: tests.into(),
                trouble: None,
            },
            console: String::new(),
            log: "target/vm/log".into(),
        }
    }

    #[test]
    fn each_test_has_a_line_and_each_reason_one_too() {
        let skipped = || Outcome::Skipped("no MPTCP".to_owned());
        let failed = Outcome::Failed("the verdict is unknown\nand wrong".to_owned());
        let guests = [
            guest(
                "5.10.0-46-cloud-amd64",
                [
                    ("deaths::linger", Outcome::Passed),
                    ("odd::mptcp", skipped()),
                    ("odd::ipv6", skipped()),
                ],
            ),
            guest(
                "7.3.4+deb13-cloud-amd64",
                [
                    ("deaths::linger", failed),
                    ("odd::ipv6", skipped()),
                    ("odd::new", Outcome::Passed),
                ],
            ),
        ];
        assert_eq!(
            Table(&guests).to_string(),
            "\
test            5.10.0-46  7.3.4+deb13
deaths::linger  ok         FAILED
odd::mptcp      skipped    -
odd::ipv6       skipped    skipped
odd::new        -          ok

Skipped:
  odd::mptcp on 5.10.0-46: no MPTCP
  odd::ipv6 on 5.10.0-46, 7.3.4+deb13: no MPTCP

FAILED: deaths::linger on 7.3.4+deb13
  the verdict is unknown
  and wrong
"
        );
    }

    #[test]
    fn of_a_guest_in_trouble_the_consoles_end_is_shown() {
        let console: String = (0..100).map(|line| format!("line {line}\r\n")).collect();
        let guest = Guest::of("7.3.4-cloud-amd64", &console);
        let shown = Table(&[guest]).to_string();
        assert!(
            shown.contains("FAILED: (the machine) on 7.3.4\n  it went off without"),
            "{shown}"
        );
        assert!(shown.ends_with("  line 98\n  line 99\n"), "{shown}");
        assert!(!shown.contains("line 59\n"), "{shown}");
    }
}
