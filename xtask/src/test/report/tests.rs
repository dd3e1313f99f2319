//! What is made of what test harnesses print.

use super::{Report, closing_line};
use crate::vm::Guest;

/// A run as cargo prints it: a library, a harness of our own, documentation.
const RUN: &str = "\
   Compiling tcptrace v0.1.0 (/src/tcptrace)
\x1b[1m\x1b[92m     Running\x1b[0m unittests src/lib.rs (target/debug/deps/tcptrace-0123456789abcdef)

running 3 tests
test state::names ... ok
test tracker::refused ... FAILED
test slow::all_of_it ... ignored, takes an hour

failures:
    tracker::refused

test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.12s

     Running tests/kernel.rs (target/debug/deps/kernel-fedcba9876543210)

running 2 tests
test open   ... ok
test accept ... the daemon says something
ignored (needs root)

test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 3.00s

   Doc-tests tcptrace

running 1 test
test src/lib.rs - state (line 3) ... ok

test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.50s
";

/// The report on some output.
fn report(output: &str, success: bool) -> Report {
    let mut report = Report::default();
    output.lines().for_each(|line| report.line(line));
    report.end(success);
    report
}

#[test]
fn counts_and_names_what_ran() {
    let report = report(RUN, false);
    assert!(!report.success());
    assert_eq!(closing_line(&report), "3 passed, 1 failed, 2 skipped");
    assert_eq!(
        report.to_string(),
        "\
suite                     passed  failed  skipped
tcptrace (src/lib.rs)          1       1        1
tests/kernel.rs                1       0        1
tcptrace (documentation)       1       0        0

Skipped:
  tcptrace (src/lib.rs)  slow::all_of_it: takes an hour
  tests/kernel.rs  accept: needs root

Failed:
  tcptrace (src/lib.rs)  tracker::refused
"
    );
}

#[test]
fn a_suite_that_crashes_has_failed() {
    let crashed: String = RUN
        .lines()
        .filter(|line| !line.contains("1 failed") && !line.contains("FAILED"))
        .take_while(|line| !line.starts_with("test result: ok. 1 passed; 0 failed; 1 ignored"))
        .map(|line| format!("{line}\n"))
        .collect();
    let report = report(&crashed, false);
    assert!(!report.success());
    assert_eq!(closing_line(&report), "0 passed, 2 failed, 0 skipped");
    assert!(
        report
            .to_string()
            .contains("tests/kernel.rs (ended before its tests did)")
    );
}

#[test]
fn what_does_not_compile_has_failed() {
    let report = report("error: could not compile `tcptrace`\n", false);
    assert!(!report.success());
    assert_eq!(closing_line(&report), "0 passed, 1 failed, 0 skipped");
}

#[test]
fn a_check_is_a_suite_of_one() {
    let mut report = Report::default();
    report.check("the committed eBPF object", true);
    report.end(true);
    assert!(report.success());
    assert_eq!(closing_line(&report), "1 passed, 0 failed, 0 skipped");
}

#[test]
fn what_is_not_run_is_skipped_with_its_reason() {
    let mut report = Report::default();
    report.skip("other kernels", "virtual machines", "no QEMU");
    assert!(report.success());
    assert_eq!(closing_line(&report), "0 passed, 0 failed, 1 skipped");
    let shown = report.to_string();
    assert!(
        shown.contains("\n  other kernels  virtual machines: no QEMU\n"),
        "{shown}"
    );
}

#[test]
fn another_kernels_tests_count_like_the_hosts() {
    let console = "\
TCPTRACE-VM-KERNEL: 7.3.4-cloud-amd64
test a::good ... ok
test a::odd ... ignored (no MPTCP)
test a::bad ... FAILED
TCPTRACE-VM-VERDICT: passed=1 failed=1 skipped=1
";
    let mut report = Report::default();
    report.guest(&Guest::of("7.3.4-cloud-amd64", console));
    assert!(!report.success());
    assert_eq!(closing_line(&report), "1 passed, 1 failed, 1 skipped");
    assert_eq!(
        report.to_string(),
        "\
suite                        passed  failed  skipped
tests/kernel on Linux 7.3.4       1       1        1

Skipped:
  tests/kernel on Linux 7.3.4  a::odd: no MPTCP

Failed:
  tests/kernel on Linux 7.3.4  a::bad
"
    );
}
