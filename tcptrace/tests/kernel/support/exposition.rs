//! The text that Prometheus reads, taken apart just as far as the tests need.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, ensure};

/// One line that is no comment.
#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// A scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    text: String,
    samples: Vec<Sample>,
}

impl Metrics {
    /// Reads a scrape's body.
    pub(crate) fn parse(text: &str) -> anyhow::Result<Self> {
        let samples = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| sample(line).with_context(|| format!("a line of the exposition: {line}")))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            text: text.to_owned(),
            samples,
        })
    }

    /// The text itself.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The sum over the series of a name that have all these labels; 0 without any.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|sample| sample.value).sum()
    }

    /// The same of what counts whole things, which an f64 holds exactly up to 2^53.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> i64 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "counts are small and whole"
        )]
        let count = self.sum(name, labels) as i64;
        count
    }

    /// There is a series of this name with these labels.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// How many series there are.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    fn matching(&self, name: &str, labels: &[(&str, &str)]) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| {
                    sample.labels.get(*label).map(String::as_str) == Some(*value)
                })
        })
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.text.lines().filter(|line| !line.starts_with('#')) {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

/// `name{label="value",…} 1`
fn sample(line: &str) -> anyhow::Result<Sample> {
    let (series, value) = line.rsplit_once(' ').context("no value")?;
    let (name, mut rest) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').context("no }")?),
        None => (series, ""),
    };
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").context("no =\"")?;
        let (value, after) = quoted.split_once('"').context("no closing quote")?;
        // Other escapes stay: none of the tests' own labels has one.
        ensure!(!value.ends_with('\\'), "a quotation mark in {quoted:?}");
        labels.insert(label.to_owned(), value.to_owned());
        rest = after.strip_prefix(',').unwrap_or(after);
    }
    Ok(Sample {
        name: name.to_owned(),
        labels,
        value: value.parse().context("the value")?,
    })
}
