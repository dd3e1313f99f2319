//! `tcptrace capture`: when its file appears, and what becomes of one that was there.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use nix::{
    sys::{
        signal::{Signal, kill},
        stat::Mode,
    },
    unistd::{Pid, mkfifo},
};
use tempfile::{TempDir, tempdir};

use crate::support::{
    Check,
    program::{Output, Running, takes_signals, tcptrace},
    surroundings::NO_BTF,
    tests, wait_for,
};

tests![
    a_capture_that_cannot_trace_leaves_no_file,
    a_capture_that_cannot_trace_leaves_the_old_file,
    a_file_that_is_there_is_replaced_only_by_force,
    a_link_stays_and_what_it_leads_to_is_replaced,
    a_new_file_is_for_its_owner_only,
    a_signal_ends_it_while_it_waits_for_the_reader_of_a_fifo,
];

const OLD: &str = "what was there before";

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}

/// A capture that cannot trace.
fn in_vain(path: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = tcptrace(&["capture", "--attach", "tp_btf"]);
    command.args(arguments).arg(path);
    let output = NO_BTF.run(|| Running::to_end(&mut command))?;
    output.must_end_with(1)?;
    Ok(output)
}

/// A short capture.
fn short(path: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = tcptrace(&["capture", "--duration", "100ms"]);
    Running::to_end(command.args(arguments).arg(path))
}

/// The file is a capture, and all that is in the directory.
fn must_be_a_capture(path: &Path, directory: &TempDir, files: usize) -> Check {
    let output = Running::to_end(&mut tcptrace(&["replay", text(path)?]))?;
    output.must_end_with(0)?;
    let count = fs::read_dir(directory)?.count();
    ensure!(count == files, "{count} files are left and not {files}");
    Ok(())
}

fn a_capture_that_cannot_trace_leaves_no_file() -> Check {
    let directory = tempdir()?;
    for arguments in [&[][..], &["--force"]] {
        in_vain(&directory.path().join("new"), arguments)?;
        let left = fs::read_dir(&directory)?.count();
        ensure!(left == 0, "{left} files are left");
    }
    Ok(())
}

fn a_capture_that_cannot_trace_leaves_the_old_file() -> Check {
    let directory = tempdir()?;
    let path = directory.path().join("old");
    fs::write(&path, OLD)?;
    in_vain(&path, &["--force"])?;
    ensure!(fs::read_to_string(&path)? == OLD, "it was written to");
    Ok(())
}

fn a_file_that_is_there_is_replaced_only_by_force() -> Check {
    let directory = tempdir()?;
    let path = directory.path().join("old");
    fs::write(&path, OLD)?;
    let output = short(&path, &[])?;
    output.must_end_with(1)?;
    output.must_complain("--force")?;
    ensure!(fs::read_to_string(&path)? == OLD, "it was written to");
    short(&path, &["--force"])?.must_end_with(0)?;
    must_be_a_capture(&path, &directory, 1)
}

fn a_link_stays_and_what_it_leads_to_is_replaced() -> Check {
    let directory = tempdir()?;
    let (path, link) = (directory.path().join("old"), directory.path().join("link"));
    fs::write(&path, OLD)?;
    symlink(&path, &link)?;
    short(&link, &["--force"])?.must_end_with(0)?;
    ensure!(fs::read_link(&link)? == path, "the link is gone");
    must_be_a_capture(&path, &directory, 2)
}

fn a_new_file_is_for_its_owner_only() -> Check {
    let directory = tempdir()?;
    let path = directory.path().join("new");
    short(&path, &[])?.must_end_with(0)?;
    let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
    ensure!(mode == 0o600, "{mode:o}");
    must_be_a_capture(&path, &directory, 1)
}

fn a_signal_ends_it_while_it_waits_for_the_reader_of_a_fifo() -> Check {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let directory = tempdir()?;
        let path = directory.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU)?;
        let mut child = Command::spawn(
            tcptrace(&["capture", text(&path)?])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
        wait_for("it to take signals", || Ok(takes_signals(child.id())))?;
        kill(Pid::from_raw(i32::try_from(child.id())?), signal)?;
        let status = wait_for("the capture to end", || Ok(child.try_wait()?))?;
        ensure!(status.code() == Some(0), "{signal}: {status}");
    }
    Ok(())
}
