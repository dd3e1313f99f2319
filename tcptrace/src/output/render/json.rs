//! One JSON object a line.

use std::io;

use serde::Serialize as _;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

use crate::output::record::Record;
use crate::text::{is_hostile, is_printable_ascii};

pub(super) fn line(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    let mut serializer = Serializer::with_formatter(&mut *out, Escaping(CompactFormatter));
    match record.serialize(&mut serializer) {
        Ok(()) => out.push(b'\n'),
        // Nothing in a record can fail to serialize; but half a line must never be left.
        Err(error) => {
            out.truncate(start);
            tracing::error!("a record could not be written as JSON: {error}");
        }
    }
}

/// Writes characters that must not reach a terminal as `\u` and their number (RFC 8259 §7), so that
/// nothing is lost as data.
struct Escaping(CompactFormatter);

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        to: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if is_printable_ascii(fragment) {
            return to.write_all(fragment.as_bytes());
        }
        let mut rest = fragment;
        while let Some((at, hostile)) = rest
            .char_indices()
            .find(|(_, character)| is_hostile(*character))
        {
            self.0.write_string_fragment(to, &rest[..at])?;
            for unit in hostile.encode_utf16(&mut [0; 2]) {
                write!(to, "\\u{unit:04x}")?;
            }
            rest = &rest[at + hostile.len_utf8()..];
        }
        self.0.write_string_fragment(to, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize as _;

    use super::*;

    fn written(text: &str) -> String {
        let mut out = Vec::new();
        let mut serializer = Serializer::with_formatter(&mut out, Escaping(CompactFormatter));
        text.serialize(&mut serializer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn control_characters_are_escaped_by_number() {
        assert_eq!(written("nginx"), "\"nginx\"");
        assert_eq!(
            written("a\u{202e}\u{7f}\u{9b}\u{1b}\u{e0041}\"\\"),
            r#""a\u202e\u007f\u009b\u001b\udb40\udc41\"\\""#
        );
    }

    proptest! {
        #[test]
        fn escaped_json_parses_to_the_same_text(text in any::<String>()) {
            let written = written(&text);
            prop_assert!(!written.chars().any(is_hostile));
            prop_assert_eq!(serde_json::from_str::<String>(&written).unwrap(), text);
        }
    }
}
