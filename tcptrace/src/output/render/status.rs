//! The last line of a terminal, which shows that tcptrace works, and its rates, while no row comes.

use jiff::Timestamp;

use super::{
    line::{FAILED, Line, QUIET},
    look::Look,
};

/// The content of the status line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    pub time: Timestamp,
    /// Connections established per second.
    pub opened: f64,
    /// Attempts failed per second.
    pub failed: f64,
    /// Established connections ended per second.
    pub closed: f64,
    pub open: u64,
    /// Events and rows lost since the start.
    pub lost: u64,
}

impl Status {
    /// Appends the line without an end of line.
    pub(super) fn line(&self, look: &Look, first: Timestamp, out: &mut Vec<u8>) {
        let (time, whole) = look.time.shown(self.time, first);
        // A full line would make some terminals wrap, and so would the ^C that one shows behind it.
        let limit = look.width.now().map(|width| width.saturating_sub(3));
        let mut line = Line::new(look, limit);
        line.push(time.get(..whole).unwrap_or(&time), QUIET);
        line.pad(2);
        // Losses come first: a narrow terminal cuts the rest.
        if self.lost > 0 {
            line.push(&format!("{} LOST", self.lost), FAILED);
            line.pad(2);
        }
        line.push(&self.rates(), QUIET);
        if self.lost == 0 {
            line.push("  0 lost", QUIET);
        }
        line.end_without_newline(out);
    }

    fn rates(&self) -> String {
        format!(
            "{}/s opened  {}/s failed  {}/s closed  {} open",
            rate(self.opened),
            rate(self.failed),
            rate(self.closed),
            self.open,
        )
    }
}

/// Returns a rate with at most two significant digits.
fn rate(rate: f64) -> String {
    if rate == 0.0 || rate >= 9.95 {
        format!("{rate:.0}")
    } else {
        format!("{rate:.1}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_as_many_digits_as_it_needs() {
        for (number, text) in [
            (0.0, "0"),
            (0.04, "0.0"),
            (1.0, "1.0"),
            (9.94, "9.9"),
            (9.97, "10"),
            (1234.5, "1234"),
        ] {
            assert_eq!(rate(number), text);
        }
    }
}
