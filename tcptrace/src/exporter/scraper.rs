//! How the web server asks the tracer for a scrape: a message there, a message back.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::metrics::Scrape;

/// Requests that may wait; who comes beyond that waits outside, and not for long.
const WAITING: usize = 8;

/// Makes both ends: one for the web server, one for the task that owns the tracker.
pub fn scrape_channel() -> (ScrapeHandle, ScrapeRequests) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (ScrapeHandle { sender }, ScrapeRequests { receiver })
}

/// The web server's end.
#[derive(Clone, Debug)]
pub struct ScrapeHandle {
    sender: mpsc::Sender<ScrapeRequest>,
}

/// Why there is no scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScrapeError {
    /// The tracer's task is over.
    #[error("the tracer has stopped; see the daemon's log")]
    Gone,
    /// It did not answer in time.
    #[error("the tracer did not answer within {} s; it is overloaded or stuck", .0.as_secs_f64())]
    Late(Duration),
}

impl ScrapeHandle {
    /// Asks for a scrape and waits for it, at most `limit`.
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

/// The tracer's end. Dropped, every scrape is answered with an error.
#[derive(Debug)]
pub struct ScrapeRequests {
    receiver: mpsc::Receiver<ScrapeRequest>,
}

impl ScrapeRequests {
    /// Waits for the next request; `None` when nobody can ask any more. Cancel safe.
    pub async fn next(&mut self) -> Option<ScrapeRequest> {
        self.receiver.recv().await
    }
}

/// Somebody waits for a scrape.
#[derive(Debug)]
pub struct ScrapeRequest {
    answer: oneshot::Sender<Scrape>,
}

impl ScrapeRequest {
    /// Whoever asked still waits.
    pub fn is_wanted(&self) -> bool {
        !self.answer.is_closed()
    }

    /// Returns it.
    pub fn answer(self, scrape: Scrape) {
        // Who no longer waits has given up by its own time limit, and said so.
        drop(self.answer.send(scrape));
    }
}
