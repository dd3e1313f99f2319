//! How what is for people looks.

use jiff::{Timestamp, tz::TimeZone};

use super::column::Column;
use crate::host::resolve::Resolver;

/// How what is for people looks.
#[derive(Clone, Debug)]
pub struct Look {
    /// With colours.
    pub color: bool,
    /// Without characters past ASCII.
    pub ascii: bool,
    /// It is looked at as it is written.
    pub terminal: bool,
    /// How long lines may be.
    pub width: Width,
    /// What is shown of the time.
    pub time: Time,
    /// The columns of a table.
    pub columns: Columns,
    /// Ports as numbers.
    pub numeric: bool,
    /// Addresses by name, where that is wanted and known.
    pub resolver: Option<Resolver>,
    /// A handshake, or a wait for accept(), that took so long is slow, microseconds.
    pub slow_us: u64,
    /// Transitions will be shown: room for their names.
    pub transitions: bool,
    /// Rows of connections will be shown: headings for them.
    pub rows: bool,
    /// Its last line can show the status.
    pub status: bool,
}

impl Default for Look {
    /// For nobody in particular: no colours, no limits, UTC.
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

/// How long lines may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// As long as they are.
    Unlimited,
    /// So many characters.
    Fixed(usize),
    /// As wide as the terminal on standard output is at the moment.
    Terminal,
}

impl Width {
    /// Characters that a line may have now.
    pub fn now(self) -> Option<usize> {
        match self {
            Self::Unlimited => None,
            Self::Fixed(width) => Some(width),
            // A terminal that does not know, as a serial line, says 0.
            Self::Terminal => terminal_size::terminal_size_of(std::io::stdout())
                .map(|(width, _)| usize::from(width.0))
                .filter(|&width| width > 0),
        }
    }
}

/// Which columns a table has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Columns {
    /// The usual ones, of which a narrow terminal shows less.
    Usual,
    /// Just these.
    Chosen(Vec<Column>),
}

/// What is shown of the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Time {
    /// The time of the day in a zone.
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

    /// A time, and the same without fractions of a second; `first` is that of the first row.
    pub(super) fn shown(&self, time: Timestamp, first: Timestamp) -> (String, usize) {
        let text = match self {
            Self::Zone(zone) => time
                .to_zoned(zone.clone())
                .strftime("%H:%M:%S%.3f")
                .to_string(),
            Self::Relative => {
                // Truncated as the clock of the day is.
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

    /// The day of a row, where rows do not say it themselves.
    pub(super) fn day(&self, time: Timestamp) -> Option<jiff::civil::Date> {
        match self {
            Self::Zone(zone) => Some(time.to_zoned(zone.clone()).date()),
            Self::Relative | Self::Epoch => None,
        }
    }
}
