//! The order of a distribution's versions: deb-version(7).

use std::cmp::Ordering;

/// A package's version. Two that compare as equal may still be written differently.
#[derive(Clone, Debug)]
pub(crate) struct Version(String);

impl Version {
    /// The version that is written so.
    pub(crate) fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Epoch, upstream version, revision.
    fn parts(&self) -> (u32, &str, &str) {
        let (epoch, rest) = self.0.split_once(':').unwrap_or(("0", &self.0));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        (epoch.parse().unwrap_or(0), upstream, revision)
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        let (epoch, upstream, revision) = self.parts();
        let others = other.parts();
        epoch
            .cmp(&others.0)
            .then_with(|| compare(upstream, others.1))
            .then_with(|| compare(revision, others.2))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

/// Compares by turns what is not digits, character by character, and digits as numbers.
fn compare(mut left: &str, mut right: &str) -> Ordering {
    while !(left.is_empty() && right.is_empty()) {
        let (words, numbers) = (take(&mut left, false), take(&mut left, true));
        let others = (take(&mut right, false), take(&mut right, true));
        let order = compare_words(words, others.0).then_with(|| compare_numbers(numbers, others.1));
        if order != Ordering::Equal {
            return order;
        }
    }
    Ordering::Equal
}

/// Takes what stands in front: digits, or what is none.
fn take<'a>(text: &mut &'a str, digits: bool) -> &'a str {
    let end = text
        .find(|character: char| character.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    let (taken, rest) = text.split_at(end);
    *text = rest;
    taken
}

/// Letters come before what is none, the end before both, and a tilde before even the end.
fn compare_words(left: &str, right: &str) -> Ordering {
    let rank = |character: Option<u8>| match character {
        Some(b'~') => (0, 0),
        None => (1, 0),
        Some(letter) if letter.is_ascii_alphabetic() => (2, letter),
        Some(other) => (3, other),
    };
    let length = left.len().max(right.len());
    let ranks = |text: &'_ str| -> Vec<_> {
        let bytes = text.as_bytes();
        (0..length).map(|at| rank(bytes.get(at).copied())).collect()
    };
    ranks(left).cmp(&ranks(right))
}

/// Numbers of any length.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_the_distribution_orders_them() {
        let ordered = [
            "5.10.209-2",
            "5.10.262-1",
            "6.1.9-1",
            "6.1.176-1~deb11u1",
            "6.1.176-1",
            "6.1.176-1+b1",
            "6.1.176-2",
            "6.1.180-1~deb11u1",
            "6.12~rc7-1~exp1",
            "6.12.9-1",
            "6.12.95-1~bpo12+1",
            "6.12.95-1",
            "7.2.13-1",
            "7.3.4-1~bpo13+1",
            "7.3.4a-1",
            "7.3.4.1-1",
            "7.10.1-1",
            "1:5.10.1-1",
        ];
        for (at, left) in ordered.iter().enumerate() {
            for (other, right) in ordered.iter().enumerate() {
                let (left, right) = (Version::new(left), Version::new(right));
                assert_eq!(left.cmp(&right), at.cmp(&other), "{left:?} {right:?}");
            }
        }
    }

    #[test]
    fn zeros_in_front_change_nothing() {
        assert_eq!(Version::new("0:1.02-0"), Version::new("1.2"));
    }
}
