//! How the web server is set up.

use std::{path::PathBuf, time::Duration};

use tokio::sync::watch;

use super::scraper::ScrapeHandle;

/// Between two lines in the log about the same trouble.
pub(super) const SAY_EVERY: Duration = Duration::from_secs(60);

/// The bounds on what a client can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, over all listeners. For one more, the one that has been idle longest
    /// is closed; where all are busy, the newcomer is. Both are counted.
    pub connections: usize,
    /// From a request's first byte (or the connection's beginning) to the end of its head.
    pub head: Duration,
    /// Between a response and the next request.
    pub idle: Duration,
    /// For the tracer to answer a scrape.
    pub scrape: Duration,
    /// For the client to take a response.
    pub response: Duration,
    /// For what is under way when the server stops.
    pub drain: Duration,
}

/// Bytes of a request's head; above, it is refused with 431.
pub(super) const HEAD_BYTES: usize = 8192;

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 512,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(120),
            scrape: Duration::from_secs(5),
            response: Duration::from_secs(10),
            drain: Duration::from_secs(2),
        }
    }
}

/// How the web server is set up.
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Where the metrics are: an absolute path that is none of the server's own.
    pub telemetry_path: String,
    /// TLS and passwords: a file in the format of Prometheus's exporter-toolkit.
    pub file: Option<PathBuf>,
    /// What clients can ask for.
    pub limits: Limits,
    /// Whether a password is the one of a hash of that file. It may take a second of a processor's time.
    pub check_password: fn(&[u8], &str) -> bool,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            telemetry_path: "/metrics".to_owned(),
            file: None,
            limits: Limits::default(),
            check_password: |password, hash| bcrypt::verify(password, hash).unwrap_or(false),
        }
    }
}

/// `Err` says why it is not ready.
pub type Readiness = Result<(), &'static str>;

/// What the web server needs of the tracer.
#[derive(Clone, Debug)]
pub struct ScrapeSource {
    /// Where scrapes are asked for.
    pub scraper: ScrapeHandle,
    /// Whether the metrics tell all that there is, or why not yet. A sender that is gone says that they
    /// no longer do.
    pub ready: watch::Receiver<Readiness>,
}
