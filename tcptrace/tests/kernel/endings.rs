//! How a tail ends, what it says then, and with which status.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use crate::support::{
    Check, beside,
    load::Load,
    namespace::Namespace,
    program::{Running, tcptrace, without_notices},
    tail::Tail,
    tests, wait_for,
};

tests![
    an_interrupt_ends_a_tail_well_with_a_summary,
    a_termination_ends_a_tail_well_with_a_summary,
    the_summary_counts_what_is_still_open,
    a_reader_that_goes_away_ends_a_tail_in_silence,
    a_count_ends_a_tail_after_just_so_many_rows,
    a_duration_ends_a_tail,
    invalid_arguments_are_refused,
    help_and_version_are_no_failures,
    a_stop_under_load_ends_a_tail,
    the_last_rows_of_a_tail_are_as_true_as_the_others,
    a_second_signal_ends_it_at_once,
    a_closed_pipe_is_no_failure,
    an_output_that_cannot_be_written_is_a_failure_and_no_panic,
];

/// A table that is ready: it begins with its headings once everything is attached.
fn table(namespace: &Namespace, arguments: &[&str]) -> anyhow::Result<Running> {
    let inode = namespace.inode().to_string();
    let mut command = tcptrace(&["tail", "--netns", &inode]);
    let running = Running::start(command.args(arguments))?;
    let headings = running.next_line()?;
    ensure!(headings.starts_with("TIME "), "no headings: {headings:?}");
    Ok(running)
}

/// Three connections and a refused connect: 7 connections seen, for each side is one.
fn traffic(namespace: &Namespace) -> Check {
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    for _ in 0..3 {
        let (client, mut server) = namespace.pair(&listener)?;
        drop(client);
        server.read_to_end(&mut Vec::new())?;
    }
    drop(listener);
    ensure!(
        namespace.connect(address).is_err(),
        "somebody listens on {address}"
    );
    Ok(())
}

fn an_interrupt_ends_a_tail_well_with_a_summary() -> Check {
    ends_with_a_summary(Signal::SIGINT)
}

fn a_termination_ends_a_tail_well_with_a_summary() -> Check {
    ends_with_a_summary(Signal::SIGTERM)
}

fn ends_with_a_summary(signal: Signal) -> Check {
    let namespace = Namespace::new()?;
    let mut running = table(&namespace, &[])?;
    traffic(&namespace)?;
    // Six handshakes, six closes, and one that failed.
    for _ in 0..13 {
        running.next_line()?;
    }
    running.signal(signal)?;
    let output = running.wait()?;
    output.must_end_with(0)?;
    ensure!(output.stdout.is_empty(), "more rows: {output:?}");
    ensure!(
        output.stderr == "7 connections seen, 1 failed, 0 events lost\n",
        "{output:?}"
    );
    Ok(())
}

fn the_summary_counts_what_is_still_open() -> Check {
    let namespace = Namespace::new()?;
    let mut running = table(&namespace, &[])?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let _pair = namespace.pair(&listener)?;
    for _ in 0..2 {
        running.next_line()?;
    }
    running.signal(Signal::SIGINT)?;
    let output = running.wait()?;
    output.must_end_with(0)?;
    ensure!(
        output.stderr == "2 connections seen, 0 failed, 0 events lost\n",
        "{output:?}"
    );
    Ok(())
}

fn a_reader_that_goes_away_ends_a_tail_in_silence() -> Check {
    let namespace = Namespace::new()?;
    let inode = namespace.inode().to_string();
    let mut child = tcptrace(&["tail", "--netns", &inode])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdout = BufReader::new(child.stdout.take().context("its standard output")?);
    stdout.read_line(&mut String::new())?;
    drop(stdout);
    // It has nothing to write by which it would notice.
    let status = wait_for("the tail to end", || Ok(child.try_wait()?))?;
    let mut stderr = String::new();
    let mut pipe = child.stderr.take().context("its standard error")?;
    pipe.read_to_string(&mut stderr)?;
    ensure!(status.code() == Some(0), "{status}: {stderr}");
    let complaints = without_notices(&stderr);
    ensure!(complaints.is_empty(), "it complains: {stderr}");
    Ok(())
}

fn a_count_ends_a_tail_after_just_so_many_rows() -> Check {
    let namespace = Namespace::new()?;
    for count in [1, 5] {
        let mut running = table(&namespace, &["--count", &count.to_string()])?;
        traffic(&namespace)?;
        let output = running.wait()?;
        output.must_end_with(0)?;
        ensure!(
            output.stdout.lines().count() == count,
            "not {count} rows: {output:?}"
        );
        ensure!(output.stderr.ends_with(" 0 events lost\n"), "{output:?}");
    }
    Ok(())
}

fn a_duration_ends_a_tail() -> Check {
    let namespace = Namespace::new()?;
    let mut running = table(&namespace, &["--duration", "500ms"])?;
    let output = running.wait()?;
    output.must_end_with(0)?;
    ensure!(
        output.stdout.is_empty()
            && output.stderr == "0 connections seen, 0 failed, 0 events lost\n",
        "{output:?}"
    );
    Ok(())
}

/// Arguments, and what the complaint must name.
const REFUSED: [(&[&str], &str); 16] = [
    (&["tail", "--ring-size", "5000"], "--ring-size 5000"),
    (&["tail", "--ring-size", "2KiB"], "--ring-size 2048"),
    (&["tail", "--ring-size", "much"], "a number of bytes"),
    (&["tail", "--count", "0"], "--count"),
    (&["tail", "--duration", "0s"], "--duration"),
    (&["tail", "--port", "70000"], "from 1 to 65535"),
    (&["tail", "--port", "90-80"], "begins with 90"),
    (&["tail", "--cidr", "localhost"], "\"localhost\""),
    (&["tail", "--role", "server"], "active, passive"),
    (&["tail", "--format", "xml"], "xml"),
    (&["tail", "--show", "everything"], "everything"),
    (&["tail", "-4", "-6"], "cannot be used with"),
    (&["tail", "--no-such-flag"], "--no-such-flag"),
    (
        &["daemon", "--web.telemetry-path", "metrics"],
        "--web.telemetry-path metrics",
    ),
    (
        &["daemon", "--web.telemetry-path", "/metrics?of=all"],
        "no ?, # or space",
    ),
    (
        &["daemon", "--web.telemetry-path", "/metrics#all"],
        "no ?, # or space",
    ),
];

fn invalid_arguments_are_refused() -> Check {
    for (arguments, complaint) in REFUSED {
        let output = Running::to_end(&mut tcptrace(arguments))?;
        output.must_end_with(2)?;
        output.must_complain(complaint)?;
        ensure!(output.stdout.is_empty(), "{output:?}");
    }
    Ok(())
}

fn help_and_version_are_no_failures() -> Check {
    for arguments in [&["--help"][..], &["--version"], &["tail", "--help"]] {
        let output = Running::to_end(&mut tcptrace(arguments))?;
        output.must_end_with(0)?;
        ensure!(output.stdout.contains("tcptrace"), "{output:?}");
        ensure!(output.stderr.is_empty(), "{output:?}");
    }
    Ok(())
}

fn a_stop_under_load_ends_a_tail() -> Check {
    let namespace = Namespace::new()?;
    let load = Load::new(&namespace)?;
    let mut running = table(&namespace, &["--show", "transitions", "--port", "1"])?;
    let load = || load.run(Duration::from_millis(100), u64::MAX).map(drop);
    let ((), _) = beside(load, || {
        running.signal(Signal::SIGTERM)?;
        running.wait()?.must_end_with(0)
    })?;
    Ok(())
}

/// What a hook did not tell is evidence only until it is detached, which is not before the last
/// transition's record is due.
fn the_last_rows_of_a_tail_are_as_true_as_the_others() -> Check {
    let namespace = Namespace::new()?;
    // Nobody listens there any more.
    let (_, address) = namespace.listen("127.0.0.1:0")?;
    for _ in 0..3 {
        let tail = Tail::start(&namespace, &[])?;
        let connect = || {
            let refused = namespace.connect(address).is_err();
            ensure!(refused, "somebody listens");
            Ok(())
        };
        // They go on until it has ended.
        let ((records, output), _) =
            beside(connect, || tail.after_count("connection", 500)?.interrupt())?;
        output.must_end_with(0)?;
        let nothing_lost = output.stderr.ends_with(" 0 events lost\n");
        for record in records.of("connection") {
            let verdict = record.text("verdict");
            let whole = nothing_lost && record.text("completeness") == Some("full");
            let right = verdict == Some("refused") || (verdict == Some("unknown") && !whole);
            ensure!(right, "{record}");
        }
    }
    Ok(())
}

fn a_second_signal_ends_it_at_once() -> Check {
    let namespace = Namespace::new()?;
    let mut running = table(&namespace, &[])?;
    // Both are there when it goes on.
    for signal in [
        Signal::SIGSTOP,
        Signal::SIGINT,
        Signal::SIGTERM,
        Signal::SIGCONT,
    ] {
        running.signal(signal)?;
    }
    running.wait()?.must_end_with(128 + Signal::SIGTERM as i32)
}

/// Something whose reader is gone.
fn closed_pipe() -> anyhow::Result<Stdio> {
    let (_, writer) = std::io::pipe()?;
    Ok(writer.into())
}

fn status_of(
    arguments: &[&str],
    stdout: impl Into<Stdio>,
    stderr: impl Into<Stdio>,
) -> anyhow::Result<Option<i32>> {
    let mut command = tcptrace(arguments);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()?;
    let status = wait_for("the program to end", || Ok(child.try_wait()?))?;
    Ok(status.code())
}

fn a_closed_pipe_is_no_failure() -> Check {
    for arguments in [
        &["check"][..],
        &["--help"],
        &["tail", "--duration", "100ms"],
    ] {
        let status = status_of(arguments, closed_pipe()?, closed_pipe()?)?;
        ensure!(status == Some(0), "{arguments:?}: {status:?}");
    }
    Ok(())
}

fn an_output_that_cannot_be_written_is_a_failure_and_no_panic() -> Check {
    let full = || File::options().write(true).open("/dev/full");
    let null = Stdio::null;
    for arguments in [&["check"][..], &["--help"], &["--version"]] {
        let status = status_of(arguments, full()?, null())?;
        ensure!(status == Some(1), "{arguments:?}: {status:?}");
    }
    let tail = ["tail", "--duration", "100ms"];
    for (arguments, expected) in [
        (&tail[..], 1),
        (&["replay", "/nonexistent"], 1),
        (&["--no-such-flag"], 2),
    ] {
        let status = status_of(arguments, null(), full()?)?;
        ensure!(status == Some(expected), "{arguments:?}: {status:?}");
    }
    let status = status_of(&tail, full()?, null())?;
    ensure!(status == Some(1), "the table's head: {status:?}");
    Ok(())
}
