//! `tcptrace daemon`: traces in the background and serves metrics.

use std::{
    net::TcpListener,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;

use crate::{
    cli::config::{ConfigError, DaemonConfig},
    clock::ClockReading,
    command::startup,
    driver::{
        live::{Consumer, Tracer},
        pump::{pump, runtime},
    },
    exporter,
    host::{cgroup, initial},
    metrics::{Metrics, MetricsConfig, Scrape, ScrapeContext},
    probe::{Probe, count_runs},
    sockets::levels::{self, Poll},
    stop::Stop,
    tracker::{Tracker, TrackerConfig, Update},
};

/// Between two lines in the log about what was lost.
const SAY_EVERY_NS: u64 = 60_000_000_000;

/// Counts what the tracker says, and says in the log what it lost, now and then.
struct Counter {
    metrics: Metrics,
    /// Events lost and connections given up since the last line about them.
    lost: u64,
    evicted: u64,
    now_ns: u64,
    said_ns: Option<u64>,
}

impl Counter {
    fn new(metrics: Metrics) -> Self {
        Self {
            metrics,
            lost: 0,
            evicted: 0,
            now_ns: 0,
            said_ns: None,
        }
    }

    /// Says what was not said yet.
    fn say(&mut self) {
        let Self { lost, evicted, .. } = *self;
        if lost > 0 {
            tracing::warn!(
                "{lost} events were lost: connections are missing or their ends are not known \
                 (tcptrace_events_lost_total tells why; a larger --ring-size helps where it is ring_full)"
            );
        }
        if evicted > 0 {
            tracing::warn!(
                "{evicted} connections were given up: more are open than --max-connections"
            );
        }
        if lost + evicted > 0 {
            (self.lost, self.evicted) = (0, 0);
            self.said_ns = Some(self.now_ns);
        }
    }
}

impl Consumer for Counter {
    fn begin_batch(&mut self, now: ClockReading) {
        self.now_ns = now.monotonic_ns;
    }

    fn update(&mut self, update: &Update) {
        if let Update::Lost { events, .. } = update {
            self.lost += events;
        }
        self.evicted += u64::from(matches!(update, Update::Evicted(_)));
        self.metrics.update(update);
    }

    fn seeded(&mut self, tracker: &Tracker) {
        let before = tracker.listeners().filter(|one| one.since.is_none());
        for listener in before {
            self.metrics.serve(listener.endpoints.local_port);
        }
    }

    fn due_ns(&self) -> Option<u64> {
        let due_ns = self.said_ns.map_or(0, |said| said + SAY_EVERY_NS);
        (self.lost + self.evicted > 0).then_some(due_ns)
    }

    fn end_batch(&mut self) -> ControlFlow<()> {
        if self.due_ns().is_some_and(|due| due <= self.now_ns) {
            self.say();
        }
        ControlFlow::Continue(())
    }
}

/// Reads the files that the settings name: whether there is TLS, and whether strangers are kept out.
///
/// # Errors
///
/// When one cannot be read or is not valid.
pub fn check_files(config: &DaemonConfig) -> Result<(bool, bool), ConfigError> {
    exporter::check_file(config.web_config.as_deref())
        .map_err(|error| ConfigError::WebConfig(format!("{error:#}")))
}

/// Runs the daemon until it is told to stop. `reload` reads the settings again, and answers with the
/// names of those that are not as they were and take a restart.
///
/// # Errors
///
/// When nothing can be traced, or an address cannot be listened on.
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
        .chain(initial::notices())
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
        exporter::Tracer {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::item::LossPlace;

    const SECOND: u64 = 1_000_000_000;

    /// A batch at such a time, in which so many events were found lost; whether the log says so.
    fn batch(counter: &mut Counter, at_ns: u64, events: u64) -> bool {
        let before = counter.said_ns;
        counter.begin_batch(ClockReading {
            monotonic_ns: at_ns,
            offset_ns: 0,
        });
        if events > 0 {
            let place = LossPlace::Ring;
            counter.update(&Update::Lost { events, place });
        }
        assert!(counter.end_batch().is_continue());
        counter.said_ns != before
    }

    #[test]
    fn a_loss_is_said_at_once_and_the_next_ones_once_a_minute() {
        let mut counter = Counter::new(Metrics::new(&MetricsConfig::default()));
        assert!(!batch(&mut counter, SECOND, 0));
        assert_eq!(counter.due_ns(), None);
        assert!(batch(&mut counter, 2 * SECOND, 5));
        for second in 3..62 {
            assert!(!batch(&mut counter, second * SECOND, 1), "{second}");
            // Whoever waits for events must not sleep past it.
            assert_eq!(counter.due_ns(), Some(62 * SECOND));
        }
        assert_eq!(counter.lost, 59);
        assert!(batch(&mut counter, 62 * SECOND, 0));
        assert_eq!((counter.lost, counter.due_ns()), (0, None));
        assert!(!batch(&mut counter, 200 * SECOND, 0));
    }
}
