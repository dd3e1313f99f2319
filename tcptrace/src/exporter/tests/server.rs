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

use tokio::sync::{oneshot, watch};

use crate::probe::ProgramMisses;
use crate::{
    exporter::{Limits, ScrapeSource, WebConfig, bind, config::Readiness, scrape_channel, spawn},
    metrics::{Metrics, MetricsConfig, Scrape, ScrapeContext},
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

pub(super) const GET: &str = "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n";

/// What the tracer does with a scrape.
#[derive(Default)]
pub(super) struct Answer {
    /// It answers when the other end is dropped.
    pub(super) gate: Option<oneshot::Receiver<()>>,
}

/// A scrape of so many bytes more, about.
pub(super) fn scrape_of(metrics: &mut Metrics, bulk: usize) -> Scrape {
    let program = |at: usize| ProgramMisses {
        program: format!("{at:01000}"),
        misses: 1,
        recovered: None,
    };
    metrics.scrape(ScrapeContext {
        misses: (0..bulk / 1000).map(program).collect(),
        ..ScrapeContext::default()
    })
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) ready: watch::Sender<Readiness>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) thread: JoinHandle<anyhow::Result<()>>,
    /// Scrapes that the tracer was asked for.
    pub(super) scrapes: Arc<AtomicU64>,
}

/// A server whose tracer answers at once.
pub(super) fn serve(limits: Limits) -> Server {
    serve_with(limits, Answer::default())
}

pub(super) fn serve_with(limits: Limits, answer: Answer) -> Server {
    let config = WebConfig {
        limits,
        ..WebConfig::default()
    };
    serve_config(config, answer)
}

pub(super) fn serve_config(config: WebConfig, answer: Answer) -> Server {
    let listeners = bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners[0].local_addr().unwrap();
    let (scraper, mut requests) = scrape_channel();
    let (ready, is_ready) = watch::channel(Ok(()));
    let (stop, stopped) = watch::channel(false);
    let tracer = ScrapeSource {
        scraper,
        ready: is_ready,
    };
    let thread = spawn(config, listeners, tracer, stopped).unwrap();
    let scrapes = Arc::new(AtomicU64::new(0));
    let asked = Arc::clone(&scrapes);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut metrics = Metrics::new(&MetricsConfig::default());
            let mut gate = answer.gate;
            let mut waiting = Vec::new();
            loop {
                tokio::select! {
                    request = requests.next() => match request {
                        Some(request) => {
                            waiting.push(request);
                            asked.fetch_add(1, Ordering::Relaxed);
                        }
                        None => break,
                    },
                    _ = async { gate.as_mut().unwrap().await }, if gate.is_some() => gate = None,
                }
                if gate.is_none() {
                    for request in waiting.drain(..) {
                        request.answer(metrics.scrape(ScrapeContext::default()));
                    }
                }
            }
        });
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

    /// Waits until the tracer was asked for so many scrapes.
    pub(super) fn wait_until_asked(&self, scrapes: u64) {
        for _ in 0..4_000 {
            if self.scrapes.load(Ordering::Relaxed) >= scrapes {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the tracer was never asked for {scrapes} scrapes");
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
