//! Limits how often a warning is logged.

use std::{collections::BTreeSet, time::Duration};

/// The most different messages that are logged.
const MOST: usize = 100;
const A_MINUTE: Duration = Duration::from_secs(60);

/// Logs each message once.
#[derive(Default)]
pub struct Warnings(BTreeSet<String>);

impl Warnings {
    pub fn warn(&mut self, message: String) {
        if self.0.len() < MOST && !self.0.contains(&message) {
            tracing::warn!("{message}");
            self.0.insert(message);
        }
    }
}

/// Allows something once a minute.
#[derive(Default)]
pub struct OncePerMinute {
    /// When it was last allowed.
    last_ns: Option<u64>,
}

impl OncePerMinute {
    /// Returns whether it is allowed now; if so, the minute begins.
    pub fn is_allowed(&mut self, now_ns: u64) -> bool {
        let is_due = self.due_ns() <= now_ns;
        if is_due {
            self.last_ns = Some(now_ns);
        }
        is_due
    }

    /// Returns from when on it is allowed.
    pub fn due_ns(&self) -> u64 {
        let minute_ns = A_MINUTE.as_nanos() as u64;
        self.last_ns
            .map_or(0, |last| last.saturating_add(minute_ns))
    }
}
