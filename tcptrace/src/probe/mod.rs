//! The kernel's side of the daemon: loads the programs, attaches them, and hands out bytes.
//!
//! The one module that imports aya. It does not know what an event means; the rest of the
//! program could be fed from a file.

mod attach;
pub mod btf;
mod counters;
mod hooks;
mod layout;
mod tracefs;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{ErrorKind, Read as _},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
};

use aya::{
    Btf as AyaBtf, Ebpf, EbpfLoader, Endianness, Pod,
    maps::{MapData, RingBuf},
    programs::{Iter, Program, iter::IterLink},
    util::KernelVersion,
};
use aya_log::EbpfLogger;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use tcptrace_common::{
    GLOBAL_LAYOUT, Layout, MAP_COUNTERS, MAP_EVENTS, MAP_SCRATCH, PROGRAM_SEED, StepEvent,
};

use self::attach::{FUNCTIONS, Kernel, TRACEPOINTS, attach_all};
pub use self::{
    counters::{Counters, KernelCounts, LOST_EVENTS, state_name},
    hooks::{Exclusion, Hook, HookStatus, Source},
    layout::{KERNEL_BTF, KernelTypes, MissingGroup},
    tracefs::mounted as tracefs_mounted,
};

/// The programs, as `build.rs` embeds them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TCPTRACE_EBPF_OBJECT"));

/// Bytes of the smallest event in the ring, the kernel's own header included.
const SMALLEST_RECORD: usize = size_of::<StepEvent>() + 8;

/// The oldest kernel with what the programs need.
pub const OLDEST_KERNEL: (u8, u8) = (5, 10);

/// How the transitions are to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AttachMode {
    /// tp_btf where it can be had, else the classic tracepoint.
    Auto,
    /// tp_btf or nothing.
    #[value(name = "tp_btf")]
    TpBtf,
    /// The classic tracepoint.
    Tracepoint,
}

/// How the programs are set up.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Bytes of the ring; a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// How to trace transitions.
    pub attach: AttachMode,
    /// What is not to be used.
    pub without: Vec<Exclusion>,
    /// The level of the programs' own diagnostics: 0 is off, 1 error to 5 trace.
    pub log_level: u8,
}

/// Why nothing can be traced.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The kernel lacks what the programs need.
    #[error("Linux {0} is too old: tcptrace needs {major}.{minor} or newer", major = OLDEST_KERNEL.0, minor = OLDEST_KERNEL.1)]
    KernelTooOld(String),
    /// The kernel refuses us.
    #[error(
        "not permitted to load eBPF programs: run as root (sudo tcptrace …), or give the process CAP_BPF and CAP_PERFMON ({0})"
    )]
    NotPermitted(String),
    /// Neither way to the transitions can be had.
    #[error(
        "cannot attach to inet_sock_set_state: as tp_btf: {tp_btf}; as a classic tracepoint: {tracepoint}. `tcptrace check` shows what this kernel allows"
    )]
    NoTransitions {
        /// Why not as tp_btf.
        tp_btf: String,
        /// Why not as a classic tracepoint.
        tracepoint: String,
    },
    /// The object cannot be loaded.
    #[error("cannot load the eBPF object: {0}")]
    Load(String),
}

/// The layout as the loader takes it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct LayoutBytes(Layout);

// SAFETY: a repr(C) struct of u32 without padding (its size is asserted where it is defined).
unsafe impl Pod for LayoutBytes {}

/// The programs, loaded and attached. Dropping it detaches them.
pub struct Probe {
    /// The programs; none once they are detached.
    ebpf: Option<Ebpf>,
    events: RingBuf<MapData>,
    counters: Counters,
    hooks: Vec<HookStatus>,
    reset_reasons: BTreeMap<u32, String>,
    btf: Result<(), String>,
    missing_fields: Vec<MissingGroup>,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    /// What the kernel tells of each program that is loaded.
    programs: Vec<ProgramInfo>,
    ring_bytes: u32,
}

/// What the kernel tells of a program, kept open to be read often. It outlives the program's
/// being detached.
struct ProgramInfo {
    name: String,
    info: File,
    _program: OwnedFd,
}

impl ProgramInfo {
    fn open(name: &str, program: &Program) -> Option<Self> {
        let program = program.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
        let info = File::open(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
        Some(Self {
            name: name.to_owned(),
            info,
            _program: program,
        })
    }

    /// Runs that the kernel skipped; `None` where it does not count them (before 5.12).
    fn misses(&self) -> Option<u64> {
        let mut text = [0; 512];
        let length = self.info.read_at(&mut text, 0).ok()?;
        recursion_misses(str::from_utf8(&text[..length]).ok()?)
    }
}

impl Probe {
    /// Loads and attaches.
    ///
    /// # Errors
    ///
    /// When the transitions cannot be had; every other hook is optional, and
    /// [`Probe::hooks`] tells what became of it.
    pub fn load(config: &ProbeConfig) -> Result<Self, ProbeError> {
        require_kernel()?;
        raise_memlock();
        let types = kernel_types().map_err(|error| error.to_string());
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

        let mut ebpf = load_object(config, layout)?;
        let btf = types.as_ref().map_err(Clone::clone).and_then(|types| {
            AyaBtf::parse(&types.named_only(), Endianness::default())
                .map_err(|error| error.to_string())
        });
        let hooks = attach_all(
            &mut ebpf,
            config,
            &Kernel {
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
        let counters = map_counters(&mut ebpf)?;
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
            programs,
            ring_bytes: config.ring_bytes,
        })
    }

    /// Detaches everything: nothing is added to the ring any more. What it holds can still be
    /// drained.
    pub fn detach(&mut self) {
        drop(self.ebpf.take());
    }

    /// Nothing is traced any more.
    #[must_use]
    pub const fn is_detached(&self) -> bool {
        self.ebpf.is_none()
    }

    /// How many events the ring can hold at most.
    #[must_use]
    pub const fn most_waiting(&self) -> usize {
        self.ring_bytes as usize / SMALLEST_RECORD
    }

    /// What became of each hook, the needed one first.
    #[must_use]
    pub fn hooks(&self) -> &[HookStatus] {
        &self.hooks
    }

    /// Whether socket fields can be read; `Err` says why not.
    ///
    /// # Errors
    ///
    /// Why BTF cannot be had.
    pub fn btf(&self) -> Result<(), &str> {
        match &self.btf {
            Ok(()) => Ok(()),
            Err(why) => Err(why),
        }
    }

    /// Fields that this kernel does not have where they could be read, by what they tell.
    #[must_use]
    pub fn missing_fields(&self) -> &[MissingGroup] {
        &self.missing_fields
    }

    /// What a closing socket tells of itself cannot be read.
    #[must_use]
    pub fn lacks_tcp_fields(&self) -> bool {
        let bit = tcptrace_common::LAYOUT_TCP;
        self.missing_fields.iter().any(|group| group.bit == bit)
    }

    /// A hook is attached.
    #[must_use]
    pub fn is_attached(&self, hook: Hook) -> bool {
        self.hooks
            .iter()
            .any(|status| status.hook == hook && status.attached.is_ok())
    }

    /// How a hook is attached.
    #[must_use]
    pub fn source(&self, hook: Hook) -> Option<Source> {
        let status = self.hooks.iter().find(|status| status.hook == hook)?;
        status.attached.as_ref().ok().copied()
    }

    /// The kernel's names of the reasons for which it sends a RST, by number; empty before
    /// Linux 6.10.
    #[must_use]
    pub const fn reset_reasons(&self) -> &BTreeMap<u32, String> {
        &self.reset_reasons
    }

    /// A walk over the sockets of one network namespace, to be run where that namespace is the
    /// thread's own.
    ///
    /// # Errors
    ///
    /// When the iterator was not loaded, or the kernel refuses to attach it.
    pub fn walk(&mut self) -> Result<SocketWalk, String> {
        let ebpf = self.ebpf.as_mut().ok_or("the programs are detached")?;
        let program: &mut Iter = attach::program(ebpf, PROGRAM_SEED)?;
        let link = program.attach().map_err(|error| chain(&error))?;
        let link = program.take_link(link).map_err(|error| chain(&error))?;
        Ok(SocketWalk(link))
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

    /// Passes the programs' log messages on to the log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// The exact counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Runs of any program that the kernel skipped, because it interrupted a run of it on the same
    /// CPU (Linux 6.1 on). Neither the ring nor the counters know of them. 0 where the kernel does
    /// not count them.
    #[must_use]
    pub fn runs_skipped(&self) -> u64 {
        self.programs.iter().filter_map(ProgramInfo::misses).sum()
    }

    /// Runs that the kernel itself skipped, by program; empty where it does not count them
    /// (before 5.12).
    #[must_use]
    pub fn program_misses(&self) -> Vec<(String, u64)> {
        self.programs
            .iter()
            .filter_map(|program| Some((program.name.clone(), program.misses()?)))
            .collect()
    }
}

/// A walk over TCP sockets: each one becomes an event in the ring.
pub struct SocketWalk(IterLink);

impl SocketWalk {
    /// Walks over the sockets of the thread's network namespace.
    ///
    /// # Errors
    ///
    /// When the kernel refuses, or the walk does not come to its end.
    pub fn run(self) -> Result<(), String> {
        let mut file = self.0.into_file().map_err(|error| chain(&error))?;
        // The program writes nothing here; the kernel lets go of a read after some sockets.
        let mut nothing = [0; 4096];
        loop {
            match file.read(&mut nothing) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(error) => return Err(format!("reading the iterator: {error}")),
            }
        }
    }
}

/// What BTF tells of the running kernel, for every hook.
///
/// # Errors
///
/// When there is no BTF, or a field that every kernel has is not where it can be read.
pub fn kernel_types() -> Result<KernelTypes, btf::BtfError> {
    KernelTypes::read(Path::new(KERNEL_BTF), &TRACEPOINTS, &FUNCTIONS)
}

/// The ring's descriptor, readable when events wait.
impl AsFd for Probe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

/// `bpf_prog_show_fdinfo` has it since 5.12.
fn recursion_misses(info: &str) -> Option<u64> {
    let misses = info
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    misses.trim().parse().ok()
}

fn require_kernel() -> Result<(), ProbeError> {
    let (major, minor) = OLDEST_KERNEL;
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(major, minor, 0) => {
            Err(ProbeError::KernelTooOld(crate::host::kernel_release()))
        }
        // A version that cannot be read is no reason to refuse: loading will tell.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Kernels before 5.11 charge maps to this limit. Elsewhere it does not matter, so that a refusal
/// is no error.
fn raise_memlock() {
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("RLIMIT_MEMLOCK stays as it is: {error}");
    }
}

fn load_object(config: &ProbeConfig, layout: Layout) -> Result<Ebpf, ProbeError> {
    let cpus = possible_cpus()?;
    let layout = LayoutBytes(layout);
    let mut loader = EbpfLoader::new();
    loader
        .override_global(GLOBAL_LAYOUT, &layout, true)
        .override_global(aya_log::LEVEL, &config.log_level, true)
        .map_max_entries(MAP_EVENTS, config.ring_bytes)
        .map_max_entries(MAP_COUNTERS, cpus)
        .map_max_entries(MAP_SCRATCH, cpus);
    loader.load(OBJECT).map_err(|error| {
        let why = chain(&error);
        if is_permission(&error) {
            ProbeError::NotPermitted(why)
        } else {
            ProbeError::Load(why)
        }
    })
}

fn possible_cpus() -> Result<u32, ProbeError> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, error)| ProbeError::Load(format!("{path}: {error}")))?;
    u32::try_from(cpus).map_err(|error| ProbeError::Load(error.to_string()))
}

fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<aya::maps::Map, ProbeError> {
    ebpf.take_map(name)
        .ok_or_else(|| ProbeError::Load(format!("the object has no map {name}")))
}

fn map_counters(ebpf: &mut Ebpf) -> Result<Counters, ProbeError> {
    let map = take_map(ebpf, MAP_COUNTERS)?;
    let aya::maps::Map::Array(data) = &map else {
        return Err(ProbeError::Load(format!("{MAP_COUNTERS} is not an array")));
    };
    Counters::map(data.fd().as_fd(), possible_cpus()? as usize)
        .map_err(|error| ProbeError::Load(format!("mapping {MAP_COUNTERS}: {error}")))
}

/// An error with all its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// As [`chain`], with the verifier's log cut down to what it objects to.
fn brief(error: &dyn std::error::Error) -> String {
    let text = chain(error);
    let Some((before, log)) = text.split_once("Verifier output:") else {
        return text;
    };
    let statistics = [
        "verification time",
        "stack depth",
        "processed ",
        "mark_precise",
    ];
    let objection = log
        .lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !statistics.iter().any(|word| line.starts_with(word)));
    match objection {
        Some(objection) => format!("{} The verifier says: {objection}", before.trim_end()),
        None => before.trim_end().to_owned(),
    }
}

/// Somewhere down its causes the error is EPERM or EACCES.
fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && io.kind() == ErrorKind::PermissionDenied
        {
            return true;
        }
        next = error.source();
    }
    false
}
