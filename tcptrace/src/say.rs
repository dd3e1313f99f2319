//! What the program says of itself.
//!
//! `print!` and its kind panic when they cannot write. Here a reader that is gone is no error,
//! and anything else is one.

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

use anyhow::Context;

/// Writes a line on standard error.
///
/// # Errors
///
/// When it cannot be written; a closed pipe is no error.
pub fn line(line: impl Display) -> anyhow::Result<()> {
    tolerate(writeln!(io::stderr(), "{line}")).context("writing to standard error")
}

/// Writes text on standard output.
///
/// # Errors
///
/// When it cannot be written; a closed pipe is no error.
pub fn output(text: impl Display) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = write!(stdout, "{text}").and_then(|()| stdout.flush());
    tolerate(written).context("writing to standard output")
}

/// A reader that is gone wants no more.
fn tolerate(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result,
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
