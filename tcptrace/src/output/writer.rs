//! Writing on a thread of its own.
//!
//! When the reader is slow, rows pile up to a bound. Past it a tracer goes on: rows are dropped
//! and counted, and the output itself says so. A replay has no ring to protect: it waits.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

/// Batches on their way to the writing thread.
const BATCHES: usize = 8;
/// Bytes that may pile up beside them.
const PENDING: usize = 16 << 20;
/// Looks at a slow reader before the end is given up, 5 ms apart.
const LAST_LOOKS: u32 = 400;

/// What became of the output.
#[derive(Debug)]
pub enum WriterState {
    /// It takes rows.
    Open,
    /// Everything was written.
    Done,
    /// Whoever read it is gone: the end of a tail, and no failure.
    ReaderGone,
    /// It cannot be written.
    Failed(io::Error),
}

/// What to do about a reader that is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Drop rows.
    None,
    /// Wait, for as long as it takes.
    Endless,
}

/// Hands bytes to a thread that writes them.
pub struct Writer {
    patience: Patience,
    batches: Option<SyncSender<Vec<u8>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    pending: Vec<u8>,
}

impl Writer {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn start(mut output: impl Write + Send + 'static, patience: Patience) -> io::Result<Self> {
        let (batches, receiver): (_, Receiver<Vec<u8>>) = sync_channel(BATCHES);
        let thread = std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                for batch in receiver {
                    output.write_all(&batch)?;
                    output.flush()?;
                }
                Ok(())
            })?;
        Ok(Self {
            patience,
            batches: Some(batches),
            thread: Some(thread),
            pending: Vec::new(),
        })
    }

    /// Room to append rows to; `None` when too much waits already, and the row is to be dropped.
    /// With endless patience there is always room: [`pass_on`](Self::pass_on) makes it.
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        (self.patience == Patience::Endless || self.pending.len() < PENDING)
            .then_some(&mut self.pending)
    }

    /// Room for the few last rows, whatever waits already.
    pub fn room_at_the_end(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// Passes on what was appended and returns how the output is. Waits only with endless
    /// patience.
    pub fn pass_on(&mut self) -> WriterState {
        if self.pending.is_empty() {
            return WriterState::Open;
        }
        let Some(batches) = &self.batches else {
            return WriterState::Done;
        };
        let pending = std::mem::take(&mut self.pending);
        let sent = match self.patience {
            Patience::None => batches.try_send(pending),
            Patience::Endless => batches
                .send(pending)
                .map_err(|error| TrySendError::Disconnected(error.0)),
        };
        match sent {
            Ok(()) => WriterState::Open,
            Err(TrySendError::Full(batch)) => {
                self.pending = batch;
                WriterState::Open
            }
            Err(TrySendError::Disconnected(_)) => self.join(),
        }
    }

    /// Writes what waits and ends the thread. Without patience the reader has two seconds for it.
    pub fn finish(mut self) -> WriterState {
        if self.patience == Patience::Endless {
            return match self.pass_on() {
                WriterState::Open => self.join(),
                ended @ (WriterState::Done | WriterState::ReaderGone | WriterState::Failed(_)) => {
                    ended
                }
            };
        }
        for _ in 0..LAST_LOOKS {
            match self.pass_on() {
                WriterState::Open => {}
                ended @ (WriterState::Done | WriterState::ReaderGone | WriterState::Failed(_)) => {
                    return ended;
                }
            }
            if self.pending.is_empty() {
                drop(self.batches.take());
                if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                    return self.join();
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        WriterState::Failed(io::Error::new(
            io::ErrorKind::TimedOut,
            "timed out after 2 s: the reader stopped reading",
        ))
    }

    fn join(&mut self) -> WriterState {
        drop(self.batches.take());
        match self.thread.take().map(JoinHandle::join) {
            None | Some(Ok(Ok(()))) => WriterState::Done,
            Some(Ok(Err(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
                WriterState::ReaderGone
            }
            Some(Ok(Err(error))) => WriterState::Failed(error),
            Some(Err(_)) => WriterState::Failed(io::Error::other("the writing thread panicked")),
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
