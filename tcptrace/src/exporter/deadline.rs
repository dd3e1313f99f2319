//! A connection's bytes with a time limit on everything its client can be slow at.
//!
//! ```text
//!            first byte          the whole head        first byte of the response
//!   Idle ──────────────► Head ─────────────────► Serving ─────────────────────────► Response
//!    ▲ (idle)            (head)                  (none: ours, not the client's)   (response) │
//!    └────────────────────────────── the response is sent ───────────────────────────────────┘
//! ```
//!
//! hyper's own `header_read_timeout` is one limit for the head and for the time between requests;
//! and it has none for a client that does not read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Instant, Sleep, sleep};

use super::{Limits, slots::Client};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for a request's first byte.
    Idle,
    /// Within a request's head, or serving it.
    Head,
    Response,
}

/// A connection's bytes with time limits.
pub(super) struct Deadline<S> {
    inner: S,
    limits: Limits,
    phase: Phase,
    /// While a request is served, from the end of its head to the start of its response, the client
    /// has no time limit.
    client: Arc<Client>,
    timer: Pin<Box<Sleep>>,
}

impl<S> Deadline<S> {
    /// A new connection. Its first request must come within [`Limits::head`].
    pub(super) fn new(inner: S, limits: Limits, client: Arc<Client>) -> Self {
        Self {
            inner,
            limits,
            phase: Phase::Head,
            client,
            timer: Box::pin(sleep(limits.head)),
        }
    }

    fn enter(&mut self, phase: Phase, limit: Duration) {
        self.phase = phase;
        self.timer.as_mut().reset(Instant::now() + limit);
    }

    /// The client makes us wait: an error once that was too long.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        ready!(self.timer.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn begin_response(&mut self) {
        if self.phase != Phase::Response {
            self.enter(Phase::Response, self.limits.response);
        }
    }
}

impl<S: Read + Unpin> Read for Deadline<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_read(context, buffer) {
            Poll::Ready(result) => {
                if self.phase == Phase::Idle {
                    let limit = self.limits.head;
                    self.enter(Phase::Head, limit);
                }
                Poll::Ready(result)
            }
            // Writing has the limit of a response, and is polled as well.
            Poll::Pending if self.phase == Phase::Response => Poll::Pending,
            Poll::Pending if self.client.waiting_since().is_none() => Poll::Pending,
            Poll::Pending => self.wait(context),
        }
    }
}

impl<S: Write + Unpin> Write for Deadline<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.begin_response();
        match Pin::new(&mut self.inner).poll_write(context, bytes) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(context),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.begin_response();
        match Pin::new(&mut self.inner).poll_write_vectored(context, slices) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.wait(context),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    /// hyper calls this only with nothing left to write: in a response, that is its end.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.inner).poll_flush(context) {
            Poll::Ready(result) => {
                if self.phase == Phase::Response {
                    self.client.begin_wait();
                    let limit = self.limits.idle;
                    self.enter(Phase::Idle, limit);
                    // hyper has looked for the next request already and waits; only the timer makes
                    // it look again, and then poll_read reports the error.
                    if self.timer.as_mut().poll(context).is_ready() {
                        context.waker().wake_by_ref();
                    }
                }
                Poll::Ready(result)
            }
            Poll::Pending if self.phase == Phase::Response => self.wait(context),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
