//! What the kernel does, scenario by scenario: each row of the table of transitions, played with a
//! scripted peer, and everything that tcptrace says of it.
//!
//! A scenario asserts every transition, handshake and record of its namespace; what differs
//! between kernels is an expectation of its own. With `TCPTRACE_RECORD_DIR` set, each scenario
//! also leaves its stream of events there, for the tests that need no kernel (`tests/streams`).

mod aborts;
mod active_opens;
mod closes;
mod crossed_opens;
mod destroy;
mod fast_opens;
pub(crate) mod kernel;
mod late_data;
mod life;
mod listeners;
mod odd_sockets;
mod owners;
mod passive_opens;
mod queued;
mod recording;
mod resets;
mod stage;
mod suite;
mod timeouts;
mod watch;

use std::sync::Arc;

use libtest_mimic::Trial;

pub(crate) use self::suite::RECORD_DIRECTORY;
use self::suite::Suite;
use crate::support::trial;

/// The tests.
pub(crate) fn tests() -> Vec<Trial> {
    let suite = Arc::new(Suite::default());
    [
        active_opens::SCENARIOS,
        passive_opens::SCENARIOS,
        crossed_opens::SCENARIOS,
        fast_opens::SCENARIOS,
        closes::SCENARIOS,
        queued::SCENARIOS,
        resets::SCENARIOS,
        late_data::SCENARIOS,
        timeouts::SCENARIOS,
        aborts::SCENARIOS,
        listeners::SCENARIOS,
        owners::SCENARIOS,
        odd_sockets::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .map(|scenario| {
        let part = suite.enlist(*scenario);
        trial("scenarios", scenario.name, move || part.outcome())
    })
    .collect()
}
