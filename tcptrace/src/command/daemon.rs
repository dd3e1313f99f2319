//! `tcptrace daemon`: traces in the background and serves metrics.

use std::{net::TcpListener, ops::ControlFlow};

use anyhow::Context;

use crate::{
    cli::config::DaemonConfig,
    clock::ClockReading,
    command::startup,
    feed::pump::{pump, runtime},
    metrics::{Metrics, MetricsConfig, Scrape, ScrapeContext},
    probe::Probe,
    stop::Stop,
    survey::levels::{self, Poll},
    tracer::{Consumer, Tracer},
    tracker::{Tracker, TrackerConfig, Update},
    web,
};

impl Consumer for Metrics {
    fn begin_batch(&mut self, _: ClockReading) {}

    fn update(&mut self, update: &Update) {
        Self::update(self, update);
    }

    fn seeded(&mut self, tracker: &Tracker) {
        let before = tracker.listeners().filter(|one| one.since.is_none());
        for listener in before {
            self.serve(listener.endpoints.local_port);
        }
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
///
/// When nothing can be traced, or an address cannot be listened on.
pub fn run(config: DaemonConfig, stop: &Stop) -> anyhow::Result<()> {
    let runtime = runtime()?;
    // The ports first: two daemons would otherwise both trace before one of them fails.
    let listeners = web::bind(&config.listen_addresses)?;
    let addresses = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<Vec<_>, _>>()
        .context("finding out where the web server listens")?;
    let telemetry_path = config.telemetry_path.clone();
    let probe = Probe::load(&config.probe)?;
    for line in startup::missing(probe.hooks(), probe.btf(), probe.missing_fields()) {
        tracing::warn!("{line}");
    }
    let (scraper, mut requests) = web::scrape_channel();
    let metrics = Metrics::new(&MetricsConfig {
        max_ports: config.max_ports,
        fixed_ports: config.fixed_ports,
        ephemeral_from: levels::port_range().map_or(32_768, |(from, _)| from),
        max_cgroups: config.max_cgroups,
    });
    let tracker = TrackerConfig {
        max_connections: config.max_connections,
        transitions: false,
        ..TrackerConfig::default()
    };
    let mut tracer = Tracer::new(probe, tracker, config.resync_interval, metrics);
    let server = web::spawn(
        web::WebConfig {
            telemetry_path: config.telemetry_path,
            ..web::WebConfig::default()
        },
        listeners,
        web::Tracer {
            scraper,
            ready: tracer.seeded.subscribe(),
        },
        stop.requested(),
    )?;
    let poll = config
        .poll_interval
        .map(Poll::start)
        .transpose()
        .context("starting the thread that looks into the kernel's tables")?;
    stop.begin_tracing();
    for address in addresses {
        tracing::info!("serving metrics on http://{address}{telemetry_path}");
    }
    tracing::info!("tracing TCP connections; stop with SIGTERM or SIGINT");
    let ended = runtime.block_on(async {
        pump(
            &mut tracer,
            stop.requested(),
            async || requests.next().await,
            |tracer, request: web::ScrapeRequest| {
                if request.is_wanted() {
                    request.answer(scrape(tracer, poll.as_ref()));
                }
            },
        )
        .await
        .context("waiting for the ring buffer")
    });
    tracer.seeded.send_replace(false);
    stop.request();
    drop(requests);
    let served = server
        .join()
        .map_err(|_| anyhow::anyhow!("the web server's thread panicked; the log says where"))?;
    ended.and(served)?;
    tracing::info!("stopped");
    Ok(())
}

/// Everything of this moment, copied.
fn scrape(tracer: &mut Tracer<Metrics>, poll: Option<&Poll>) -> Scrape {
    let context = ScrapeContext {
        tracker: tracer.tracker.snapshot(),
        kernel: tracer.probe.counters().read(),
        levels: poll.and_then(Poll::last),
        misses: tracer.probe.program_misses(),
        skipped: tracer.losses().skipped,
        hooks: tracer.probe.hooks().to_vec(),
        reset_reasons: tracer.probe.reset_reasons().clone(),
        malformed: tracer.malformed,
        lacks_tcp_fields: tracer.probe.lacks_tcp_fields(),
    };
    tracer.consumer.scrape(context)
}
