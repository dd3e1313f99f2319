//! A kernel that ran the tests.

use std::{fmt, path::PathBuf, time::Duration};

use super::{
    console::{Counts, Story, Test, tell},
    machine::{Accelerator, Life},
};

/// What came of one kernel.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The kernel's release.
    pub(crate) release: String,
    /// What ran it.
    pub(crate) accelerator: Accelerator,
    /// How long that took.
    pub(crate) took: Duration,
    /// What happened.
    pub(crate) story: Story,
    /// What it said.
    pub(crate) console: String,
    /// Where that is kept.
    pub(crate) log: PathBuf,
}

impl Guest {
    /// A guest whose life is over. `for_all` says that it was asked for all tests.
    pub(crate) fn new(
        release: &str,
        accelerator: Accelerator,
        life: Life,
        log: PathBuf,
        for_all: bool,
    ) -> Self {
        Self {
            release: release.to_owned(),
            accelerator,
            took: life.took,
            story: tell(&life, for_all),
            console: life.console,
            log,
        }
    }

    /// A guest that went off having said this.
    #[cfg(test)]
    pub(crate) fn of(release: &str, console: &str) -> Self {
        let life = Life {
            console: console.to_owned(),
            end: super::machine::End::Off,
            took: Duration::ZERO,
        };
        let log = PathBuf::from("log");
        Self::new(release, Accelerator::Tcg, life, log, true)
    }

    /// The release without what all of them have.
    pub(crate) fn version(&self) -> &str {
        self.release
            .strip_suffix("-cloud-amd64")
            .unwrap_or(&self.release)
    }

    /// One of the tests.
    pub(crate) fn test(&self, name: &str) -> Option<&Test> {
        self.story.tests.iter().find(|test| test.name == name)
    }

    /// How many tests passed, failed, and were skipped.
    pub(crate) fn counts(&self) -> Counts {
        Counts::of(&self.story.tests)
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, seconds) = (self.counts(), self.took.as_secs());
        write!(
            formatter,
            "Linux {}: {counts} in {seconds} s, {}",
            self.release, self.accelerator
        )
    }
}
