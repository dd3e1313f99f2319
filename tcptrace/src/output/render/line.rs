//! A line for people: coloured, safe to display, and no longer than allowed.

use anstyle::{Ansi256Color, AnsiColor, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::look::Look;
use crate::{
    output::record::{ConnectionRecord, HandshakeRecord, RecordBody},
    text::visible,
    tracker::Verdict,
};

// All are readable on a dark and on a light background.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
pub(super) const FAILED: Style = AnsiColor::Red.on_default().bold();
pub(super) const ABNORMAL: Style = AnsiColor::Magenta.on_default();
pub(super) const SLOW: Style = Ansi256Color(166).on_default();
pub(super) const QUIET: Style = Style::new().dimmed();
pub(super) const PLAIN: Style = Style::new();

/// Returns the style of a row.
pub(super) fn style(body: &RecordBody, look: &Look) -> Style {
    let is_slow = |micros: Option<u64>| micros.is_some_and(|micros| micros >= look.slow_us);
    match body {
        RecordBody::Transition(_) | RecordBody::Release(_) => QUIET,
        RecordBody::Loss(_) | RecordBody::Summary(_) => PLAIN,
        RecordBody::Handshake(HandshakeRecord { handshake, .. }) => {
            let is_again = handshake.syn_retransmits.is_some_and(|count| count > 0);
            if is_again || is_slow(handshake.handshake_us) {
                SLOW
            } else {
                GOOD
            }
        }
        RecordBody::Connection(body) => {
            let ConnectionRecord {
                established,
                verdict,
                accept_wait_us,
                ..
            } = &**body;
            match (established, verdict) {
                (true, Verdict::Graceful) if is_slow(*accept_wait_us) => SLOW,
                (true, Verdict::Graceful) => PLAIN,
                (true, _) | (false, Verdict::Cancelled) => ABNORMAL,
                (false, _) => FAILED,
            }
        }
    }
}

/// Returns text of at most `width` terminal characters; a cut is marked.
pub(super) fn cut(text: &str, width: usize, ascii: bool) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    let mut left = width.saturating_sub(1);
    for character in text.chars() {
        let Some(rest) = left.checked_sub(character.width().unwrap_or(0)) else {
            break;
        };
        left = rest;
        shown.push(character);
    }
    if width > 0 {
        shown.push(if ascii { '~' } else { '…' });
    }
    shown
}

/// A line no longer than allowed.
pub(super) struct Line<'a> {
    look: &'a Look,
    text: String,
    /// How many characters still fit.
    left: Option<usize>,
    /// Spaces to write once something follows.
    blanks: usize,
}

impl<'a> Line<'a> {
    pub(super) fn new(look: &'a Look, limit: Option<usize>) -> Self {
        Self {
            look,
            text: String::with_capacity(160),
            left: limit,
            blanks: 0,
        }
    }

    pub(super) const fn pad(&mut self, blanks: usize) {
        self.blanks += blanks;
    }

    /// Appends text, made safe to display.
    pub(super) fn push(&mut self, text: &str, style: Style) {
        if text.is_empty() {
            return;
        }
        // Others choose these names: nothing in them may move the terminal's cursor.
        let text = visible(text, self.look.ascii);
        let text = match &mut self.left {
            Some(left) => {
                *left = left.saturating_sub(self.blanks);
                let text = cut(&text, *left, self.look.ascii);
                *left = left.saturating_sub(text.width());
                text.into()
            }
            None => text,
        };
        if text.is_empty() {
            return;
        }
        self.text.push_str(&" ".repeat(self.blanks));
        self.blanks = 0;
        if self.look.color && style != PLAIN {
            self.text.push_str(&format!("{style}{text}{style:#}"));
        } else {
            self.text.push_str(&text);
        }
    }

    pub(super) fn end(self, out: &mut Vec<u8>) {
        self.end_without_newline(out);
        out.push(b'\n');
    }

    pub(super) fn end_without_newline(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text.trim_end().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_text_ends_with_an_ellipsis_and_no_halved_character() {
        for (text, width, shown) in [
            ("refused", 7, "refused"),
            ("refused", 6, "refus…"),
            ("refused", 1, "…"),
            ("refused", 0, ""),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
        ] {
            assert_eq!(cut(text, width, false), shown);
        }
        assert_eq!(cut("refused", 6, true), "refus~");
    }

    proptest! {
        #[test]
        fn a_cut_is_no_longer_than_asked_for(text in any::<String>(), width in 0_usize..40, ascii in any::<bool>()) {
            let text = visible(&text, ascii);
            prop_assert!(cut(&text, width, ascii).width() <= width);
        }
    }
}
