//! Guests that end well and guests that do not.

use std::time::Duration;

use super::*;

/// All is well but for one test.
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
and not reset_by_us\r\n\
\r\n\
\r\n\
failures:\r\n\
    deaths::linger_0\r\n\
\r\n\
test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1s\r\n\
\r\n\
TCPTRACE-VM-VERDICT: passed=2 failed=1 skipped=1\r\n\
[    9.870438] reboot: Power down\r\n";

fn life(console: &str, end: End) -> Life {
    Life {
        console: console.to_owned(),
        end,
        took: Duration::ZERO,
    }
}

fn story(console: &str) -> Story {
    tell(&life(console, End::Off), true)
}

/// What the console holds before the line that begins so.
fn until(line: &str) -> &'static str {
    GOOD.split_once(line).expect("a line of it").0
}

/// The last test, and why it failed.
fn last_failure(story: &Story) -> (&str, &str) {
    let last = story.tests.last().expect("a test");
    match &last.outcome {
        Outcome::Failed(why) => (&last.name, why),
        Outcome::Passed | Outcome::Skipped(_) => panic!("{last:?}"),
    }
}

#[test]
fn each_test_has_its_outcome() {
    let story = story(GOOD);
    assert_eq!(story.trouble, None);
    let tests: Vec<_> = story
        .tests
        .into_iter()
        .map(|test| (test.name, test.outcome))
        .collect();
    let skipped = "promtool cannot be run: No such file (os error 2)";
    let failed = "the verdict is unknown\nand not reset_by_us";
    assert_eq!(
        tests,
        [
            ("attach::it_attaches".to_owned(), Outcome::Passed),
            ("load::nothing_is_lost".to_owned(), Outcome::Passed),
            (
                "daemon::promtool_is_content".to_owned(),
                Outcome::Skipped(skipped.to_owned())
            ),
            (
                "deaths::linger_0".to_owned(),
                Outcome::Failed(failed.to_owned())
            ),
        ]
    );
}

#[test]
fn a_panic_is_the_failure_of_the_test_that_ran() {
    let console = format!(
        "{}[    8.56] Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI\r\n\
         [    8.58] Kernel panic - not syncing: Fatal exception in interrupt\r\n",
        until("FAILED\r\n\r\nfailures")
    );
    let story = story(&console);
    let (test, why) = last_failure(&story);
    assert_eq!(test, "deaths::linger_0");
    let died =
        "the kernel died while the tests ran: Oops: double fault: 0000 [#1] PREEMPT SMP NOPTI";
    assert!(why.starts_with(died), "{why}");
    assert!(why.ends_with("Fatal exception in interrupt"), "{why}");
    assert_eq!(Counts::of(&story.tests).failed, 1);
}

#[test]
fn a_panic_before_the_first_process_is_the_machines_failure() {
    let story = story("[    1.0] Kernel panic - not syncing: No working init found.\r\n");
    let (test, why) = last_failure(&story);
    assert_eq!(test, MACHINE);
    assert!(
        why.starts_with("the kernel died before its first process spoke"),
        "{why}"
    );
    assert!(why.ends_with("No working init found."), "{why}");
}

#[test]
fn a_hang_is_the_failure_of_the_test_that_ran() {
    let console = until("911 connections");
    let story = tell(&life(console, End::Silent(Duration::from_secs(180))), true);
    let (test, why) = last_failure(&story);
    assert_eq!(test, "load::nothing_is_lost");
    let hung =
        "it hung while the tests ran: nothing was heard for 180 s. The end of the console:\n";
    assert!(why.starts_with(hung), "{why}");
}

#[test]
fn an_error_of_qemu_is_the_failure_of_the_test_that_ran() {
    let error = "KVM internal error. Suberror: 1";
    let console = format!("{}{error}\nemulation failure\n", until("911"));
    let story = tell(&life(&console, End::Broken(error.to_owned())), true);
    let (test, why) = last_failure(&story);
    assert_eq!(test, "load::nothing_is_lost");
    let failed = format!("QEMU failed while the tests ran: {error}. The end of the console:\n");
    assert!(why.starts_with(&failed), "{why}");
    assert!(why.ends_with("emulation failure"), "{why}");
}

#[test]
fn a_guest_that_does_not_boot_says_so() {
    let story = tell(&life("", End::Unbooted(Duration::from_secs(60))), true);
    let expected = "it did not boot: no greeting in 60 s. The console is empty";
    assert_eq!(last_failure(&story), (MACHINE, expected));
}

#[test]
fn a_machine_that_never_ends_has_failed() {
    let life = life(until("911"), End::Endless(Duration::from_secs(1200)));
    assert!(
        tell(&life, true)
            .trouble
            .is_some_and(|why| why.contains("after 1200 s"))
    );
}

#[test]
fn without_a_verdict_even_good_results_are_a_failure() {
    let story = story(until("TCPTRACE-VM-VERDICT"));
    let (test, why) = last_failure(&story);
    assert_eq!(test, MACHINE);
    let off = "it went off without a verdict, while the tests ran. ";
    assert!(why.starts_with(off), "{why}");
    assert_eq!(Counts::of(&story.tests).passed, 2);
}

#[test]
fn a_console_without_a_word_is_a_failure() {
    let story = story("");
    assert_eq!(
        last_failure(&story),
        (
            MACHINE,
            "it went off without a verdict, before its first process spoke. The console is empty"
        )
    );
}

#[test]
fn a_verdict_that_the_console_contradicts_is_a_failure() {
    let story = story(&GOOD.replace("passed=2", "passed=3"));
    let (_, why) = last_failure(&story);
    assert!(why.contains("passed=3 failed=1 skipped=1"), "{why}");
    assert!(why.contains("2 passed, 1 failed, 1 skipped"), "{why}");
}

#[test]
fn a_verdict_on_the_machine_is_a_failure() {
    let verdict = "broken: the tests ended without a result: Signaled(Pid(71), SIGSEGV, false)";
    let console = format!(
        "{}\r\nTCPTRACE-VM-VERDICT: {verdict}\r\n",
        until("FAILED\r\n\r\nfailures")
    );
    assert_eq!(
        last_failure(&story(&console)),
        ("deaths::linger_0", verdict)
    );
}

#[test]
fn a_verdict_that_is_cut_off_is_a_failure() {
    for end in [
        "passed=2 failed=",
        "passed=2",
        "",
        "passed=2 failed=1 skipped=1 more",
    ] {
        let console = format!("{}TCPTRACE-VM-VERDICT: {end}", until("TCPTRACE-VM-VERDICT"));
        assert!(story(&console).trouble.is_some(), "{end:?}");
    }
}

#[test]
fn to_run_nothing_is_a_failure() {
    let nothing = "TCPTRACE-VM-KERNEL: 7\nTCPTRACE-VM-VERDICT: passed=0 failed=0 skipped=0\n";
    assert!(story(nothing).trouble.is_some());
    assert!(tell(&life(nothing, End::Off), false).trouble.is_some());
}

#[test]
fn to_skip_all_is_a_failure_unless_just_that_was_asked_for() {
    let skipped = "test a::b ... ignored (not root)\n\
                   TCPTRACE-VM-VERDICT: passed=0 failed=0 skipped=1\n";
    assert!(story(skipped).trouble.is_some());
    assert_eq!(tell(&life(skipped, End::Off), false).trouble, None);
}
