use super::live::Tracer;
use crate::{
    metrics::{Counter, ProcessUse, Scrape, ScrapeContext},
    sockets::levels::Poll,
};

/// Copies everything that a scrape shows at this moment.
pub fn scrape(tracer: &mut Tracer<Counter>, poll: Option<&Poll>, reloaded: bool) -> Scrape {
    let context = ScrapeContext {
        tracker: tracer.tracker.snapshot(),
        kernel: tracer.probe.counters().read(),
        levels: poll.and_then(Poll::last),
        misses: tracer.probe.program_misses(),
        runs: tracer.probe.program_runs(),
        skipped: tracer.losses().skipped,
        hooks: tracer.probe.hooks().to_vec(),
        detachments: tracer.probe.detachments(),
        reset_reasons: tracer.probe.reset_reasons().clone(),
        malformed: tracer.malformed,
        lacks_tcp_fields: tracer.probe.lacks_tcp_fields(),
        reload_failed: !reloaded,
        process: ProcessUse::read(),
    };
    tracer.consumer.metrics.scrape(context)
}
