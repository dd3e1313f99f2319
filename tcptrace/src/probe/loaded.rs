//! The loaded programs.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read as _},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
};

use aya::{
    Btf as AyaBtf, Ebpf, Endianness,
    maps::{MapData, RingBuf},
    programs::{Iter, Program, iter::IterLink},
    sys::{Stats, enable_stats},
};
use aya_log::EbpfLogger;
use tcptrace_common::{
    LOST_SEED, LOST_TRANSITION, Layout, MAP_EVENTS, PROGRAM_HELD, PROGRAM_SEED, SeedEvent,
    StepEvent,
};

use super::{
    attach::{KernelSupport, attach_all, program},
    btf,
    cgroup_link::CgroupLink,
    config::ProbeConfig,
    counters::ListenerProcesses,
    counters::{Counters, LOST_EVENTS},
    error::ProbeError,
    error::chain,
    hooks::{FUNCTIONS, Hook, HookStatus, Source, TRACEPOINTS, TRANSITIONS},
    layout::{KERNEL_BTF, KernelTypes},
    load::{
        LayoutBytes, load_object, map_counters, map_listener_processes, map_syns, new_loader,
        raise_memlock, require_kernel, seed, take_map,
    },
    program::{ProgramInfo, Programs},
    program::{ProgramMisses, ProgramRuns, SKIPPED_EVENTS, Skipped},
    resolve::MissingGroup,
    tracefs,
};
use crate::{
    clock,
    feed::item::{EventKind, LossPlace},
    host::netns::cookie_here,
    privileges::run_privileged,
};

/// Bytes of the smallest event in the ring, the kernel's own header included.
const SMALLEST_RECORD: usize = size_of::<StepEvent>() + RECORD_HEADER;
/// The kernel's own header of a record in the ring.
const RECORD_HEADER: usize = 8;

/// The programs, loaded and attached. Dropping it detaches them.
pub struct Probe {
    /// The programs; `None` once detached.
    ebpf: Option<Ebpf>,
    events: RingBuf<MapData>,
    counters: Counters,
    hooks: Vec<HookStatus>,
    reset_reasons: BTreeMap<u32, String>,
    btf: Result<(), String>,
    missing_fields: Vec<MissingGroup>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    programs: Programs,
    listener_processes: ListenerProcesses,
    ring_bytes: u32,
    traces: bool,
    cgroup_link: CgroupLink,
}

impl Probe {
    /// Loads and attaches the programs.
    ///
    /// Fails when transitions cannot be traced; every other hook is optional, and [`Probe::hooks`]
    /// tells how it is attached.
    pub fn load(config: &ProbeConfig) -> Result<Self, ProbeError> {
        require_kernel()?;
        raise_memlock();
        let (loader, types, btf) = thread::scope(|scope| {
            let thread = thread::Builder::new().name("loader".to_owned());
            let loader = thread.spawn_scoped(scope, new_loader);
            let types = kernel_types().map_err(|error| error.to_string());
            let btf = types.as_ref().map_err(Clone::clone).and_then(|types| {
                AyaBtf::parse(&types.named_only(), Endianness::default())
                    .map_err(|error| error.to_string())
            });
            let loader = loader.ok().and_then(|loader| loader.join().ok());
            (loader.unwrap_or_else(new_loader), types, btf)
        });
        let record = tracefs::read_record_layout().map_err(|error| error.to_string());
        let exit_ret = tracefs::read_exit_ret().map_err(|error| error.to_string());
        let mut layout = types
            .as_ref()
            .map_or_else(|_| Layout::default(), |types| types.layout);
        if let Ok(record) = record {
            layout.record = record;
        }
        if let Ok(exit_ret) = exit_ret {
            layout.file.exit_ret = exit_ret;
        }
        layout.request.syn_seed = seed();
        if cookie_here().is_none() {
            // Events and walks must name a namespace the same way.
            layout.sock.net_cookie = 0;
        }

        let mut ebpf = load_object(loader, config, &LayoutBytes(layout))?;
        let hooks = attach_all(
            &mut ebpf,
            config,
            &KernelSupport {
                types: types.as_ref(),
                btf: btf.as_ref(),
                record: record.as_ref().map(drop),
                exit_ret: exit_ret.as_ref().map(drop),
            },
        )?;

        let logger = if config.log_level > 0 {
            EbpfLogger::init(&mut ebpf)
                .inspect_err(|error| tracing::warn!("no diagnostics of the eBPF side: {error}"))
                .ok()
        } else {
            None
        };
        let events = RingBuf::try_from(take_map(&mut ebpf, MAP_EVENTS)?)
            .map_err(|error| ProbeError::Load(chain(&error)))?;
        let mut counters = map_counters(&mut ebpf)?;
        let listener_processes = map_listener_processes(&mut ebpf)?;
        let sees_syns = |status: &HookStatus| {
            status.hook == Hook::CreateChild && status.attached == Ok(Source::SockOps)
        };
        let mut cgroup_link = CgroupLink::default();
        if hooks.iter().any(sees_syns) {
            map_syns(&mut ebpf, &mut counters)?;
            cgroup_link = CgroupLink::find(clock::monotonic_ns());
        }
        let programs = ebpf
            .programs()
            .filter_map(|(name, program)| ProgramInfo::open(name, program))
            .collect();
        Ok(Self {
            ebpf: Some(ebpf),
            events,
            counters,
            hooks,
            reset_reasons: types
                .as_ref()
                .map(|types| types.reset_reasons().clone())
                .unwrap_or_default(),
            missing_fields: types
                .as_ref()
                .map(|types| types.missing().to_vec())
                .unwrap_or_default(),
            btf: types.map(drop),
            logger,
            programs: Programs::new(programs),
            listener_processes,
            ring_bytes: config.ring_bytes,
            traces: true,
            cgroup_link,
        })
    }

    /// Detaches the transitions, and leaves the hooks that report what follows them.
    pub fn detach_transitions(&mut self) {
        self.traces = false;
        let Some(ebpf) = &mut self.ebpf else {
            return;
        };
        for name in TRANSITIONS {
            // Only loaded programs can be unloaded.
            match ebpf.program_mut(name) {
                Some(Program::BtfTracePoint(program)) => drop(program.unload()),
                Some(Program::TracePoint(program)) => drop(program.unload()),
                Some(_) | None => {}
            }
        }
    }

    /// Detaches everything: nothing is added to the ring any more. What it holds can still be
    /// drained.
    pub fn detach(&mut self) {
        self.traces = false;
        self.cgroup_link = CgroupLink::default();
        drop(self.ebpf.take());
    }

    /// Looks whether somebody else has detached the hook for SYNs, and logs that. Returns since
    /// when its silence means nothing: when it was last seen attached.
    pub fn look_for_detached(&mut self, now_ns: u64) -> Option<u64> {
        let since_ns = self.cgroup_link.detached_since(now_ns)?;
        let hook = Hook::CreateChild;
        for status in &mut self.hooks {
            if status.hook == hook {
                status.attached = Err("somebody else detached it".to_owned());
            }
        }
        tracing::error!(
            "somebody else detached the sock_ops program of {}, as bpftool link detach does: {}; restart tcptrace to attach it again",
            hook.name(),
            hook.consequence(),
        );
        Some(since_ns)
    }

    /// Returns how many programs others have detached.
    pub const fn detachments(&self) -> u64 {
        self.cgroup_link.detachments
    }

    /// Whether transitions are attached.
    pub const fn traces(&self) -> bool {
        self.traces
    }

    /// Returns the most events that the ring can hold.
    pub const fn most_waiting(&self) -> usize {
        self.ring_bytes as usize / SMALLEST_RECORD
    }

    /// Returns how many sockets of a walk fit into half the ring.
    pub const fn piece(&self) -> usize {
        self.ring_bytes as usize / 2 / (size_of::<SeedEvent>() + RECORD_HEADER)
    }

    /// Returns how each hook is attached, the required one first.
    pub fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// Whether socket fields can be read, or why there is no BTF.
    pub fn btf(&self) -> Result<(), &str> {
        match &self.btf {
            Ok(()) => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// Returns the groups of fields that this kernel does not let us read.
    pub fn missing_fields(&self) -> &[MissingGroup] {
        &self.missing_fields
    }

    /// Whether a closing socket's fields cannot be read.
    pub fn lacks_tcp_fields(&self) -> bool {
        let bit = tcptrace_common::LAYOUT_TCP;
        self.missing_fields.iter().any(|group| group.bit == bit)
    }

    pub fn is_attached(&self, hook: Hook) -> bool {
        self.hooks
            .iter()
            .any(|status| status.hook == hook && status.attached.is_ok())
    }

    /// Returns how a hook is attached.
    pub fn source(&self, hook: Hook) -> Option<Source> {
        let status = self.hooks.iter().find(|status| status.hook == hook)?;
        status.attached.as_ref().ok().copied()
    }

    /// Returns the kernel's names of its reset reasons, by number; empty before Linux 6.10.
    pub const fn reset_reasons(&self) -> &BTreeMap<u32, String> {
        &self.reset_reasons
    }

    /// Returns a walk over the sockets of one network namespace, to be run by a thread in it.
    ///
    /// Fails when the iterator was not loaded, or the kernel refuses to attach it.
    pub fn walk(&mut self) -> Result<SocketWalk, String> {
        self.iterate(PROGRAM_SEED)
    }

    fn iterate(&mut self, name: &'static str) -> Result<SocketWalk, String> {
        let mut ebpf = self.ebpf.take().ok_or("the programs are detached")?;
        let (ebpf, link) = run_privileged(move || {
            let link = attach_iterator(&mut ebpf, name);
            (ebpf, link)
        });
        self.ebpf = Some(ebpf);
        link.map(SocketWalk)
    }

    /// Returns a walk over the open files of all processes, for sockets in other network namespaces
    /// than their processes.
    ///
    /// Fails when the iterator was not loaded, or the kernel refuses to attach it.
    pub fn walk_files(&mut self) -> Result<SocketWalk, String> {
        self.iterate(PROGRAM_HELD)
    }

    /// Calls `take` on up to `limit` waiting events and returns how many. The bytes are in the ring
    /// itself; they are released after the call.
    pub fn drain(&mut self, limit: usize, mut take: impl FnMut(&[u8])) -> usize {
        for taken in 0..limit {
            match self.events.next() {
                Some(bytes) => take(&bytes),
                None => return taken,
            }
        }
        limit
    }

    /// Logs the programs' messages.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// Makes the programs report when a process that listens is renamed or exits.
    pub fn watch_process(&self, pid: u32) {
        self.listener_processes.add(pid);
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the events lost so far: `ring`, which was full, and `skipped`, for which the kernel
    /// ran neither the program nor its second copy, if it has one. `skipped` is 0 if the kernel
    /// does not count that. `repeated` transitions and resets of second copies repeated what the
    /// first had told.
    pub fn losses(&mut self, repeated: [u64; 2]) -> Losses {
        let running = self.ebpf.is_some();
        Losses {
            ring: self.counters.lost_events(),
            skipped: self.programs.skipped(&self.counters, repeated, running),
        }
    }

    /// Returns the transitions that the ring had no room for.
    pub fn lost_transitions(&self) -> u64 {
        self.counters.lost_of(LOST_TRANSITION)
    }

    /// Returns the sockets of walks that the ring had no room for.
    pub fn lost_sockets(&self) -> u64 {
        self.counters.lost_of(LOST_SEED)
    }

    /// Returns the runs that the kernel skipped, by program; empty if it does not count them
    /// (before 5.12).
    pub fn program_misses(&self) -> Vec<ProgramMisses> {
        self.programs.misses(&self.counters)
    }

    /// Returns the runs of each program; empty unless the kernel has counted them ([`count_runs`],
    /// or the sysctl `kernel.bpf_stats_enabled`).
    pub fn program_runs(&self) -> Vec<ProgramRuns> {
        self.programs.runs()
    }
}

fn attach_iterator(ebpf: &mut Ebpf, name: &str) -> Result<IterLink, String> {
    let program: &mut Iter = program(ebpf, name)?;
    let link = program.attach().map_err(|error| chain(&error))?;
    program.take_link(link).map_err(|error| chain(&error))
}

/// Makes the kernel count the runs of all eBPF programs and their time, until the returned
/// descriptor is closed (`BPF_ENABLE_STATS`, from Linux 5.8).
///
/// Fails without CAP_SYS_ADMIN, or when the kernel cannot.
pub fn count_runs() -> io::Result<OwnedFd> {
    enable_stats(Stats::RunTime).map_err(|error| error.io_error)
}

/// Counts of lost events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The ring was full, by [`LOST_EVENTS`].
    pub ring: [u64; LOST_EVENTS.len()],
    /// The kernel ran no program, by [`SKIPPED_EVENTS`]: transitions first.
    pub skipped: Skipped,
}

impl Losses {
    pub fn total(&self) -> u64 {
        self.ring.iter().chain(&self.skipped).sum()
    }

    /// Returns what was lost since `earlier`: how many, where and of which kind.
    pub fn since(
        &self,
        earlier: &Self,
    ) -> impl Iterator<Item = (u64, LossPlace, EventKind)> + use<> {
        let ring = LOST_EVENTS.map(|(_, kind)| (LossPlace::Ring, kind));
        let skipped = SKIPPED_EVENTS.map(|kind| (LossPlace::Kernel, kind));
        let now = self.ring.into_iter().chain(self.skipped);
        let before = earlier.ring.into_iter().chain(earlier.skipped);
        now.zip(before)
            .map(|(now, before)| now - before)
            .zip(ring.into_iter().chain(skipped))
            .filter(|(events, _)| *events > 0)
            .map(|(events, (place, kind))| (events, place, kind))
    }
}

/// The most sockets of a walk at a time: the kernel has a buffer of eight pages for an iterator's
/// output.
const MOST_AT_A_TIME: usize = 16_384;

/// A walk over TCP sockets: each becomes an event in the ring.
pub struct SocketWalk(IterLink);

impl SocketWalk {
    /// Walks over the sockets of the calling thread's network namespace, at most `piece` at a time;
    /// calls `rest` after each piece.
    ///
    /// Fails when the kernel refuses, the walk does not end, or `rest` fails.
    pub fn run(
        self,
        piece: usize,
        mut rest: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let mut file = self.0.into_file().map_err(|error| chain(&error))?;
        // One byte per socket.
        let mut bytes = vec![0; piece.clamp(1, MOST_AT_A_TIME)];
        loop {
            match file.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(_) => rest()?,
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(format!("reading the iterator: {error}")),
            }
        }
    }
}

/// Reads what BTF tells of the running kernel, for every hook.
///
/// Fails without BTF, or when a field that every kernel has cannot be read.
pub fn kernel_types() -> Result<KernelTypes, btf::BtfError> {
    KernelTypes::read(Path::new(KERNEL_BTF), &TRACEPOINTS, &FUNCTIONS)
}

impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}
