//! The web server: `/metrics` and a few pages beside it.
//!
//! It runs on a thread of its own, so that neither a slow reader nor encoding a scrape holds up the
//! tracer. It asks the tracer by messages (`ScrapeHandle`) and shares no state with it. Everything
//! a client can make it wait for or keep is bounded ([`Limits`]): clients must not be able to
//! exhaust it.

mod access;
mod activity;
mod bodies;
mod config;
mod deadline;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
mod routes;
mod scraper;
mod serve;
mod slots;

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener},
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, ensure};
use listenfd::ListenFd;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

pub use self::config::{Limits, ScrapeSource, WebConfig};
pub use self::scraper::ScrapeRequest;
use self::{
    routes::Router,
    scraper::{ScrapeRequests, scrape_channel},
    slots::ConnectionSlots,
};
use crate::{clock, privileges, stop::Stop, warnings::OncePerMinute, worker};

/// How long accept() rests when the process has no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Listens on every address.
fn bind(addresses: &[SocketAddr]) -> anyhow::Result<Vec<StdListener>> {
    addresses.iter().map(|&address| bind_one(address)).collect()
}

/// Returns the sockets that systemd passes (sd_listen_fds(3)).
fn inherit() -> anyhow::Result<Vec<StdListener>> {
    let mut handed = ListenFd::from_env();
    let all: Vec<StdListener> = (0..handed.len())
        .map(|number| handed.take_tcp_listener(number))
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()
        .context(
            "--web.systemd-socket: systemd passed something other than a listening TCP socket",
        )?;
    ensure!(
        !all.is_empty(),
        "--web.systemd-socket: systemd passed no socket (LISTEN_FDS); start the unit tcptrace.socket"
    );
    Ok(all)
}

fn bind_one(address: SocketAddr) -> anyhow::Result<StdListener> {
    let bound = match StdListener::bind(address) {
        // All addresses of a host without IPv6.
        Err(error)
            if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                && address.ip() == Ipv6Addr::UNSPECIFIED =>
        {
            StdListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        }
        bound => bound,
    };
    bound.map_err(|error| {
        let kind = error.kind();
        let why = if kind == ErrorKind::AddrInUse {
            "address in use; another tcptrace daemon?".to_owned()
        } else if kind == ErrorKind::AddrNotAvailable {
            "no interface of this host has that address.".to_owned()
        } else if kind == ErrorKind::PermissionDenied {
            "not permitted: ports below 1024 need CAP_NET_BIND_SERVICE.".to_owned()
        } else {
            format!("{error}.")
        };
        anyhow::anyhow!(
            "cannot listen on {address}: {why} Choose another with --web.listen-address"
        )
    })
}

/// Listens on these addresses, or on the sockets that systemd passes.
pub fn listen(addresses: &[SocketAddr], systemd: bool) -> anyhow::Result<Vec<StdListener>> {
    if systemd { inherit() } else { bind(addresses) }
}

/// How a configuration file protects the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Served over TLS.
    pub tls: bool,
    /// Reading them needs a certificate or a password.
    pub authentication: bool,
}

/// Reads [`WebConfig::file`].
pub fn check_file(path: Option<&Path>) -> anyhow::Result<Protection> {
    let rules = access::Access::open(path, WebConfig::default().check_password)?.rules();
    Ok(Protection {
        tls: rules.tls.is_some(),
        authentication: rules.protects(),
    })
}

/// Makes glibc return large buffers, such as a scrape's, to the kernel when they are freed.
/// Otherwise it would take the size of those freed as a reason to keep the next ones (mallopt(3)).
pub fn map_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: changes a setting of the allocator, and touches no memory of ours.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// A running exporter.
pub struct Exporter {
    /// The scrapes that wait for the tracer's answer.
    pub requests: ScrapeRequests,
    server: JoinHandle<anyhow::Result<()>>,
    addresses: Vec<SocketAddr>,
    telemetry_path: String,
}

impl Exporter {
    /// Starts to serve, on a thread of its own, until `stop`.
    pub fn start(
        config: WebConfig,
        listeners: Vec<StdListener>,
        ready: watch::Receiver<config::Readiness>,
        stop: &Stop,
    ) -> anyhow::Result<Self> {
        let addresses = listeners.iter().map(StdListener::local_addr);
        let addresses = addresses.collect::<Result<Vec<_>, _>>();
        let addresses = addresses.context("finding out where the web server listens")?;
        let telemetry_path = config.telemetry_path.clone();
        let (scraper, requests) = scrape_channel();
        let source = ScrapeSource { scraper, ready };
        Ok(Self {
            requests,
            server: spawn(config, listeners, source, stop.requested())?,
            addresses,
            telemetry_path,
        })
    }

    /// Logs where the metrics are, with a warning if anyone can read them.
    pub fn announce(&self, protection: Protection) {
        let scheme = if protection.tls { "https" } else { "http" };
        for address in &self.addresses {
            let path = &self.telemetry_path;
            tracing::info!("serving metrics on {scheme}://{address}{path}");
            if !protection.authentication && !address.ip().to_canonical().is_loopback() {
                tracing::warn!(
                    "anyone who reaches {address} can read the metrics: there is no TLS and no password (--web.config.file)"
                );
            }
        }
    }

    /// Answers no more scrapes, and waits until the server has stopped.
    pub fn join(self) -> anyhow::Result<()> {
        drop(self.requests);
        self.server
            .join()
            .map_err(|_| anyhow::anyhow!("the web server's thread panicked; the log says where"))?
    }
}

/// Starts the web server on a thread of its own. It ends when `shutdown` becomes true or its sender
/// is dropped, and responses in progress are done or [`Limits::drain`] is over.
fn spawn(
    config: WebConfig,
    listeners: Vec<StdListener>,
    tracer: ScrapeSource,
    shutdown: watch::Receiver<bool>,
) -> anyhow::Result<JoinHandle<anyhow::Result<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .context("cannot start the web server's runtime")?;
    worker::spawn("web", move || {
        let served = runtime.block_on(run(config, listeners, tracer, shutdown));
        // A password being hashed must not delay a stop.
        runtime.shutdown_background();
        served
    })
    .context("cannot start the web server's thread")
}

/// Serves until `shutdown` becomes true or its sender is dropped; then stops as [`spawn`] says.
async fn run(
    config: WebConfig,
    listeners: Vec<StdListener>,
    tracer: ScrapeSource,
    shutdown: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let slots = ConnectionSlots::new(config.limits.connections);
    let router = Arc::new(Router::new(config, tracer, Arc::clone(&slots))?);
    privileges::read_only_below(&router.access.directories());
    let mut tasks = JoinSet::new();
    for listener in listeners {
        listener
            .set_nonblocking(true)
            .and_then(|()| TcpListener::from_std(listener))
            .context("cannot use a listening socket")
            .map(|listener| {
                let (router, slots) = (Arc::clone(&router), Arc::clone(&slots));
                tasks.spawn(accept_all(listener, router, slots, shutdown.clone()));
            })?;
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}

/// Accepts connections on one listener until it is time to stop.
async fn accept_all(
    listener: TcpListener,
    router: Arc<Router>,
    slots: Arc<ConnectionSlots>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let (mut failures, mut warnings) = (0_u64, OncePerMinute::default());
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut shutdown) => break,
        };
        match accepted {
            Ok((stream, from)) => {
                if let Some(slot) = slots.acquire(from.ip()) {
                    let router = Arc::clone(&router);
                    let shutdown = shutdown.clone();
                    connections.spawn(serve::serve_by_rules(stream, router, slot, shutdown));
                }
            }
            // The client was gone before it was accepted.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                failures += 1;
                if warnings.is_allowed(clock::monotonic_ns()) {
                    tracing::warn!(
                        "the web server cannot accept connections ({failures} times so far): {error}"
                    );
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(router.limits().drain, drained)
        .await
        .is_err()
    {
        tracing::debug!("web connections cut off at the end: {}", connections.len());
    }
}

async fn stopped(shutdown: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone: nothing else would ever stop us.
    drop(shutdown.wait_for(|&stop| stop).await);
}

#[cfg(test)]
mod tests;
