//! `tcptrace daemon`: traces in the background and serves metrics.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;

use crate::{
    cli::config::{ConfigError, DaemonConfig},
    command::startup,
    driver::{
        live::Tracer,
        pump::{pump, runtime},
    },
    exporter,
    host::{cgroup, notices},
    metrics::{Counter, Metrics, MetricsConfig, Scrape, ScrapeContext},
    probe::{Probe, count_runs},
    sockets::levels::{self, Poll},
    stop::Stop,
    tracker::TrackerConfig,
};

/// Reads the files that the settings name: whether there is TLS, and whether strangers are kept out.
pub fn check_files(config: &DaemonConfig) -> Result<(bool, bool), ConfigError> {
    exporter::check_file(config.web_config.as_deref())
        .map_err(|error| ConfigError::WebConfig(format!("{error:#}")))
}

/// Runs the daemon until it is told to stop. `reload` reads the settings again, and answers with the
/// names of those that are not as they were and take a restart.
pub fn run(
    config: DaemonConfig,
    stop: &Stop,
    reload: impl Fn() -> anyhow::Result<Vec<String>> + Send + 'static,
) -> anyhow::Result<()> {
    map_large_buffers();
    let runtime = runtime()?;
    let mut reloads = stop.reloads();
    let (has_tls, is_protected) = check_files(&config)?;
    // The ports first: two daemons would otherwise both trace before one of them fails.
    let listeners = match config.systemd_socket {
        true => exporter::inherit()?,
        false => exporter::bind(&config.listen_addresses)?,
    };
    let addresses = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<Vec<_>, _>>()
        .context("finding out where the web server listens")?;
    let telemetry_path = config.telemetry_path.clone();
    let probe = Probe::load(&config.probe)?;
    for line in startup::missing(probe.hooks(), probe.btf(), probe.missing_fields())
        .into_iter()
        .chain(notices::notices())
    {
        tracing::warn!("{line}");
    }
    let _counted = config.program_stats.then(|| {
        let counted = count_runs();
        counted.inspect_err(|error| {
            tracing::warn!(
                "--program-stats: the kernel does not count the runs of programs: {error}"
            );
        })
    });
    let (scraper, mut requests) = exporter::scrape_channel();
    let mut metrics = Metrics::new(&MetricsConfig {
        max_ports: config.max_ports,
        fixed_ports: config.fixed_ports,
        ephemeral_from: levels::port_range().map_or(32_768, |(from, _)| from),
        max_cgroups: config.max_cgroups,
        cgroup_label: config.cgroup_label,
    });
    if config.max_cgroups > 0 {
        let hierarchy = cgroup::Hierarchy::open();
        for path in hierarchy.iter().flat_map(cgroup::Hierarchy::paths) {
            metrics.stand(&cgroup::Cgroup::new(&path));
        }
    }
    let tracker = TrackerConfig {
        max_connections: config.max_connections,
        transitions: false,
        ..TrackerConfig::default()
    };
    let mut tracer = Tracer::new(
        probe,
        tracker,
        config.resync_interval,
        Counter::new(metrics),
    );
    let server = exporter::spawn(
        exporter::WebConfig {
            telemetry_path: config.telemetry_path,
            file: config.web_config,
            ..exporter::WebConfig::default()
        },
        listeners,
        exporter::ScrapeSource {
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
        let scheme = if has_tls { "https" } else { "http" };
        tracing::info!("serving metrics on {scheme}://{address}{telemetry_path}");
        if !is_protected && !address.ip().to_canonical().is_loopback() {
            tracing::warn!(
                "whoever reaches {address} can read the metrics: there is no TLS and no password (--web.config.file)"
            );
        }
    }
    tracing::info!("tracing TCP connections; stop with SIGTERM or SIGINT");
    let reloaded = Arc::new(AtomicBool::new(true));
    let is_valid = Arc::clone(&reloaded);
    runtime.spawn(async move {
        while reloads.changed().await.is_ok() {
            let outcome = reload();
            is_valid.store(outcome.is_ok(), Ordering::Relaxed);
            match outcome {
                Ok(changed) if changed.is_empty() => tracing::info!("the settings were read again"),
                Ok(changed) => tracing::warn!(
                    "the settings were read again; a restart is needed for {}",
                    changed.join(", ")
                ),
                Err(error) => tracing::error!("the settings stay as they were: {error:#}"),
            }
        }
    });
    let ended = runtime.block_on(async {
        pump(
            &mut tracer,
            stop.requested(),
            async || requests.next().await,
            |tracer, request: exporter::ScrapeRequest| {
                if request.is_wanted() {
                    let is_valid = reloaded.load(Ordering::Relaxed);
                    request.answer(scrape(tracer, poll.as_ref(), is_valid));
                }
            },
        )
        .await
        .context("waiting for the ring buffer")
    });
    tracer.consumer.say();
    tracer
        .seeded
        .send_modify(|seeded| *seeded = Err("it is stopping"));
    stop.request();
    drop(requests);
    let served = server
        .join()
        .map_err(|_| anyhow::anyhow!("the web server's thread panicked; the log says where"))?;
    ended.and(served)?;
    tracing::info!("stopped");
    Ok(())
}

/// Has large buffers, such as a scrape's, given back to the kernel when they are freed. Otherwise glibc
/// takes the size of those that were freed for a reason to keep the next ones (mallopt(3)).
fn map_large_buffers() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 128 * 1024;
        // SAFETY: a setting of the allocator, and no memory of ours.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Everything of this moment, copied.
fn scrape(tracer: &mut Tracer<Counter>, poll: Option<&Poll>, reloaded: bool) -> Scrape {
    let context = ScrapeContext {
        tracker: tracer.tracker.snapshot(),
        kernel: tracer.probe.counters().read(),
        levels: poll.and_then(Poll::last),
        misses: tracer.probe.program_misses(),
        runs: tracer.probe.program_runs(),
        skipped: tracer.losses().skipped,
        hooks: tracer.probe.hooks().to_vec(),
        reset_reasons: tracer.probe.reset_reasons().clone(),
        malformed: tracer.malformed,
        lacks_tcp_fields: tracer.probe.lacks_tcp_fields(),
        reload_failed: !reloaded,
    };
    tracer.consumer.metrics.scrape(context)
}
