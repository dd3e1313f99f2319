//! The only place that reads a clock, and that turns kernel time into wall time.
//!
//! Events carry CLOCK_MONOTONIC, which neither steps nor runs while the machine is suspended;
//! durations are differences of it alone. For printing, the offset between the two clocks is
//! remembered over time, so that a connection that lived through a step or a suspend has both wall
//! times right.

use std::{collections::VecDeque, sync::OnceLock, time::Duration};

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

use crate::namespaces::NamespaceKind;

/// Smaller changes are the clock being disciplined, not stepped.
const STEP_NS: i64 = 1_000_000;
/// How many steps are remembered.
const STEPS: usize = 256;

/// Returns CLOCK_MONOTONIC as the kernel and its events have it, nanoseconds. In a time namespace
/// the process's own differs by a constant.
pub fn monotonic_ns() -> u64 {
    let own = read(ClockId::CLOCK_MONOTONIC);
    u64::try_from(own - offset().unwrap_or(0)).unwrap_or(0)
}

/// Returns how far CLOCK_MONOTONIC is ahead in this process's time namespace, nanoseconds; `None`
/// when that is not known.
pub(crate) fn offset() -> Option<i64> {
    static OFFSET: OnceLock<Option<i64>> = OnceLock::new();
    *OFFSET.get_or_init(|| {
        if NamespaceKind::Time.is_initial() != Some(false) {
            return Some(0);
        }
        // The file shows the namespace of children, which differs after an unshare without a fork.
        let own = ["time", "time_for_children"]
            .map(|name| std::fs::read_link(format!("/proc/self/ns/{name}")).ok());
        let text = std::fs::read_to_string("/proc/self/timens_offsets").ok()?;
        (own[0].is_some() && own[0] == own[1]).then_some(())?;
        monotonic_offset(&text)
    })
}

/// Parses the first line of `/proc/self/timens_offsets`: `monotonic SECONDS NANOSECONDS`.
fn monotonic_offset(text: &str) -> Option<i64> {
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("monotonic"))?;
    let mut numbers = line.split_whitespace().map(str::parse::<i64>);
    let (seconds, nanoseconds) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

fn read(clock: ClockId) -> i64 {
    // Linux always has both clocks; 0 would only make a time print as 1970.
    clock_gettime(clock).map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}

/// Returns how long the calling thread has run on a processor.
pub fn thread_cpu() -> Duration {
    Duration::from_nanos(read(ClockId::CLOCK_THREAD_CPUTIME_ID).unsigned_abs())
}

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReading {
    /// CLOCK_MONOTONIC, nanoseconds.
    pub monotonic_ns: u64,
    /// CLOCK_REALTIME minus CLOCK_MONOTONIC, nanoseconds.
    pub offset_ns: i64,
}

impl ClockReading {
    /// Reads both clocks, as close together as a few tries get them.
    pub fn now() -> Self {
        let once = || {
            let before = monotonic_ns();
            let wall = read(ClockId::CLOCK_REALTIME);
            let reading = Self {
                monotonic_ns: before,
                offset_ns: wall - before.cast_signed(),
            };
            (monotonic_ns() - before, reading)
        };
        let mut best = once();
        // A preemption between the reads would make the offset wrong by as much.
        for _ in 0..3 {
            if best.0 < STEP_NS.unsigned_abs() / 10 {
                break;
            }
            let again = once();
            if again.0 < best.0 {
                best = again;
            }
        }
        best.1
    }
}

/// Turns event times into wall times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WallClock {
    /// Each holds from its own time on.
    readings: VecDeque<ClockReading>,
}

impl WallClock {
    pub fn new(first: ClockReading) -> Self {
        Self {
            readings: VecDeque::from([first]),
        }
    }

    /// Takes a later reading. Returns whether it tells anything new: a step, or a suspend.
    pub fn update(&mut self, reading: ClockReading) -> bool {
        if let Some(last) = self.readings.back()
            && (reading.offset_ns - last.offset_ns).abs() < STEP_NS
        {
            return false;
        }
        if self.readings.len() == STEPS {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
        true
    }

    /// Returns the wall time of an event's time.
    pub fn wall(&self, monotonic_ns: u64) -> Timestamp {
        let offset = self
            .readings
            .iter()
            .rev()
            .find(|reading| reading.monotonic_ns <= monotonic_ns)
            .or_else(|| self.readings.front())
            .map_or(0, |reading| reading.offset_ns);
        let wall = i128::from(monotonic_ns) + i128::from(offset);
        Timestamp::from_nanosecond(wall).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(monotonic_ns: u64, offset_ns: i64) -> ClockReading {
        ClockReading {
            monotonic_ns,
            offset_ns,
        }
    }

    #[test]
    fn an_offset_has_a_sign_and_nanoseconds() {
        let text = |line: &str| format!("{line}\nboottime          7         9\n");
        for (line, offset) in [
            ("monotonic           0         0", Some(0)),
            ("monotonic      172800         5", Some(172_800_000_000_005)),
            (
                "monotonic     -172800 500000000",
                Some(-172_799_500_000_000),
            ),
            ("monotonic           x         0", None),
            ("monotonic           1", None),
            ("", None),
        ] {
            assert_eq!(monotonic_offset(&text(line)), offset, "{line}");
        }
    }

    #[test]
    fn a_step_changes_what_comes_after_it_and_nothing_before() {
        let mut clock = WallClock::new(reading(0, 1_000_000_000_000));
        assert!(clock.update(reading(
            5_000_000_000,
            1_000_000_000_000 + 3_600_000_000_000
        )));
        assert_eq!(clock.wall(4_999_999_999).as_nanosecond(), 1_004_999_999_999);
        assert_eq!(clock.wall(5_000_000_000).as_nanosecond(), 4_605_000_000_000);
    }

    #[test]
    fn discipline_below_a_millisecond_is_no_step() {
        let mut clock = WallClock::new(reading(0, 7));
        assert!(!clock.update(reading(10, 7 + STEP_NS - 1)));
        assert_eq!(clock, WallClock::new(reading(0, 7)));
    }

    #[test]
    fn steps_are_bounded_and_the_oldest_goes_first() {
        let mut clock = WallClock::new(reading(0, 0));
        for step in 1..=300_u32 {
            clock.update(reading(u64::from(step) * 10, i64::from(step) * STEP_NS));
        }
        assert_eq!(clock.readings.len(), STEPS);
        assert_eq!(
            clock.wall(3_000).as_nanosecond(),
            3_000 + 300 * i128::from(STEP_NS)
        );
    }

    #[test]
    fn the_real_clocks_agree_with_the_system_time() {
        let clock = WallClock::new(ClockReading::now());
        let difference = clock.wall(monotonic_ns()).duration_since(Timestamp::now());
        assert!(difference.as_millis().abs() < 1000, "{difference:?}");
    }
}
