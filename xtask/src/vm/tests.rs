//! Guests that end well and guests that do not.

use std::time::Duration;

use super::*;

const GOOD: &str = "\
\x1bc\x1b[?7l\x1b[2JSeaBIOS\r\n\
TCPTRACE-VM-KERNEL: 5.10.0-46-cloud-amd64\r\n\
\r\n\
running 4 tests\r\n\
test attach::it_attaches         ... ok\r\n\
test load::nothing_is_lost       ... 911 connections a second\r\n\
ok\r\n\
test daemon::promtool_is_content ... ignored (promtool cannot be run: No such file (os error 2))\r\n\
test deaths::linger_0            ... FAILED\r\n\
\r\n\
failures:\r\n\
\r\n\
---- deaths::linger_0 ----\r\n\
the verdict is unknown\r\n\
\r\n\
\r\n\
failures:\r\n\
    deaths::linger_0\r\n\
\r\n\
test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s\r\n\
[    9.870438] reboot: Power down\r\n";

/// The report on a guest that went off, or was stopped.
fn told(console: &str, stopped: Option<&str>, for_all: bool) -> String {
    let life = Life {
        console: console.to_owned(),
        stopped: stopped.map(str::to_owned),
        took: Duration::ZERO,
    };
    let mut report = Report::default();
    report.add(suite("5.10", &life, for_all));
    format!("{report}{}", report.counts())
}

/// Returns the console's text before `text`.
fn until(text: &str) -> &'static str {
    GOOD.split_once(text).expect("a line of it").0
}

#[test]
fn each_test_has_its_outcome() {
    assert_eq!(
        told(GOOD, None, true),
        "\
suite                       passed  failed  skipped
tests/kernel on Linux 5.10       2       1        1

Skipped:
  daemon::promtool_is_content (tests/kernel on Linux 5.10): promtool cannot be run: No such file \
(os error 2)

Failed:
  deaths::linger_0 (tests/kernel on Linux 5.10)
    the verdict is unknown
2 passed, 1 failed, 1 skipped"
    );
}

#[test]
fn a_guest_in_trouble_fails_with_the_test_that_ran() {
    let running = until("FAILED\r\n\r\nfailures");
    let panic = "Oops: double fault: 0000 [#1]\r\n[ 8.5] Kernel panic - not syncing: Fatal\r\n";
    let broken = "TCPTRACE-VM-BROKEN: the tests ended with signal 11\r\n";
    let (test, machine) = ("deaths::linger_0", "(the machine)");
    for (console, stopped, failed, why, passed) in [
        (
            format!("{running}[ 8.5] {panic}"),
            None,
            test,
            "the kernel died while the tests ran: Oops: double fault",
            2,
        ),
        (
            panic.to_owned(),
            None,
            machine,
            "the kernel died before its first process spoke",
            0,
        ),
        (
            format!("{running}\r\n{broken}"),
            None,
            test,
            broken.trim(),
            2,
        ),
        (
            running.to_owned(),
            Some("nothing was heard"),
            test,
            "it was stopped while the tests ran: nothing was heard",
            2,
        ),
        (
            until("911").to_owned(),
            None,
            "load::nothing_is_lost",
            "it went off without a result",
            1,
        ),
        (
            until("test result").to_owned(),
            None,
            machine,
            "it went off without a result",
            2,
        ),
        (
            GOOD.replace("2 passed", "3 passed"),
            None,
            machine,
            "it went off without a result that counts",
            2,
        ),
        (
            String::new(),
            None,
            machine,
            "it went off without a result",
            0,
        ),
    ] {
        let told = told(&console, stopped, true);
        let reason = format!("\n  {failed} (tests/kernel on Linux 5.10)\n    {why}");
        assert!(told.contains(&reason), "{reason}\n{told}");
        assert!(
            told.contains(&format!("\n{passed} passed, ")),
            "{passed} {told}"
        );
    }
}

#[test]
fn running_no_test_is_a_failure_unless_filtered() {
    let nothing = "test result: ok. 0 passed; 0 failed; 0 ignored\n";
    let skipped =
        "test a::b ... ignored (not root)\ntest result: ok. 0 passed; 0 failed; 1 ignored\n";
    for (console, for_all, failed) in [
        (nothing, true, true),
        (nothing, false, true),
        (skipped, true, true),
        (skipped, false, false),
    ] {
        let told = told(console, None, for_all);
        assert_eq!(told.contains("not one test ran"), failed, "{told}");
    }
}

#[test]
fn arguments_reach_the_first_process_whole() {
    let arguments = ["--exact".to_owned(), "a test".to_owned()];
    let machine = Machine {
        architecture: Architecture::Arm64,
        accelerator: Accelerator::Tcg,
        image: PathBuf::new(),
        initramfs: PathBuf::new(),
        arguments: &arguments,
        streams: None,
    };
    let line = machine.command_line();
    assert!(line.starts_with("console=ttyAMA0 "), "{line}");
    assert!(line.ends_with(" -- \"--exact\" \"a test\""), "{line}");
}

#[test]
fn every_suite_runs_once_and_one_failure_fails_all() {
    let done = each(&[5, 3, 4, 1, 2], 2, |number| Ok(number * 10)).expect("all of them");
    assert_eq!(done, [50, 30, 40, 10, 20]);
    let done = each(&[1, 0, 2], 3, |number| match number {
        0 => bail!("this one"),
        number => Ok(*number),
    });
    assert_eq!(done.expect_err("one of them").to_string(), "this one");
}
