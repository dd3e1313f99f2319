//! Limits of time, on a clock that only moves when nobody has anything to do.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep},
};

use super::server::{GET, body, length, scrape_of};
use crate::{
    exporter::{
        Limits, ScrapeSource, WebConfig,
        routes::Router,
        scrape_channel, serve,
        slots::{ConnectionSlot, ConnectionSlots},
    },
    metrics::{Metrics, MetricsConfig},
};

pub(super) const SHORT: Duration = Duration::from_millis(300);
/// The timer's own grain.
pub(super) const GRAIN: Duration = Duration::from_millis(2);
/// Limits that no test reaches by chance.
pub(super) const AMPLE: Limits = Limits {
    connections: 64,
    head: Duration::from_secs(3_600),
    idle: Duration::from_secs(3_600),
    scrape: Duration::from_secs(3_600),
    response: Duration::from_secs(3_600),
    drain: Duration::from_secs(3_600),
};

/// A connection to a server.
pub(super) struct Dialled {
    pub(super) stream: DuplexStream,
    pub(super) stop: watch::Sender<bool>,
    pub(super) serving: JoinHandle<()>,
}

/// A connection in memory, whose pipe holds so many bytes, to a server whose tracer takes so long
/// and says so many bytes.
fn dial(limits: Limits, delay: Duration, bulk: usize) -> Dialled {
    dial_by(limits, delay, bulk, serve::serve)
}

/// The same, with who serves it.
pub(super) fn dial_by<S>(
    limits: Limits,
    delay: Duration,
    bulk: usize,
    serve: impl FnOnce(DuplexStream, Arc<Router>, ConnectionSlot, watch::Receiver<bool>) -> S,
) -> Dialled
where
    S: Future<Output = ()> + Send + 'static,
{
    let (stream, theirs) = duplex(4096);
    let (scraper, mut requests) = scrape_channel();
    let (ready, is_ready) = watch::channel(Ok(()));
    let (stop, stopped) = watch::channel(false);
    let config = WebConfig {
        limits,
        ..WebConfig::default()
    };
    let tracer = ScrapeSource {
        scraper,
        ready: is_ready,
    };
    let slots = ConnectionSlots::new(limits.connections);
    let slot = slots.acquire(Ipv4Addr::LOCALHOST.into()).expect("a slot");
    let router = Arc::new(Router::new(config, tracer, slots).expect("no file"));
    tokio::spawn(async move {
        let _ready = ready;
        let mut metrics = Metrics::new(&MetricsConfig::default());
        while let Some(request) = requests.next().await {
            sleep(delay).await;
            request.answer(scrape_of(&mut metrics, bulk));
        }
    });
    let serving = tokio::spawn(serve(theirs, router, slot, stopped));
    Dialled {
        stream,
        stop,
        serving,
    }
}

impl Dialled {
    async fn write(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// What comes until the server closes.
    async fn rest(&mut self) -> String {
        let mut text = String::new();
        self.stream.read_to_string(&mut text).await.unwrap();
        text
    }

    async fn response(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(self.stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(bytes).unwrap();
        let mut body = vec![0; length(&head)];
        self.stream.read_exact(&mut body).await.unwrap();
        head + std::str::from_utf8(&body).unwrap()
    }

    /// The server closes without a word, [`SHORT`] after `since`.
    async fn is_closed_after_short(&mut self, since: Instant) {
        assert_eq!(self.rest().await, "");
        let took = since.elapsed();
        assert!((SHORT..SHORT + GRAIN).contains(&took), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_ends_is_given_up() {
    let limits = Limits {
        head: SHORT,
        ..AMPLE
    };
    for start in ["", "G", "GET /metrics HTTP/1.1\r\nHost: te"] {
        let mut dialled = dial(limits, Duration::ZERO, 0);
        let since = Instant::now();
        dialled.write(start).await;
        dialled.is_closed_after_short(since).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_now_and_then_does_not_buy_time() {
    let limits = Limits {
        head: SHORT,
        ..AMPLE
    };
    let mut dialled = dial(limits, Duration::ZERO, 0);
    let since = Instant::now();
    for byte in GET.bytes() {
        if dialled.stream.write_u8(byte).await.is_err() {
            break;
        }
        sleep(SHORT / 10).await;
    }
    assert_eq!(dialled.rest().await, "");
    // It notices with its next byte.
    let took = since.elapsed();
    assert!((SHORT..SHORT * 2).contains(&took), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_tracer_is_not_held_against_the_client() {
    let limits = Limits {
        head: SHORT,
        idle: SHORT,
        response: SHORT,
        ..AMPLE
    };
    let mut dialled = dial(limits, SHORT * 2, 0);
    dialled.write(GET).await;
    let response = dialled.response().await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_can_be_used_again_but_not_kept_for_ever() {
    let limits = Limits {
        idle: SHORT,
        ..AMPLE
    };
    let mut dialled = dial(limits, Duration::ZERO, 0);
    let mut since = Instant::now();
    for _ in 0..3 {
        sleep(SHORT / 2).await;
        dialled.write(GET).await;
        let response = dialled.response().await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
        since = Instant::now();
    }
    dialled.is_closed_after_short(since).await;
}

#[tokio::test(start_paused = true)]
async fn the_second_head_has_the_limit_of_the_first() {
    let limits = Limits {
        head: SHORT,
        ..AMPLE
    };
    let mut dialled = dial(limits, Duration::ZERO, 0);
    dialled.write(GET).await;
    dialled.response().await;
    // Longer than a head may take: between two requests another limit counts.
    sleep(SHORT * 2).await;
    let since = Instant::now();
    dialled.write("GET /met").await;
    dialled.is_closed_after_short(since).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits = Limits {
        response: SHORT,
        ..AMPLE
    };
    let mut dialled = dial(limits, Duration::ZERO, 1 << 20);
    dialled.write(GET).await;
    let since = Instant::now();
    (&mut dialled.serving).await.unwrap();
    let took = since.elapsed();
    assert!((SHORT..SHORT + GRAIN).contains(&took), "{took:?}");
    let got = dialled.rest().await;
    assert!(got.starts_with("HTTP/1.1 200 "));
    assert!(body(&got).len() < length(&got), "it got all of it");
}

#[tokio::test(start_paused = true)]
async fn a_stop_lets_a_scrape_under_way_be_finished() {
    let mut dialled = dial(AMPLE, SHORT, 0);
    dialled.write(GET).await;
    sleep(SHORT / 3).await;
    dialled.stop.send(true).unwrap();
    let response = dialled.rest().await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_an_idle_connection_at_once() {
    let mut dialled = dial(AMPLE, Duration::ZERO, 0);
    dialled.write(GET).await;
    dialled.response().await;
    let since = Instant::now();
    dialled.stop.send(true).unwrap();
    assert_eq!(dialled.rest().await, "");
    assert!(since.elapsed() < GRAIN);
}
