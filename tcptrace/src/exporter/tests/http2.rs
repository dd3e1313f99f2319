//! HTTP/2, on a connection in memory and on a clock that only moves when nobody has anything to do.

use std::time::Duration;

use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use hyper::{Request, Response, body::Bytes};
use tokio::{task::JoinHandle, time::Instant};

use super::deadlines::{AMPLE, Dialled, GRAIN, SHORT, dial_by};
use crate::exporter::{Limits, serve::serve_http2};

/// A client, and what it waits for.
struct Client {
    send: SendRequest<Bytes>,
    /// It ends with the connection.
    running: JoinHandle<()>,
    dialled: Ends,
}

/// What stays of a [`Dialled`] whose stream is in use.
struct Ends {
    _stop: tokio::sync::watch::Sender<bool>,
    serving: JoinHandle<()>,
}

/// A client of a server whose scrapes are about so large.
async fn client(limits: Limits, bulk: usize, builder: &Builder) -> Client {
    let dialled = dial_by(limits, Duration::ZERO, bulk, serve_http2);
    let Dialled {
        stream,
        stop,
        serving,
    } = dialled;
    let (send, connection) = builder.handshake(stream).await.expect("HTTP/2");
    let running = tokio::spawn(async move { drop(connection.await) });
    let dialled = Ends {
        _stop: stop,
        serving,
    };
    Client {
        send,
        running,
        dialled,
    }
}

impl Client {
    async fn ask(&mut self, method: &str, path: &str) -> Response<RecvStream> {
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .body(())
            .expect("a request");
        let mut send = self.send.clone().ready().await.expect("a connection");
        let (response, _) = send.send_request(request, true).expect("a stream");
        response.await.expect("a response")
    }
}

async fn body(response: Response<RecvStream>) -> String {
    let mut stream = response.into_body();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.expect("data");
        stream
            .flow_control()
            .release_capacity(chunk.len())
            .expect("a window");
        bytes.extend(chunk);
    }
    String::from_utf8(bytes).expect("text")
}

/// How long it takes until the server ends it.
async fn lasts(client: Client) -> Duration {
    let begun = Instant::now();
    client.dialled.serving.await.expect("no panic");
    client.running.await.expect("no panic");
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn pages_are_answered_one_and_all() {
    let mut client = client(AMPLE, 100_000, &Builder::new()).await;
    for _ in 0..20 {
        let response = client.ask("GET", "/metrics").await;
        assert_eq!(response.status(), 200);
        let length = response.headers()["content-length"].to_str().expect("text");
        let length: usize = length.parse().expect("a number");
        let text = body(response).await;
        assert!(text.contains("\ntcptrace_build_info{"), "{text}");
        assert!(length > 100_000);
        assert_eq!(text.len(), length);
    }
    for (method, path, status) in [
        ("HEAD", "/metrics", 200),
        ("GET", "/", 200),
        ("POST", "/metrics", 405),
        ("GET", "/none", 404),
    ] {
        let response = client.ask(method, path).await;
        assert_eq!(response.status(), status, "{method} {path}");
        let length = response.headers()["content-length"].clone();
        assert_ne!(length, "0");
        let text = body(response).await;
        assert_eq!(text.is_empty(), method == "HEAD", "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_beyond_the_limit_is_refused() {
    let mut client = client(AMPLE, 0, &Builder::new()).await;
    let request = Request::builder()
        .uri("https://localhost/metrics")
        .header("x-huge", "a".repeat(20_000))
        .body(())
        .expect("a request");
    let (response, _) = client.send.send_request(request, true).expect("a stream");
    let refused = response
        .await
        .map_or(true, |response| response.status() == 431);
    assert!(refused);
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_without_requests_has_the_head_then_the_idle_limit() {
    let limits = Limits {
        head: SHORT,
        ..AMPLE
    };
    let silent = client(limits, 0, &Builder::new()).await;
    let lasted = lasts(silent).await;
    assert!((SHORT..=SHORT + GRAIN).contains(&lasted), "{lasted:?}");

    let limits = Limits {
        idle: SHORT,
        ..AMPLE
    };
    let mut idle = client(limits, 0, &Builder::new()).await;
    let response = idle.ask("GET", "/metrics").await;
    drop(body(response).await);
    let lasted = lasts(idle).await;
    assert!((SHORT..=SHORT + GRAIN).contains(&lasted), "{lasted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_never_opened_keeps_nothing_for_long() {
    let limits = Limits {
        scrape: SHORT,
        response: SHORT,
        ..AMPLE
    };
    let mut builder = Builder::new();
    builder.initial_window_size(1_000);
    let mut stuck = client(limits, 100_000, &builder).await;
    let response = stuck.ask("GET", "/metrics").await;
    assert_eq!(response.status(), 200);
    let lasted = lasts(stuck).await;
    let limit = SHORT + SHORT;
    assert!((limit..=limit + GRAIN).contains(&lasted), "{lasted:?}");
    drop(response);
}
