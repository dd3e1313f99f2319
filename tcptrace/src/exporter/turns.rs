//! Whose turn it is on an HTTP/2 connection, and how long it may take.
//!
//! Several requests can be under way, and a client that does not open its windows keeps a response
//! back without any byte being late. So that it is the connection that has a limit of time, from
//! its last progress: a request that came whole, or a response that went.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Limits, places::Client};

/// Bytes handed on at a time. So much of a response can be waiting without its turn being over.
const CHUNK: usize = 16_384;

/// The turns of one connection.
pub(super) struct Turns {
    client: Arc<Client>,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    /// Requests that are being answered.
    open: usize,
    /// There was one.
    has_asked: bool,
    /// When one came or was done with.
    since: Instant,
}

/// One request's. It ends with this.
pub(super) struct Turn(Arc<Turns>);

/// A response's bytes, and its turn.
pub(super) struct Response {
    bytes: Bytes,
    _turn: Turn,
}

impl Turns {
    pub(super) fn new(client: Arc<Client>) -> Arc<Self> {
        Arc::new(Self {
            client,
            state: Mutex::new(State {
                open: 0,
                has_asked: false,
                since: Instant::now(),
            }),
            changed: Notify::new(),
        })
    }

    /// A request came.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        let mut state = self.state();
        state.open += 1;
        state.has_asked = true;
        state.since = Instant::now();
        self.client.is_served();
        self.changed.notify_one();
        Turn(Arc::clone(self))
    }

    /// Waits until there was no progress for too long.
    pub(super) async fn overdue(&self, limits: Limits) {
        loop {
            let until = {
                let state = self.state();
                let limit = match (state.open, state.has_asked) {
                    (0, false) => limits.head,
                    (0, true) => limits.idle,
                    _ => limits.scrape + limits.response,
                };
                state.since + limit
            };
            if timeout_at(until, self.changed.notified()).await.is_err() {
                return;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// What is sent: the turn is over when that is handed on.
    pub(super) fn body(self, bytes: Bytes) -> Response {
        Response { bytes, _turn: self }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.since = Instant::now();
        if state.open == 0 {
            self.0.client.is_waited_for();
        }
        self.0.changed.notify_one();
    }
}

impl Body for Response {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let length = self.bytes.len().min(CHUNK);
        let chunk = self.bytes.split_to(length);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
