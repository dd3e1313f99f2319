//! `tcptrace daemon`: traces in the background and serves metrics.

use anyhow::Context;

pub use super::start::check_files;
use super::start::{Daemon, start};
use crate::{
    cli::config::DaemonConfig,
    driver::{pump::pump, scrape::scrape},
    exporter::ScrapeRequest,
    stop::Stop,
};

/// Runs the daemon until it is told to stop. `reload` reads the settings again and returns the
/// names of those that changed and need a restart.
pub fn run(
    config: DaemonConfig,
    stop: &Stop,
    reload: impl Fn() -> anyhow::Result<Vec<String>> + Send + 'static,
) -> anyhow::Result<()> {
    let mut daemon = start(config, stop, reload)?;
    tracing::info!("tracing TCP connections; stop with SIGTERM or SIGINT");
    let Daemon {
        runtime,
        tracer,
        exporter,
        poll,
        reloader,
        ..
    } = &mut daemon;
    let ended = runtime.block_on(async {
        pump(
            tracer,
            stop.requested(),
            async || exporter.requests.next().await,
            |tracer, request: ScrapeRequest| {
                if request.is_wanted() {
                    request.answer(scrape(tracer, poll.as_ref(), reloader.succeeded()));
                }
            },
        )
        .await
        .context("waiting for the ring buffer")
    });
    shutdown(daemon, stop, ended)
}

fn shutdown(mut daemon: Daemon, stop: &Stop, ended: anyhow::Result<()>) -> anyhow::Result<()> {
    daemon.tracer.consumer.log_losses();
    let seeded = &daemon.tracer.seeded;
    seeded.send_modify(|seeded| *seeded = Err("it is stopping"));
    stop.request();
    ended.and(daemon.exporter.join())?;
    tracing::info!("stopped");
    Ok(())
}
