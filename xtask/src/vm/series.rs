//! The series of kernels that the tests run on.

use std::fmt;

use clap::ValueEnum;

/// A series of kernels, the oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Series {
    /// Debian 11's: the oldest one that has all that the programs need.
    #[value(name = "5.10")]
    V5_10,
    /// Debian 12's.
    #[value(name = "6.1")]
    V6_1,
    /// Debian 13's.
    #[value(name = "6.12")]
    V6_12,
    /// The newest there is.
    #[value(name = "7.x")]
    V7,
}

impl Series {
    /// All of them.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// The oldest and the newest.
    pub(crate) fn ends() -> Vec<Self> {
        vec![Self::V5_10, Self::V7]
    }

    /// How it is called on the command line and in directories.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::V7 => "7.x",
        }
    }

    /// Whether a kernel is of this series, by its release, such as `6.1.0-50-cloud-amd64`.
    pub(crate) fn has(self, release: &str) -> bool {
        let mut numbers = release.split(['.', '-', '+']).map(str::parse::<u32>);
        let Some(Ok(major)) = numbers.next() else {
            return false;
        };
        let Some(Ok(minor)) = numbers.next() else {
            return false;
        };
        match self {
            Self::V5_10 => (major, minor) == (5, 10),
            Self::V6_1 => (major, minor) == (6, 1),
            Self::V6_12 => (major, minor) == (6, 12),
            Self::V7 => major == 7,
        }
    }
}

impl fmt::Display for Series {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_of_one_series() {
        for (release, series) in [
            ("5.10.0-46-cloud-amd64", Series::V5_10),
            ("6.1.0-50-cloud-amd64", Series::V6_1),
            ("6.1.0-0.deb11.52-cloud-amd64", Series::V6_1),
            ("6.12.95+deb12-cloud-amd64", Series::V6_12),
            ("7.3.4+deb13-cloud-amd64", Series::V7),
        ] {
            let of: Vec<_> = Series::all()
                .into_iter()
                .filter(|series| series.has(release))
                .collect();
            assert_eq!(of, [series], "{release}");
        }
    }

    #[test]
    fn other_releases_are_of_none() {
        for release in ["6.16.12+deb13-cloud-amd64", "5.1.0", "70.1", "7", "cloud"] {
            assert!(
                !Series::all().iter().any(|series| series.has(release)),
                "{release}"
            );
        }
    }

    #[test]
    fn the_ends_are_the_first_and_the_last() {
        let all = Series::all();
        assert!(all.is_sorted());
        assert_eq!(Series::ends(), [all[0], all[all.len() - 1]]);
    }

    #[test]
    fn the_command_line_knows_the_same_names() {
        for series in Series::all() {
            assert_eq!(Series::from_str(series.name(), false), Ok(series));
        }
    }
}
