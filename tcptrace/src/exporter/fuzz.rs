//! Connections whose client the fuzzer is.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::{Arc, LazyLock},
};

use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, duplex},
    sync::watch,
};

use super::{
    config::{ScrapeSource, WebConfig},
    routes::Router,
    scraper::scrape_channel,
    serve::{serve, serve_http2},
    slots::ConnectionSlots,
};
use crate::metrics::{Metrics, MetricsConfig, ScrapeContext};

/// RFC 9113, section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A file with a user and a limit on the rate.
static WITH_USERS: LazyLock<NamedTempFile> = LazyLock::new(|| {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(
        b"basic_auth_users:\n  \
            someone: $2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW\n\
          rate_limit:\n  interval: 1s\n  burst: 3\n",
    )
    .expect("a file");
    file
});

/// What a client of HTTP/1 sends, to a server without and one with users.
pub fn http(bytes: &[u8]) {
    for file in [None, Some(WITH_USERS.path())] {
        let answer = converse(bytes, file, false);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."));
    }
}

/// What a client of HTTP/2 sends after its preface.
pub fn http2(bytes: &[u8]) {
    converse(&[PREFACE, bytes].concat(), None, true);
}

/// Returns all that the server answers until it closes the connection. Waits take no time.
fn converse(bytes: &[u8], file: Option<&Path>, http2: bool) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let (scraper, mut requests) = scrape_channel();
    let (_ready, ready) = watch::channel(Ok(()));
    let (_stop, stop) = watch::channel(false);
    let slots = ConnectionSlots::new(1);
    let config = WebConfig {
        file: file.map(Path::to_owned),
        check_password: |password, _| password == b"right",
        ..WebConfig::default()
    };
    let source = ScrapeSource { scraper, ready };
    let router = Router::new(config, source, Arc::clone(&slots)).expect("a valid configuration");
    let slot = slots
        .acquire(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .expect("a slot");
    runtime.block_on(async move {
        let (mut client, server) = duplex(4096);
        let serving = async {
            match http2 {
                true => serve_http2(server, Arc::new(router), slot, stop).await,
                false => serve(server, Arc::new(router), slot, stop).await,
            }
        };
        let (mut reading, mut writing) = tokio::io::split(&mut client);
        let asking = async {
            // The server may have had enough at any byte.
            let all = writing.write_all(bytes).await.is_ok();
            drop((all, writing.shutdown().await));
        };
        let hearing = async {
            let mut answer = Vec::new();
            let ended = reading.read_to_end(&mut answer).await;
            assert!(ended.is_ok(), "{ended:?}");
            answer
        };
        let tracing = async {
            let mut metrics = Metrics::new(&MetricsConfig::default());
            while let Some(request) = requests.next().await {
                request.answer(metrics.scrape(ScrapeContext::default()));
            }
        };
        let ((), (), (), answer) = tokio::join!(serving, asking, tracing, hearing);
        answer
    })
}
