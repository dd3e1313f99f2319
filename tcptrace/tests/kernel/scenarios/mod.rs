//! What the kernel does, scenario by scenario: each row of the table of transitions, played with a
//! scripted peer, and everything that tcptrace says of it.
//!
//! A scenario asserts every transition, handshake and record of its namespace; what differs
//! between kernels is an expectation of its own. With `TCPTRACE_RECORD_DIR` set, each scenario
//! also leaves its stream of events there, for the tests that need no kernel (`tests/streams`).

mod aborts;
mod active_opens;
mod closes;
mod connection_records;
mod crossed_opens;
mod destroy;
mod fast_opens;
pub(crate) mod kernel;
mod late_data;
mod listeners;
mod odd_sockets;
mod owners;
pub(crate) mod passive_opens;
mod queued;
mod recording;
mod resets;
mod scenario;
mod suite;
mod timeouts;
mod watch;

use libtest_mimic::{Arguments, Conclusion, Trial};

pub(crate) use self::suite::RECORD_DIRECTORY;
use crate::support::trial;

/// Scenarios played at once, for each processor: most of their time is the kernel's timers.
const PLAYERS: usize = 2;

/// Plays those that are asked for, several at once.
pub(crate) fn run(arguments: &Arguments) -> Conclusion {
    let all = [
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
    ];
    let trials: Vec<Trial> = all
        .into_iter()
        .flatten()
        .map(|scenario| trial("scenarios", scenario.name, || scenario.play_until_seen()))
        .collect();
    let mut arguments = arguments.clone();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(PLAYERS * processors);
    let conclusion = libtest_mimic::run(&arguments, trials);
    suite::end();
    conclusion
}
