//! Explanations: what each verdict looks like on the wire, how it is known, its usual causes and
//! what to do; the same for handshake and release. `tcptrace explain` prints them, and
//! `docs/verdicts.md` is made from them.

mod example;
mod texts;

use std::{fmt::Write as _, str::FromStr};

use unicode_width::UnicodeWidthStr as _;

use crate::{output::render::picture, tracker::Verdict};

/// What can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    Handshake,
    Release,
    Verdict(Verdict),
}

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    ActiveOpen,
    PassiveOpen,
    LocalClose,
    RemoteClose,
    SimultaneousClose,
    Of(Verdict),
}

impl Scene {
    /// Returns the title of a scene that is one of several.
    const fn title(self) -> Option<&'static str> {
        match self {
            Self::ActiveOpen => Some("an active open"),
            Self::PassiveOpen => Some("a passive open"),
            Self::LocalClose => Some("this side closes first"),
            Self::RemoteClose => Some("the peer closes first"),
            Self::SimultaneousClose => Some("both close at once"),
            Self::Of(_) => None,
        }
    }
}

struct Explanation {
    meaning: &'static str,
    scenes: &'static [Scene],
    evidence: &'static str,
    causes: &'static [&'static str],
    advice: &'static [&'static str],
}

impl Topic {
    /// Returns every topic.
    pub fn all() -> impl Iterator<Item = Self> {
        let verdicts = Verdict::ALL.iter().copied().map(Self::Verdict);
        [Self::Handshake, Self::Release].into_iter().chain(verdicts)
    }

    /// Returns the topic's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Release => "release",
            Self::Verdict(verdict) => verdict.name(),
        }
    }

    const fn explanation(self) -> Explanation {
        match self {
            Self::Handshake => texts::HANDSHAKE,
            Self::Release => texts::RELEASE,
            Self::Verdict(verdict) => texts::of_verdict(verdict),
        }
    }

    /// Returns the explanation, in lines of at most `width` characters unless a word is longer.
    pub fn text(self, width: usize, ascii: bool) -> String {
        let Explanation {
            meaning,
            scenes,
            evidence,
            causes,
            advice,
        } = self.explanation();
        let mut text = format!("{}\n\n", self.name());
        wrap(meaning, "  ", "  ", width, &mut text);
        for scene in scenes {
            match scene.title() {
                Some(title) => writeln!(text, "\nOn the wire, {title}:\n"),
                None => writeln!(text, "\nOn the wire:\n"),
            }
            .unwrap_or_default();
            for line in picture(&example::record(*scene), width.saturating_sub(2), ascii).lines() {
                writeln!(text, "  {line}").unwrap_or_default();
            }
        }
        text.push_str("\nHow tcptrace knows:\n\n");
        wrap(evidence, "  ", "  ", width, &mut text);
        for (heading, items) in [("Usual causes", causes), ("What to do", advice)] {
            if !items.is_empty() {
                write!(text, "\n{heading}:\n\n").unwrap_or_default();
            }
            for item in items {
                wrap(item, "  - ", "    ", width, &mut text);
            }
        }
        text
    }
}

impl FromStr for Topic {
    type Err = String;

    /// Parses `reset_received`, or `reset received` as tables show it.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase().replace([' ', '-'], "_");
        Self::all()
            .find(|topic| topic.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::all().map(Self::name).collect();
                format!("expected one of {}", names.join(", "))
            })
    }
}

/// Returns one line for each topic.
pub fn list(width: usize) -> String {
    let mut text = String::new();
    for topic in Topic::all() {
        let meaning = topic.explanation().meaning;
        let sentence = meaning.split_inclusive(". ").next().unwrap_or(meaning);
        wrap(
            sentence.trim_end(),
            &format!("{:<23}", topic.name()),
            &" ".repeat(23),
            width,
            &mut text,
        );
    }
    text
}

/// Appends text in lines of at most `width`: the first starts with `first`, the others with `next`.
fn wrap(text: &str, first: &str, next: &str, width: usize, out: &mut String) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in text.split_whitespace() {
        if !is_empty && line.width() + 1 + word.width() > width {
            out.push_str(line.trim_end());
            out.push('\n');
            line = next.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests;
