//! How the web server requests a scrape from the tracer: one message each way.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::metrics::Scrape;

/// The most requests that wait; others wait outside, and not for long.
const WAITING: usize = 8;

/// Returns both ends: for the web server, and for the task that owns the tracker.
pub fn scrape_channel() -> (ScrapeHandle, ScrapeRequests) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (ScrapeHandle { sender }, ScrapeRequests { receiver })
}

#[derive(Clone, Debug)]
pub struct ScrapeHandle {
    sender: mpsc::Sender<ScrapeRequest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScrapeError {
    /// The tracer's task has ended.
    #[error("the tracer has stopped; see the daemon's log")]
    Gone,
    #[error("the tracer did not answer within {} s; it is overloaded or stuck", .0.as_secs_f64())]
    Late(Duration),
}

impl ScrapeHandle {
    /// Requests a scrape and waits for it, at most `limit`.
    pub(super) async fn scrape(&self, limit: Duration) -> Result<Scrape, ScrapeError> {
        let asked = async {
            let (answer, answered) = oneshot::channel();
            self.sender.send(ScrapeRequest { answer }).await.ok()?;
            answered.await.ok()
        };
        match tokio::time::timeout(limit, asked).await {
            Ok(Some(scrape)) => Ok(scrape),
            Ok(None) => Err(ScrapeError::Gone),
            Err(_) => Err(ScrapeError::Late(limit)),
        }
    }
}

/// The tracer's end. Once dropped, every scrape fails.
#[derive(Debug)]
pub struct ScrapeRequests {
    receiver: mpsc::Receiver<ScrapeRequest>,
}

impl ScrapeRequests {
    /// Waits for the next request; `None` when none can follow. Cancel safe.
    pub async fn next(&mut self) -> Option<ScrapeRequest> {
        self.receiver.recv().await
    }
}

/// A request for a scrape.
#[derive(Debug)]
pub struct ScrapeRequest {
    answer: oneshot::Sender<Scrape>,
}

impl ScrapeRequest {
    /// Whether the requester still waits.
    pub fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    pub fn answer(self, scrape: Scrape) {
        // A requester that gave up has reported its own timeout.
        drop(self.answer.send(scrape));
    }
}
