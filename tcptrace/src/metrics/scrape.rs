//! One scrape: everything a reader of `/metrics` is shown, copied at one moment.

use std::{collections::BTreeMap, sync::Arc};

use super::{cells::Cells, cgroups::CgroupCells, syns::ShownSyns};
use crate::{
    probe::{Hook, HookStatus, KernelCounts, ProgramMisses, ProgramRuns, Skipped, Source},
    sockets::levels::Levels,
    tracker::Snapshot,
};

/// What others than the metrics know at the moment of a scrape.
#[derive(Clone, Debug, Default)]
pub struct ScrapeContext {
    /// What the tracker holds.
    pub tracker: Snapshot,
    /// The kernel side's exact counters.
    pub kernel: KernelCounts,
    /// Runs that the kernel skipped, by program; empty where it does not count them.
    pub misses: Vec<ProgramMisses>,
    /// What each program has done; empty unless the kernel has counted that.
    pub runs: Vec<ProgramRuns>,
    /// Events for which the kernel ran no program, by [`SKIPPED_EVENTS`](crate::probe::SKIPPED_EVENTS).
    pub skipped: Skipped,
    /// What the kernel's own tables held when they were last looked into.
    pub levels: Option<Arc<Levels>>,
    /// What became of each hook.
    pub hooks: Vec<HookStatus>,
    /// The kernel's names of the reasons for which it sends a RST.
    pub reset_reasons: BTreeMap<u32, String>,
    /// Events that could not be decoded.
    pub malformed: u64,
    /// A closing socket's fields cannot be read on this kernel.
    pub lacks_tcp_fields: bool,
    /// The settings were read again, and were not valid.
    pub reload_failed: bool,
}

/// Everything that is shown, of one moment. Plain data: it can cross threads.
#[derive(Clone, Debug)]
pub struct Scrape {
    pub(super) context: ScrapeContext,
    pub(super) cells: Cells,
    /// The labelled ports, in the order of their slots.
    pub(super) labels: Vec<u16>,
    pub(super) ports_folded: u64,
    /// By cgroup, when that is asked for.
    pub(super) cgroups: Vec<CgroupCells>,
    /// Labels of cgroups that were not given, when that is asked for.
    pub(super) cgroups_folded: Option<u64>,
    /// Where they are seen.
    pub(super) syns: Option<ShownSyns>,
    /// Set by the web server, which alone knows.
    pub(super) web_connections: Option<WebConnections>,
}

/// Connections for which the web server had no room.
#[derive(Clone, Copy, Debug)]
pub(super) struct WebConnections {
    pub(super) rejected: u64,
    pub(super) evicted: u64,
}

impl Scrape {
    /// Adds how many connections the web server has turned away, and how many idle ones it has
    /// closed to make room.
    pub const fn with_web_connections(mut self, rejected: u64, evicted: u64) -> Self {
        self.web_connections = Some(WebConnections { rejected, evicted });
        self
    }

    /// Adds whether the file of `--web.config.file` says what holds.
    pub const fn with_web_config(mut self, is_valid: bool) -> Self {
        self.context.reload_failed |= !is_valid;
        self
    }

    /// Transitions come with what the socket says; without, no zero may be shown for it.
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

    /// How a hook is attached, if it is.
    pub(super) fn source(&self, hook: Hook) -> Option<Source> {
        let status = self
            .context
            .hooks
            .iter()
            .find(|status| status.hook == hook)?;
        status.attached.as_ref().ok().copied()
    }
}
