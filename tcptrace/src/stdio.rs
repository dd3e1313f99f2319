//! Standard output and standard error.
//!
//! `print!` and its kind panic when they cannot write. Here a closed pipe is no error, and anything
//! else is one.

use std::{
    fmt::Display,
    future::pending,
    io::{self, ErrorKind, IsTerminal as _, Write},
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context;
use tokio::io::{Interest, unix::AsyncFd};

use crate::text;

/// Moves to the start of the terminal's line and erases it.
pub const ERASE: &[u8] = b"\r\x1b[K";

/// The terminal's last line is a status line, to be erased before anything else is written.
static STATUS: AtomicBool = AtomicBool::new(false);

/// Notes that the terminal's last line is a status line.
pub fn status_is_shown() {
    STATUS.store(true, Ordering::Relaxed);
}

/// Returns whether there is a status line; the caller erases it.
pub fn take_status() -> bool {
    STATUS.swap(false, Ordering::Relaxed)
}

/// Standard error, which erases a status line before it writes.
#[derive(Clone, Copy, Debug)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stderr = io::stderr().lock();
        if stderr.is_terminal() && take_status() {
            stderr.write_all(ERASE)?;
        }
        stderr.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Writes a line on standard error, without what would act on a terminal: the text may be from a
/// file that somebody else wrote.
///
/// Fails when it cannot be written; a closed pipe is no error.
pub fn eprint_line(line: impl Display) -> anyhow::Result<()> {
    let line = text::visible_lines(&format!("{line}\n"));
    tolerate(Stderr.write_all(line.as_bytes())).context("writing to standard error")
}

/// Writes text on standard output.
///
/// Fails when it cannot be written; a closed pipe is no error.
pub fn print(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = write!(stdout, "{text}").and_then(|()| stdout.flush());
    tolerate(written).context("writing to standard output")
}

/// Treats a closed pipe as success.
fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The process at the other end of standard output.
pub struct StdoutReader(Option<AsyncFd<OwnedFd>>);

impl StdoutReader {
    /// Watches a pipe or a socket; nothing else has a reader that can go away.
    pub fn watch() -> Self {
        let fd = io::stdout().as_fd().try_clone_to_owned().ok();
        // SAFETY: an OwnedFd returns the one descriptor that it keeps open until it is dropped.
        let register = |fd| unsafe { AsyncFd::register_with_interest(fd, Interest::ERROR).ok() };
        Self(fd.and_then(register))
    }

    /// Waits until the reader has gone, without writing anything. Cancel safe.
    pub async fn is_gone(&self) {
        let Some(watched) = &self.0 else {
            return pending().await;
        };
        // poll(2) reports the other end of a pipe by POLLERR.
        while let Ok(mut guard) = watched.ready(Interest::ERROR).await {
            if guard.ready().is_error() {
                return;
            }
            guard.clear_ready();
        }
        pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_closed_pipe_is_tolerated() {
        assert!(tolerate(Ok(())).is_ok());
        assert!(tolerate(Err(ErrorKind::BrokenPipe.into())).is_ok());
        assert!(tolerate(Err(ErrorKind::StorageFull.into())).is_err());
    }
}
