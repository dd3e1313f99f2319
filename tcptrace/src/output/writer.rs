//! Writing without ever holding up the tracer.
//!
//! Rows go to a thread of their own. When whoever reads is slow they pile up to a bound; past it
//! rows are dropped and counted, and the output itself says so.

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
const PATIENCE: u32 = 400;

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

/// Hands bytes to a thread that writes them.
pub struct Writer {
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
    pub fn start(mut output: impl Write + Send + 'static) -> io::Result<Self> {
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
            batches: Some(batches),
            thread: Some(thread),
            pending: Vec::new(),
        })
    }

    /// Room to append rows to; `None` when too much waits already, and the row is to be dropped.
    pub fn room(&mut self) -> Option<&mut Vec<u8>> {
        (self.pending.len() < PENDING).then_some(&mut self.pending)
    }

    /// Passes on what was appended, without waiting, and answers how the output is.
    pub fn pass_on(&mut self) -> WriterState {
        if self.pending.is_empty() {
            return WriterState::Open;
        }
        let Some(batches) = &self.batches else {
            return WriterState::Done;
        };
        match batches.try_send(std::mem::take(&mut self.pending)) {
            Ok(()) => WriterState::Open,
            Err(TrySendError::Full(batch)) => {
                self.pending = batch;
                WriterState::Open
            }
            Err(TrySendError::Disconnected(_)) => self.join(),
        }
    }

    /// Writes what waits and ends the thread. Whoever reads has two seconds for it.
    pub fn finish(mut self) -> WriterState {
        for _ in 0..PATIENCE {
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
            "whoever reads the output did not take the end of it",
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
