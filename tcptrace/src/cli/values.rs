//! Values of the command line, and their parsers.

use std::{
    fmt,
    net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use caps::Capability;
use regex_lite::Regex;

use crate::{
    output::view::terms::Terms,
    privileges::capabilities::{self, USES},
};

/// A time between two runs, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Option<Duration>);

/// A capability to keep, or `none`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptCapability(pub Option<Capability>);

impl KeptCapability {
    /// Returns those that are needed after the start.
    pub(super) fn usual() -> Vec<Self> {
        let needed = USES.iter().filter(|entry| entry.later.is_some());
        needed.map(|entry| Self(Some(entry.capability))).collect()
    }
}

impl fmt::Display for KeptCapability {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(capability) => capability.fmt(formatter),
            None => formatter.write_str("none"),
        }
    }
}

pub(super) fn parse_kept(text: &str) -> Result<KeptCapability, String> {
    if text == "none" {
        return Ok(KeptCapability(None));
    }
    capabilities::parse(text.trim()).map(|one| KeptCapability(Some(one)))
}

/// The longest line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WidthChoice {
    /// As wide as the terminal, if it is one.
    Auto,
    Fixed(u16),
}

pub(super) fn parse_terms<T: std::str::FromStr<Err: fmt::Display>>(
    text: &str,
) -> Result<Terms<T>, String> {
    text.parse()
}

pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err("expected a number of rows, 1 or more".to_owned()),
    }
}

pub(super) fn parse_width(text: &str) -> Result<WidthChoice, String> {
    match text.parse() {
        _ if text == "auto" => Ok(WidthChoice::Auto),
        Ok(width) if width > 0 => Ok(WidthChoice::Fixed(width)),
        Ok(_) | Err(_) => Err("expected a number of characters, 1 or more, or auto".to_owned()),
    }
}

pub(super) fn parse_port(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => {
            Err("expected a port from 1 to 65535, and a comma between two".to_owned())
        }
    }
}

/// Parses an expression with a capture.
pub(super) fn parse_pattern(text: &str) -> Result<Regex, String> {
    let pattern = Regex::new(text).map_err(|error| error.to_string())?;
    if pattern.captures_len() < 2 {
        return Err("it captures nothing: put parentheses around the label".to_owned());
    }
    Ok(pattern)
}

/// Parses where to listen: an address or a name of this host, and a port. Without an address it
/// means all addresses.
pub(super) fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let parts = text.rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts.filter(|(host, _)| !host.contains([':', '[', ']'])) else {
        return Err(
            "expected an address and a port such as 127.0.0.1:9823, localhost:9823 or [::1]:9823, \
             or :9823 for all addresses"
                .to_owned(),
        );
    };
    if host.is_empty() {
        return Ok((Ipv6Addr::UNSPECIFIED, port).into());
    }
    let found = (host, port).to_socket_addrs();
    let found: Vec<_> = found
        .map_err(|error| format!("{host} cannot be resolved: {error}"))?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4());
    first
        .or(found.first())
        .copied()
        .ok_or_else(|| format!("{host} has no address"))
}

/// Parses a number of bytes: `4096`, `64KiB`, `8M`.
pub(super) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a number of bytes such as 65536, 64KiB or 8MiB".to_owned())?;
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1 << 30,
        unit => return Err(format!("the unit {unit:?} is not KiB, MiB or GiB")),
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
}

pub(super) fn parse_interval(text: &str) -> Result<Interval, String> {
    if text == "off" {
        return Ok(Interval(None));
    }
    match parse_duration(text)? {
        interval if interval >= Duration::from_secs(1) => Ok(Interval(Some(interval))),
        _ => Err("expected at least 1s, or off".to_owned()),
    }
}

pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    // A day means 24 hours.
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let duration = text
        .parse::<jiff::Span>()
        .and_then(|span| span.to_duration(days))
        .map_err(|_| "expected a duration such as 100ms, 30s, 5m, 1h or 1d".to_owned())?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err("expected a duration longer than 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_as_other_exporters_take_them() {
        for (text, address) in [
            (":9823", "[::]:9823"),
            ("localhost:9823", "127.0.0.1:9823"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(parse_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for (text, why) in [
            ("9823", "or :9823 for all addresses"),
            ("::1:9823", "or :9823 for all addresses"),
            (":98230", "or :9823 for all addresses"),
            ("no.host.invalid:1", "no.host.invalid cannot be resolved"),
        ] {
            let error = parse_address(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("8M"), Ok(8 << 20));
        for wrong in [
            "",
            "KiB",
            "8MB2",
            "8 Mb",
            "-1",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_interval_is_a_second_or_more_or_off() {
        assert_eq!(parse_interval("off"), Ok(Interval(None)));
        let second = Interval(Some(Duration::from_secs(1)));
        assert_eq!(parse_interval("1s"), Ok(second));
        for text in ["999ms", "0s", "", "never", "-1s"] {
            assert!(parse_interval(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_longer_than_nothing() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1d", 86_400), ("1h30m", 5_400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        for wrong in ["", "0s", "-5s", "30", "soon"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
