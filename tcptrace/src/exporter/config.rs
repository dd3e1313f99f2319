//! The configuration of the web server.

use std::{path::PathBuf, time::Duration};

use tokio::sync::watch;

use super::scraper::ScrapeHandle;

/// Limits on what a client can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at a time, over all listeners. For one more, the one idle for longest
    /// is closed; if all are busy, the new one is. Both are counted.
    pub connections: usize,
    /// From a request's first byte (or the start of the connection) to the end of its head.
    pub head: Duration,
    /// Between a response and the next request.
    pub idle: Duration,
    /// For the tracer to answer a scrape.
    pub scrape: Duration,
    /// For the client to read a response.
    pub response: Duration,
    /// For responses in progress when the server stops.
    pub drain: Duration,
}

/// The most bytes in a request's head; above, it is refused with 431.
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

#[derive(Clone, Debug)]
pub struct WebConfig {
    /// The path of the metrics: absolute, and not one of the server's own.
    pub telemetry_path: String,
    /// TLS and passwords: a file in the format of Prometheus's exporter-toolkit.
    pub file: Option<PathBuf>,
    pub limits: Limits,
    /// Whether a password matches a hash of that file. May take a second of processor time.
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

/// Whether the metrics are complete, or why not yet.
pub type Readiness = Result<(), &'static str>;

/// What the web server needs from the tracer.
#[derive(Clone, Debug)]
pub struct ScrapeSource {
    /// Where scrapes are requested.
    pub scraper: ScrapeHandle,
    /// Whether the metrics are complete, or why not yet. A dropped sender means that they no longer
    /// are.
    pub ready: watch::Receiver<Readiness>,
}
