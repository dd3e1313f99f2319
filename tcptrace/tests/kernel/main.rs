//! The real binary on the real kernel.
//!
//! Each test makes its own network namespace and watches it with a tail of its own, or asks a
//! daemon. What a machine does not allow is ignored with its reason. `TCPTRACE_BIN` names another
//! binary than cargo's; with `TCPTRACE_KERNEL_TESTS=required` a machine without root, eBPF or
//! network namespaces fails the tests instead of having them ignored.

mod attach;
mod captures;
mod check;
mod connections;
mod daemon;
mod docs;
mod edges;
mod endings;
mod failures;
mod filters;
mod handshakes;
mod levels;
mod load;
mod loss;
mod peer;
mod privileges;
mod processes;
mod prometheus;
mod rate;
mod resync;
mod scenarios;
mod sock_diag;
mod support;
mod terminal;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if let Some(code) = support::guest_init::perform() {
        return code;
    }
    if let Some(code) = support::test_process::perform() {
        return code;
    }
    support::surroundings::complete();
    support::program::take_signals();
    let mut arguments = Arguments::from_args();
    let scenarios = scenarios::run(&arguments);
    // They load a small machine, and a tail that is starved of time is no finding.
    arguments.test_threads.get_or_insert(1);
    let tests = [
        attach::tests(),
        captures::tests(),
        check::tests(),
        connections::tests(),
        docs::tests(),
        daemon::tests(),
        edges::tests(),
        endings::tests(),
        failures::tests(),
        filters::tests(),
        handshakes::tests(),
        levels::tests(),
        load::tests(),
        loss::tests(),
        peer::tests(),
        privileges::tests(),
        prometheus::tests(),
        rate::tests(),
        resync::tests(),
        sock_diag::tests(),
        terminal::tests(),
        processes::tests(),
    ];
    let others = libtest_mimic::run(&arguments, tests.into_iter().flatten().collect());
    match scenarios.has_failed() {
        true => scenarios.exit_code(),
        false => others.exit_code(),
    }
}
