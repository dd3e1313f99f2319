//! `tcptrace daemon`, and a scraper that keeps its connection: a scrape changes nothing.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::Signal;

use super::{
    PATIENCE,
    exposition::Metrics,
    program::{Output, Running, tcptrace},
    wait_for,
};

/// A daemon that is ready.
pub(crate) struct Daemon {
    running: Running,
    address: SocketAddr,
    scraper: Http,
}

impl Daemon {
    /// Starts it on a port that the kernel chooses and waits until it traces.
    pub(crate) fn start(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = tcptrace(&["daemon", "--web.listen-address", "127.0.0.1:0"]);
        Self::start_as(command.args(arguments))
    }

    /// As the command says.
    pub(crate) fn start_as(command: &mut Command) -> anyhow::Result<Self> {
        let mut running = Running::start(command)?;
        let address = listens(&mut running)?;
        let scraper = wait_for("the daemon to be ready", || {
            let Ok(mut http) = Http::connect(address) else {
                return Ok(None);
            };
            let (status, _) = http.get("/-/ready")?;
            Ok((status == 200).then_some(http))
        })?;
        Ok(Self {
            running,
            address,
            scraper,
        })
    }

    /// Where it serves.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it says of itself and the rest.
    pub(crate) fn scrape(&mut self) -> anyhow::Result<Metrics> {
        let (status, body) = self.get("/metrics")?;
        ensure!(status == 200, "a scrape is answered with {status}: {body}");
        Metrics::parse(&body)
    }

    /// Asks for a path.
    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<(u16, String)> {
        self.scraper.get(path)
    }

    /// Scrapes until the metrics fulfil a condition.
    pub(crate) fn scrape_until(
        &mut self,
        what: &str,
        fulfilled: impl Fn(&Metrics) -> bool,
    ) -> anyhow::Result<Metrics> {
        let mut last = String::new();
        let found = wait_for(what, || {
            let metrics = self.scrape()?;
            last = metrics.to_string();
            Ok(fulfilled(&metrics).then_some(metrics))
        });
        found.with_context(|| format!("the last scrape was:\n{last}"))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.running.signal(signal)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it has complained of so far.
    pub(crate) fn complaints(&self) -> String {
        self.running.complaints()
    }

    /// Stops it.
    pub(crate) fn stop(mut self, signal: Signal) -> anyhow::Result<Output> {
        self.signal(signal)?;
        drop(self.scraper);
        self.running.wait()
    }
}

/// Waits until a daemon says where it listens.
pub(crate) fn listens(running: &mut Running) -> anyhow::Result<SocketAddr> {
    wait_for("the daemon to say where it listens", || {
        if running.has_ended()? {
            bail!("the daemon ended: {:?}", running.wait()?);
        }
        let said = running.complaints();
        let url = said.split_once("serving metrics on http");
        let address = url.and_then(|(_, url)| url.split_once("://")?.1.split_once('/'));
        address
            .map(|(address, _)| address.parse().context("an address"))
            .transpose()
    })
}

/// One connection over which requests are made.
pub(crate) struct Http {
    stream: BufReader<TcpStream>,
}

impl Http {
    pub(crate) fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn get(&mut self, path: &str) -> anyhow::Result<(u16, String)> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let status = status.split(' ').nth(1).context("no status")?.parse()?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let header = self.line()?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').context("a header")?;
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse()?,
                "transfer-encoding" => is_chunked = value.trim() == "chunked",
                _ => {}
            }
        }
        let mut body = Vec::new();
        loop {
            if is_chunked {
                length = usize::from_str_radix(&self.line()?, 16)?;
            }
            let mut part = vec![0; length];
            self.stream.read_exact(&mut part).context("the body")?;
            body.extend(part);
            if !is_chunked {
                break;
            }
            self.line()?;
            if length == 0 {
                break;
            }
        }
        Ok((status, String::from_utf8(body)?))
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).context("the answer")?;
        ensure!(read > 0, "the daemon closed the connection");
        Ok(line.trim_end().to_owned())
    }
}
