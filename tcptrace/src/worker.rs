//! Starts the program's threads.

use std::{io, thread};

/// Starts a thread with a name, at most 15 bytes: ps and top show it.
pub fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    thread::Builder::new().name(name.to_owned()).spawn(work)
}
