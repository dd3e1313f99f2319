//! How output for people looks.

use jiff::{Timestamp, tz::TimeZone};

use super::column::Column;
use crate::host::resolver::Resolver;

/// How output for people looks.
#[derive(Clone, Debug)]
pub struct Look {
    pub color: bool,
    /// ASCII characters only.
    pub ascii: bool,
    /// The output is a terminal.
    pub terminal: bool,
    pub width: Width,
    pub time: Time,
    pub columns: Columns,
    /// Shows ports as numbers.
    pub numeric: bool,
    /// Shows addresses by name, if that is wanted and the name is known.
    pub resolver: Option<Resolver>,
    /// From this time on a handshake or an accept wait is slow, microseconds.
    pub slow_us: u64,
    /// Transitions will be shown: makes room for their names.
    pub transitions: bool,
    /// Rows of connections will be shown: adds headings for them.
    pub rows: bool,
    /// The last line can show the status.
    pub status: bool,
}

impl Default for Look {
    /// No colours, no limits, UTC.
    fn default() -> Self {
        Self {
            color: false,
            ascii: false,
            terminal: false,
            width: Width::Unlimited,
            time: Time::Zone(TimeZone::UTC),
            columns: Columns::Usual,
            numeric: false,
            resolver: None,
            slow_us: 1_000_000,
            transitions: false,
            rows: true,
            status: false,
        }
    }
}

/// The most characters in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Unlimited,
    Fixed(usize),
    /// The current width of the terminal on standard output.
    Terminal,
}

impl Width {
    /// Returns the most characters that a line may have now.
    pub fn now(self) -> Option<usize> {
        match self {
            Self::Unlimited => None,
            Self::Fixed(width) => Some(width),
            // A terminal that does not know, such as a serial line, says 0.
            Self::Terminal => terminal_size::terminal_size_of(std::io::stdout())
                .map(|(width, _)| usize::from(width.0))
                .filter(|&width| width > 0),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// The default ones; a narrow terminal shows fewer.
    Usual,
    Chosen(Vec<Column>),
}

/// How times are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time {
    /// The time of day in a zone.
    Zone(TimeZone),
    /// Since the first row.
    Relative,
    /// Seconds since 1970.
    Epoch,
}

impl Time {
    pub(super) const fn width(&self) -> usize {
        match self {
            Self::Zone(_) | Self::Relative => "00:00:00.000".len(),
            Self::Epoch => "1700000000.000".len(),
        }
    }

    /// Returns a time, and the length of the part before fractions of a second; `first` is the
    /// first row's.
    pub(super) fn shown(&self, time: Timestamp, first: Timestamp) -> (String, usize) {
        let text = match self {
            Self::Zone(zone) => time
                .to_zoned(zone.clone())
                .strftime("%H:%M:%S%.3f")
                .to_string(),
            Self::Relative => {
                // Truncated, as the time of day is.
                let millis = time.as_millisecond() - first.as_millisecond();
                let (sign, millis) = if millis < 0 {
                    ("-", millis.unsigned_abs())
                } else {
                    ("+", millis.unsigned_abs())
                };
                format!("{sign}{}.{:03}", millis / 1000, millis % 1000)
            }
            Self::Epoch => format!("{}.{:03}", time.as_second(), time.subsec_millisecond()),
        };
        let whole = text.len() - ".000".len();
        (text, whole)
    }

    /// Returns the day of a row, if rows do not show it themselves.
    pub(super) fn day(&self, time: Timestamp) -> Option<jiff::civil::Date> {
        match self {
            Self::Zone(zone) => Some(time.to_zoned(zone.clone()).date()),
            Self::Relative | Self::Epoch => None,
        }
    }
}
