//! Starts the parts of a daemon.

use anyhow::Context;
use tokio::runtime::Runtime;

use super::reload::Reloader;
use crate::{
    cli::config::{ConfigError, DaemonConfig},
    command::startup,
    driver::{live::Tracer, pump::runtime},
    exporter::{self, Exporter},
    host::cgroup::{Cgroup, Hierarchy},
    metrics::{Counter, Metrics, MetricsConfig},
    probe::{Probe, count_runs},
    sockets::levels::{self, Poll},
    stop::Stop,
    tracker::TrackerConfig,
};

/// The parts of a running daemon.
pub(super) struct Daemon {
    pub(super) runtime: Runtime,
    pub(super) tracer: Tracer<Counter>,
    pub(super) exporter: Exporter,
    pub(super) poll: Option<Poll>,
    pub(super) reloader: Reloader,
    /// Counts the runs of eBPF programs while it is open.
    _counted: Option<std::io::Result<std::os::fd::OwnedFd>>,
}

/// Reads the files that the settings name, and returns how they protect the metrics.
pub fn check_files(config: &DaemonConfig) -> Result<exporter::Protection, ConfigError> {
    exporter::check_file(config.web_config.as_deref())
        .map_err(|error| ConfigError::WebConfig(format!("{error:#}")))
}

/// Starts every part: the ports first, tracing last.
pub(super) fn start(
    config: DaemonConfig,
    stop: &Stop,
    reload: impl Fn() -> anyhow::Result<Vec<String>> + Send + 'static,
) -> anyhow::Result<Daemon> {
    exporter::map_large_buffers();
    let runtime = runtime()?;
    let reloads = stop.reloads();
    let protection = check_files(&config)?;
    // The ports first: two daemons would otherwise both trace before one of them fails.
    let listeners = exporter::listen(&config.listen_addresses, config.systemd_socket)?;
    let probe = Probe::load(&config.probe)?;
    for line in startup::missing(&probe) {
        tracing::warn!("{line}");
    }
    let counted = config.program_stats.then(|| {
        count_runs().inspect_err(|error| {
            tracing::warn!("--program-stats: the kernel cannot count program runs: {error}");
        })
    });
    let metrics_config = MetricsConfig {
        ephemeral_from: levels::port_range().map_or(32_768, |(from, _)| from),
        ..config.metrics.clone()
    };
    let mut metrics = Metrics::new(&metrics_config);
    if metrics_config.max_cgroups > 0 {
        let hierarchy = Hierarchy::open();
        for path in hierarchy.iter().flat_map(Hierarchy::paths) {
            metrics.add_existing_cgroup(&Cgroup::new(&path));
        }
    }
    let tracker = TrackerConfig {
        max_connections: config.max_connections,
        transitions: false,
        ..TrackerConfig::default()
    };
    let consumer = Counter::new(metrics);
    config.privileges.give_up_others()?;
    // The web server reads its files without capabilities, again and again.
    check_files(&config).context(
        "reading files without CAP_DAC_OVERRIDE and other capabilities, which tcptrace gives up: \
         they must be readable by the user that it runs as",
    )?;
    let tracer = Tracer::new(probe, tracker, config.resync_interval, consumer);
    let web = exporter::WebConfig {
        telemetry_path: config.telemetry_path,
        file: config.web_config,
        ..exporter::WebConfig::default()
    };
    let exporter = Exporter::start(web, listeners, tracer.seeded.subscribe(), stop)?;
    let poll = config.poll_interval.map(Poll::start).transpose();
    let poll = poll.context("starting the thread that reads the kernel's socket tables")?;
    stop.begin_tracing();
    exporter.announce(protection);
    Ok(Daemon {
        reloader: Reloader::spawn(&runtime, reloads, reload),
        runtime,
        tracer,
        exporter,
        poll,
        _counted: counted,
    })
}
