//! A server with a made-up tracer behind it, and its client.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    metrics::{Metrics, MetricsConfig, ScrapeContext},
    web::{Limits, Tracer, WebConfig, bind, scrape_channel, spawn},
};

/// What clients wait at the most; no limit of a test is near it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Limits that no test runs into by chance.
pub(super) const AMPLE: Limits = Limits {
    connections: 64,
    head: PATIENCE,
    idle: PATIENCE,
    scrape: PATIENCE,
    response: PATIENCE,
    drain: PATIENCE,
};

/// What the tracer does with a scrape.
#[derive(Clone, Copy, Default)]
pub(super) struct Answer {
    /// How long it takes.
    pub(super) delay: Duration,
    /// How many bytes it makes the exposition longer, about.
    pub(super) bulk: usize,
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) ready: watch::Sender<bool>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) thread: JoinHandle<anyhow::Result<()>>,
    /// Scrapes that the tracer answered.
    pub(super) scrapes: Arc<AtomicU64>,
}

/// A server whose tracer answers at once.
pub(super) fn serve(limits: Limits) -> Server {
    serve_with(limits, Answer::default())
}

pub(super) fn serve_with(limits: Limits, answer: Answer) -> Server {
    let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let (scraper, mut requests) = scrape_channel();
    let (ready, is_ready) = watch::channel(true);
    let (stop, stopped) = watch::channel(false);
    let config = WebConfig {
        limits,
        ..WebConfig::default()
    };
    let tracer = Tracer {
        scraper,
        ready: is_ready,
    };
    let thread = spawn(config, listeners, tracer, stopped).unwrap();
    let scrapes = Arc::new(AtomicU64::new(0));
    let answered = Arc::clone(&scrapes);
    std::thread::spawn(move || {
        let mut metrics = Metrics::new(&MetricsConfig::default());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        while let Some(request) = runtime.block_on(requests.next()) {
            std::thread::sleep(answer.delay);
            let program = |at: usize| (format!("{at:01000}"), 1);
            let context = ScrapeContext {
                misses: (0..answer.bulk / 1000).map(program).collect(),
                ..ScrapeContext::default()
            };
            answered.fetch_add(1, Ordering::Relaxed);
            request.answer(metrics.scrape(context));
        }
    });
    Server {
        address,
        ready,
        stop,
        thread,
        scrapes,
    }
}

impl Server {
    pub(super) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A client whose kernel takes little that it does not read: left to itself, that grows to
    /// net.ipv4.tcp_rmem's 32 MiB.
    pub(super) fn connect_with_small_window(&self) -> TcpStream {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let stream = runtime.block_on(async {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(self.address).await.unwrap()
        });
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Everything that comes back for these bytes until the server closes.
    pub(super) fn exchange(&self, bytes: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_bytes()).unwrap();
        read_to_end(&mut stream)
    }

    /// Asks for one page on a connection of its own.
    pub(super) fn get(&self, path: &str) -> String {
        self.exchange(&format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ))
    }

    /// The same until what it says holds: what the server does is not over when a client sees it.
    pub(super) fn get_until(&self, path: &str, holds: impl Fn(&str) -> bool) -> String {
        for _ in 0..1000 {
            let mut stream = self.connect();
            let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
            if stream.write_all(request.as_bytes()).is_ok() {
                let answer = read_to_end(&mut stream);
                if holds(&answer) {
                    return answer;
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{path} never became what was expected");
    }
}

/// What comes until the end of the connection, by FIN or by RST.
pub(super) fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let kind = error.kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionReset, "no end in sight");
    }
    String::from_utf8(bytes).unwrap()
}

/// One response of a connection that stays open.
pub(super) fn read_response(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut body = vec![0; length(&head)];
    stream.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

/// The length that a response's head announces.
pub(super) fn length(response: &str) -> usize {
    let line = response
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    line.unwrap().parse().unwrap()
}

/// What follows the head.
pub(super) fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").unwrap().1
}
