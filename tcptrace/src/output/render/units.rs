//! Durations and sizes for people.

/// Returns a duration with three significant digits, in the largest unit that leaves one before the
/// point.
pub fn duration(micros: u64, ascii: bool) -> String {
    let seconds = micros / 1_000_000;
    match micros {
        0..1_000 => format!("{micros} {}", if ascii { "us" } else { "µs" }),
        1_000..1_000_000 => format!("{} ms", three_digits(micros, 1_000)),
        1_000_000..60_000_000 => format!("{} s", three_digits(micros, 1_000_000)),
        60_000_000..3_600_000_000 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3_600_000_000..86_400_000_000 => {
            format!("{}h {:02}m", seconds / 3600, seconds % 3600 / 60)
        }
        _ => format!("{}d {:02}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// Returns bytes in powers of 1000.
pub fn bytes(bytes: u64) -> String {
    let units: [(u64, &str); 6] = [
        (1_000_000_000_000_000_000, "EB"),
        (1_000_000_000_000_000, "PB"),
        (1_000_000_000_000, "TB"),
        (1_000_000_000, "GB"),
        (1_000_000, "MB"),
        (1_000, "kB"),
    ];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some(&(unit, name)) => format!("{} {name}", three_digits(bytes, unit)),
        None => format!("{bytes} B"),
    }
}

/// Returns `value / unit` with three digits, truncated: 999.9 must not become 1000 of a unit.
fn three_digits(value: u64, unit: u64) -> String {
    let whole = value / unit;
    let fraction = |digits: u64| u128::from(value % unit) * u128::from(digits) / u128::from(unit);
    match whole {
        0..10 => format!("{whole}.{:02}", fraction(100)),
        10..100 => format!("{whole}.{}", fraction(10)),
        _ => whole.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_a_person_says_them() {
        for (micros, text) in [
            (0, "0 µs"),
            (999, "999 µs"),
            (1_000, "1.00 ms"),
            (12_345, "12.3 ms"),
            (999_999, "999 ms"),
            (1_020_000, "1.02 s"),
            (59_999_999, "59.9 s"),
            (60_000_000, "1m 00s"),
            (3_599_999_999, "59m 59s"),
            (3_600_000_000, "1h 00m"),
            (90_000_000_000, "1d 01h"),
        ] {
            assert_eq!(duration(micros, false), text);
        }
        assert_eq!(duration(5, true), "5 us");
    }

    #[test]
    fn sizes_read_as_a_person_says_them() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.00 kB"),
            (12_345, "12.3 kB"),
            (999_999, "999 kB"),
            (1_000_000, "1.00 MB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }
}
