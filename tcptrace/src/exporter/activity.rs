//! Requests on an HTTP/2 connection, and how long they may take.
//!
//! Several requests can be in progress, and a client that does not open its windows holds back a
//! response without any byte being late. So the connection has a time limit, counted from its last
//! progress: a complete request, or a sent response.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::body::{Body, Bytes, Frame, SizeHint};
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::{Limits, slots::Client};

/// Bytes passed on at a time. This much of a response can wait after its request counts as done.
const CHUNK: usize = 16_384;

/// The requests in progress on one connection.
pub(super) struct Http2Activity {
    client: Arc<Client>,
    state: Mutex<ActivityState>,
    changed: Notify,
}

struct ActivityState {
    /// How many are being answered.
    open: usize,
    /// There has been a request.
    has_asked: bool,
    /// When the last one came or was done.
    since: Instant,
}

/// One request in progress; it ends when this is dropped.
pub(super) struct ActiveRequest(Arc<Http2Activity>);

/// The bytes of a response, with its request.
pub(super) struct Response {
    bytes: Bytes,
    _turn: ActiveRequest,
}

impl Http2Activity {
    pub(super) fn new(client: Arc<Client>) -> Arc<Self> {
        Arc::new(Self {
            client,
            state: Mutex::new(ActivityState {
                open: 0,
                has_asked: false,
                since: Instant::now(),
            }),
            changed: Notify::new(),
        })
    }

    /// A request came.
    pub(super) fn begin(self: &Arc<Self>) -> ActiveRequest {
        let mut state = self.state();
        state.open += 1;
        state.has_asked = true;
        state.since = Instant::now();
        self.client.begin_response();
        self.changed.notify_one();
        ActiveRequest(Arc::clone(self))
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

    fn state(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock()
    }
}

impl ActiveRequest {
    /// Returns the body: the request is done when it is passed on.
    pub(super) fn body(self, bytes: Bytes) -> Response {
        Response { bytes, _turn: self }
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.since = Instant::now();
        if state.open == 0 {
            self.0.client.begin_wait();
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
