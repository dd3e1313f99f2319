//! One scrape: everything that `/metrics` shows, copied at one moment.

use std::{collections::BTreeMap, sync::Arc};

use super::{cells::Cells, families::ProcessUse, syns::ShownSyns};
use crate::metrics::cgroup_labels::CgroupCells;
use crate::{
    probe::{Hook, HookStatus, KernelCounts, ProgramMisses, ProgramRuns, Skipped, Source},
    sockets::levels::Levels,
    tracker::Snapshot,
};

/// What the rest of the tracer knows at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ScrapeContext {
    pub tracker: Snapshot,
    /// The kernel side's exact counters.
    pub kernel: KernelCounts,
    /// Runs that the kernel skipped, by program; empty if it does not count them.
    pub misses: Vec<ProgramMisses>,
    /// Runs of each program; empty unless the kernel has counted them.
    pub runs: Vec<ProgramRuns>,
    /// Events for which the kernel ran no program, by
    /// [`SKIPPED_EVENTS`](crate::probe::SKIPPED_EVENTS).
    pub skipped: Skipped,
    /// What the last poll found in the kernel's own tables.
    pub levels: Option<Arc<Levels>>,
    pub hooks: Vec<HookStatus>,
    /// How many attached programs others have detached.
    pub detachments: u64,
    /// The kernel's names of its reset reasons.
    pub reset_reasons: BTreeMap<u32, String>,
    pub malformed: u64,
    pub lacks_tcp_fields: bool,
    /// The last reload of the settings failed.
    pub reload_failed: bool,
    pub process: ProcessUse,
}

/// Everything shown, of one moment. Plain data: it can cross threads.
#[derive(Clone, Debug)]
pub struct Scrape {
    pub(super) context: ScrapeContext,
    pub(super) cells: Cells,
    /// The labelled ports, in the order of their slots.
    pub(super) labels: Vec<u16>,
    pub(super) ports_folded: u64,
    /// By cgroup, if that is enabled.
    pub(super) cgroups: Vec<CgroupCells>,
    /// Labels of cgroups that were not given, if that is enabled.
    pub(super) cgroups_folded: Option<u64>,
    /// SYNs, if they are seen.
    pub(super) syns: Option<ShownSyns>,
    /// Set by the web server.
    pub(super) web_connections: Option<WebConnections>,
}

/// Connections that the web server had no room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct WebConnections {
    pub(super) rejected: u64,
    pub(super) evicted: u64,
}

impl Scrape {
    /// Adds how many connections the web server has refused, and how many idle ones it has closed
    /// to make room.
    pub const fn with_web_connections(mut self, rejected: u64, evicted: u64) -> Self {
        self.web_connections = Some(WebConnections { rejected, evicted });
        self
    }

    /// Adds whether the file of `--web.config.file` is valid and in use.
    pub const fn with_web_config(mut self, is_valid: bool) -> Self {
        self.context.reload_failed |= !is_valid;
        self
    }

    /// Whether transitions come with the socket's fields; otherwise no zero may be shown for them.
    pub(super) fn reads_sockets(&self) -> bool {
        match self.source(Hook::SetState) {
            Some(Source::TpBtf | Source::Tracepoint) => !self.context.lacks_tcp_fields,
            Some(
                Source::TracepointOnly
                | Source::Fentry
                | Source::Fexit
                | Source::SockOps
                | Source::Iter
                | Source::SockDiag,
            )
            | None => false,
        }
    }

    /// Returns how a hook is attached.
    pub(super) fn source(&self, hook: Hook) -> Option<Source> {
        let status = self
            .context
            .hooks
            .iter()
            .find(|status| status.hook == hook)?;
        status.attached.as_ref().ok().copied()
    }
}
