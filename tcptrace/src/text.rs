//! Text that others choose: anyone can name a process, a cgroup or an interface, and root looks at
//! it.

use std::{borrow::Cow, ops::RangeInclusive};

/// Characters that act on a terminal or cannot be seen: controls, and those that change the
/// direction of writing, join, separate or tag without a width (Unicode's categories Cc, Cf, Zl and
/// Zp, unless they have another use).
const HOSTILE: [RangeInclusive<char>; 12] = [
    '\u{0}'..='\u{1f}',
    '\u{7f}'..='\u{9f}',
    '\u{ad}'..='\u{ad}',
    '\u{61c}'..='\u{61c}',
    '\u{180e}'..='\u{180e}',
    '\u{200b}'..='\u{200f}',
    '\u{2028}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{feff}'..='\u{feff}',
    '\u{fff9}'..='\u{fffb}',
    '\u{e0001}'..='\u{e0001}',
    '\u{e0020}'..='\u{e007f}',
];

/// Whether a character must not reach a terminal.
pub fn is_hostile(character: char) -> bool {
    !matches!(character, ' '..='~') && HOSTILE.iter().any(|range| range.contains(&character))
}

/// Whether text is printable ASCII only, as most is: such text needs no closer look.
pub fn is_printable_ascii(text: &str) -> bool {
    // To the end, whatever is found: such a loop is vectorized.
    let is_printable = |byte: u8| matches!(byte, b' '..=b'~');
    text.bytes()
        .fold(true, |all, byte| all & is_printable(byte))
}

/// Returns text with visible replacements for characters that must not reach the terminal, or that
/// it cannot show.
pub fn visible(text: &str, ascii: bool) -> Cow<'_, str> {
    if is_printable_ascii(text) {
        return Cow::Borrowed(text);
    }
    let is_shown = |character: char| !is_hostile(character) && (!ascii || character.is_ascii());
    if text.chars().all(is_shown) {
        return Cow::Borrowed(text);
    }
    let replacement = if ascii {
        '?'
    } else {
        char::REPLACEMENT_CHARACTER
    };
    let shown = text.chars().map(|character| {
        if is_shown(character) {
            character
        } else {
            replacement
        }
    });
    Cow::Owned(shown.collect())
}

/// Returns the same of several lines: line ends and tabs are kept.
pub fn visible_lines(text: &str) -> String {
    text.split_inclusive(['\n', '\t'])
        .flat_map(|part| {
            let end = part.len() - usize::from(part.ends_with(['\n', '\t']));
            [visible(&part[..end], false), part[end..].into()]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn control_and_direction_characters_are_made_visible() {
        for (text, shown, ascii) in [
            ("nginx", "nginx", "nginx"),
            ("a b", "a b", "a b"),
            ("\u{1b}[2J", "\u{fffd}[2J", "?[2J"),
            ("\u{9b}2J", "\u{fffd}2J", "?2J"),
            (
                "a\tb\u{8}\u{7}\u{7f}",
                "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}",
                "a?b???",
            ),
            ("exe.\u{202e}gpj", "exe.\u{fffd}gpj", "exe.?gpj"),
            (
                "a\u{2066}b\u{200b}c\u{2028}",
                "a\u{fffd}b\u{fffd}c\u{fffd}",
                "a?b?c?",
            ),
            ("büro→", "büro→", "b?ro?"),
        ] {
            assert_eq!(visible(text, false), shown);
            assert_eq!(visible(text, true), ascii);
        }
        assert_eq!(
            visible_lines("\ta\u{7}\n\n\u{1b}b"),
            "\ta\u{fffd}\n\n\u{fffd}b"
        );
    }

    proptest! {
        #[test]
        fn hostile_characters_are_replaced_and_others_kept(text in any::<String>(), ascii in any::<bool>()) {
            let shown = visible(&text, ascii);
            prop_assert_eq!(shown.chars().count(), text.chars().count());
            for (before, after) in text.chars().zip(shown.chars()) {
                prop_assert!(!is_hostile(after) && !after.is_control());
                prop_assert!(!ascii || after.is_ascii());
                if !is_hostile(before) && (!ascii || before.is_ascii()) {
                    prop_assert_eq!(before, after);
                }
            }
        }
    }
}
