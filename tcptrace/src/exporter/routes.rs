//! Which page answers which request.

use std::{io::Read, sync::Arc};

use flate2::{Compression, GzBuilder};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Bytes,
    header::{
        ACCEPT, ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue,
        VARY,
    },
    http::request::Parts,
};

use super::{
    access::Access,
    bodies::{Bodies, BodyFormat},
    config::{Limits, Readiness, ScrapeSource, WebConfig},
    slots::{ConnectionCounts, ConnectionSlots},
};
use crate::metrics;

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
/// The text format; OpenMetrics for clients that prefer it.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const LANDING: &str = "/";
const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";

/// The pages.
pub(super) struct Router {
    config: WebConfig,
    tracer: ScrapeSource,
    slots: Arc<ConnectionSlots>,
    bodies: Bodies,
    pub(super) access: Access,
}

impl Router {
    pub(super) fn new(
        config: WebConfig,
        tracer: ScrapeSource,
        slots: Arc<ConnectionSlots>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            access: Access::open(config.file.as_deref(), config.check_password)?,
            config,
            tracer,
            slots,
            bodies: Bodies::default(),
        })
    }

    pub(super) const fn limits(&self) -> Limits {
        self.config.limits
    }

    /// Returns the response to one request.
    pub(super) async fn respond(&self, request: &Parts) -> Response<Bytes> {
        let path = request.uri.path();
        #[cfg(debug_assertions)]
        if path == "/-/attempts" && std::env::var_os("TCPTRACE_ATTEMPTS").is_some() {
            let tried = crate::privileges::attempts::attempt_all();
            return page(StatusCode::OK, TEXT, tried);
        }
        let is_telemetry = path == self.config.telemetry_path;
        if !is_telemetry && ![LANDING, HEALTHY, READY].contains(&path) {
            return page(StatusCode::NOT_FOUND, TEXT, "404 not found: see /\n");
        }
        if request.method != Method::GET && request.method != Method::HEAD {
            let mut response = page(
                StatusCode::METHOD_NOT_ALLOWED,
                TEXT,
                "405 method not allowed: GET or HEAD\n",
            );
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        if is_telemetry {
            return self.metrics(&request.headers).await;
        }
        match path {
            HEALTHY => page(StatusCode::OK, TEXT, "tcptrace is healthy\n"),
            READY => match self.readiness() {
                Ok(()) => page(StatusCode::OK, TEXT, "tcptrace is ready\n"),
                Err(why) => {
                    let text = format!("tcptrace is not ready: {why}\n");
                    page(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
                }
            },
            _ => page(StatusCode::OK, HTML, self.landing()),
        }
    }

    fn readiness(&self) -> Readiness {
        let ready = &self.tracer.ready;
        // The last value of a dropped sender no longer counts.
        let is_alive = ready.has_changed().is_ok();
        (*ready.borrow()).and_then(|()| {
            is_alive
                .then_some(())
                .ok_or("its tracer has stopped; see the daemon's log")
        })
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response<Bytes> {
        let spelling = BodyFormat {
            open_metrics: takes(headers, &ACCEPT, "application/openmetrics-text"),
            gzip: takes(headers, &ACCEPT_ENCODING, "gzip"),
        };
        let bytes = self.bodies.get(spelling, || self.spell(spelling)).await;
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(why) => return page(StatusCode::SERVICE_UNAVAILABLE, TEXT, why.to_string()),
        };
        let content_type = match spelling.open_metrics {
            true => OPEN_METRICS,
            false => EXPOSITION,
        };
        let mut response = page(StatusCode::OK, content_type, bytes);
        if spelling.gzip {
            let encoding = HeaderValue::from_static("gzip");
            response.headers_mut().insert(CONTENT_ENCODING, encoding);
        }
        let vary = HeaderValue::from_static("accept, accept-encoding");
        response.headers_mut().insert(VARY, vary);
        response
    }

    /// Requests a scrape and encodes it; an error is the page that says why there is none.
    async fn spell(&self, spelling: BodyFormat) -> Result<Vec<u8>, String> {
        let scrape = self.tracer.scraper.scrape(self.config.limits.scrape).await;
        let scrape = scrape.map_err(|error| format!("503 no metrics: {error}\n"))?;
        let ConnectionCounts { rejected, evicted } = self.slots.counts();
        let scrape = scrape
            .with_web_connections(rejected, evicted)
            .with_web_config(self.access.is_valid());
        let mut text = metrics::encode(&scrape)
            .map_err(|error| format!("503 the metrics cannot be written: {error}\n"))?;
        if spelling.open_metrics {
            text = metrics::as_open_metrics(&text);
        }
        Ok(match spelling.gzip {
            true => gzip(text.as_bytes()),
            false => text.into_bytes(),
        })
    }

    fn landing(&self) -> String {
        let path = escape(&self.config.telemetry_path);
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!DOCTYPE html>\n\
             <html lang=\"en\">\n\
             <head><meta charset=\"utf-8\"><title>tcptrace</title></head>\n\
             <body>\n\
             <h1>tcptrace {version}</h1>\n\
             <p>The lifecycle of every TCP connection on this host, traced with eBPF.</p>\n\
             <ul>\n\
             <li><a href=\"{path}\">Metrics</a></li>\n\
             <li><a href=\"{HEALTHY}\">Healthy</a></li>\n\
             <li><a href=\"{READY}\">Ready</a>: the programs are attached</li>\n\
             </ul>\n\
             </body>\n\
             </html>\n"
        )
    }
}

/// Whether a header names something, and not with a weight of 0 (RFC 9110, section 12.4).
fn takes(headers: &HeaderMap, header: &HeaderName, what: &str) -> bool {
    let values = headers.get_all(header).into_iter();
    let mut named = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    named.any(|named| {
        let mut parts = named.split(';').map(str::trim);
        let is_it = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case(what));
        let weight = parts.find_map(|part| part.strip_prefix("q="));
        is_it && weight.is_none_or(|weight| weight.parse().is_ok_and(|weight: f32| weight > 0.0))
    })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut zipped = GzBuilder::new().read(bytes, Compression::fast());
    let mut out = Vec::new();
    // Reading from memory and writing to it cannot fail.
    drop(zipped.read_to_end(&mut out));
    out
}

/// Escapes text for an attribute's quotes.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn page(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
