//! Writing on a thread of its own.
//!
//! Records are also rendered there: neither a slow reader nor rendering holds up the tracer. If the
//! thread falls behind, records wait, up to a limit. Past it a tracer goes on: it drops and counts
//! them, and the output says so. A replay has no ring to protect: it waits.

use std::{
    io::{self, Write},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
    time::Duration,
};

use crate::worker;

/// The most batches on their way to the writing thread.
const BATCHES: usize = 8;
/// How many times a slow reader is checked, 5 ms apart, before the rest is given up.
const LAST_LOOKS: u32 = 400;
/// Bytes rendered before they are written.
const RENDERED: usize = 1 << 18;

/// The state of the output.
#[derive(Debug)]
pub enum WriterState {
    Open,
    Done,
    /// The reader is gone: the end of a tail, not a failure.
    ReaderGone,
    Failed(io::Error),
}

/// What to do when the reader is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Drop what does not fit.
    None,
    /// Wait as long as it takes.
    Endless,
}

/// Passes things to a thread that writes them.
pub struct Writer<T> {
    patience: Patience,
    /// How many things may wait beside the batches on their way.
    most: usize,
    batches: Option<SyncSender<Vec<T>>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    pending: Vec<T>,
}

impl<T: Send + 'static> Writer<T> {
    /// Starts the thread, which writes `head` to `output` and then renders each thing. With a slow
    /// reader at most `most` things wait.
    pub fn start(
        mut output: impl Write + Send + 'static,
        head: Vec<u8>,
        mut render: impl FnMut(&T, &mut Vec<u8>) + Send + 'static,
        most: usize,
        patience: Patience,
    ) -> io::Result<Self> {
        let (batches, receiver): (_, Receiver<Vec<T>>) = sync_channel(BATCHES);
        let thread = worker::spawn("writer", move || {
            output.write_all(&head)?;
            output.flush()?;
            let mut rendered = head;
            rendered.clear();
            for batch in receiver {
                for thing in &batch {
                    render(thing, &mut rendered);
                    if rendered.len() >= RENDERED {
                        output.write_all(&rendered)?;
                        rendered.clear();
                    }
                }
                output.write_all(&rendered)?;
                rendered.clear();
                output.flush()?;
            }
            Ok(())
        })?;
        Ok(Self {
            patience,
            most,
            batches: Some(batches),
            thread: Some(thread),
            pending: Vec::new(),
        })
    }

    /// Whether there is room for one more. With endless patience there always is:
    /// [`pass_on`](Self::pass_on) makes it.
    pub fn has_room(&self) -> bool {
        self.patience == Patience::Endless || self.pending.len() < self.most
    }

    /// Takes something to write, whether there is room or not.
    pub fn push(&mut self, thing: T) {
        self.pending.push(thing);
    }

    /// Passes on what was taken and returns the state of the output. Waits only with endless
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

    /// Writes what waits and ends the thread. Without patience the reader has two seconds.
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
mod tests;
