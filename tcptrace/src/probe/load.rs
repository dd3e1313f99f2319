//! Loads the object, and takes its maps.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use aya::{Ebpf, EbpfLoader, Pod, maps::Map, util::KernelVersion};
use nix::{
    errno::Errno,
    sys::resource::{RLIM_INFINITY, Resource, setrlimit},
};
use tcptrace_common::{
    GLOBAL_LAYOUT, Layout, MAP_COUNTERS, MAP_EVENTS, MAP_LISTENER_PROCESSES, MAP_SCRATCH,
    MAP_SYNS_BY_PORT,
};

use super::{
    config::{OLDEST_KERNEL, ProbeConfig},
    counters::{Counters, ListenerProcesses},
    error::{ProbeError, chain, is_permission},
};

/// The programs, as `build.rs` embeds them.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("TCPTRACE_EBPF_OBJECT"));

/// The layout in the loader's form.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct LayoutBytes(pub Layout);

// SAFETY: a repr(C) struct of u32 without padding (its size is asserted where it is defined).
unsafe impl Pod for LayoutBytes {}

pub(super) fn require_kernel() -> Result<(), ProbeError> {
    let (major, minor) = OLDEST_KERNEL;
    match KernelVersion::current() {
        Ok(version) if version < KernelVersion::new(major, minor, 0) => {
            Err(ProbeError::KernelTooOld(crate::host::kernel_release()))
        }
        // A version that cannot be parsed is no reason to refuse: loading will tell.
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Raises the limit that kernels before 5.11 charge maps to. Newer ones ignore it, so a refusal is
/// no error.
pub(super) fn raise_memlock() {
    if let Err(error) = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY) {
        tracing::debug!("RLIMIT_MEMLOCK stays as it is: {error}");
    }
}

/// Returns a loader of the object.
///
/// Creating it parses all of the kernel's BTF, which takes as long as the rest of the start that
/// does not wait for the verifier, and the object has no use for it.
pub(super) fn new_loader<'a>() -> EbpfLoader<'a> {
    let mut loader = EbpfLoader::new();
    loader.btf(None);
    loader
}

pub(super) fn load_object<'a>(
    mut loader: EbpfLoader<'a>,
    config: &'a ProbeConfig,
    layout: &'a LayoutBytes,
) -> Result<Ebpf, ProbeError> {
    let cpus = possible_cpus()?;
    loader
        .override_global(GLOBAL_LAYOUT, layout, true)
        .override_global(aya_log::LEVEL, &config.log_level, true)
        .map_max_entries(MAP_EVENTS, config.ring_bytes)
        .map_max_entries(MAP_COUNTERS, cpus)
        .map_max_entries(MAP_SCRATCH, cpus);
    loader.load(OBJECT).map_err(|error| {
        let why = chain(&error);
        if is_permission(&error) {
            ProbeError::not_permitted(why)
        } else if why.contains(&io::Error::from(Errno::ENOMEM).to_string()) {
            ProbeError::NoRoom(config.ring_bytes, why)
        } else {
            ProbeError::Load(why)
        }
    })
}

/// Returns a number that nobody outside can know.
pub(super) fn seed() -> u32 {
    RandomState::new().build_hasher().finish() as u32
}

fn possible_cpus() -> Result<u32, ProbeError> {
    let cpus = aya::util::nr_cpus()
        .map_err(|(path, error)| ProbeError::Load(format!("{path}: {error}")))?;
    u32::try_from(cpus).map_err(|error| ProbeError::Load(error.to_string()))
}

pub(super) fn take_map(ebpf: &mut Ebpf, name: &str) -> Result<Map, ProbeError> {
    ebpf.take_map(name)
        .ok_or_else(|| ProbeError::Load(format!("the object has no map {name}")))
}

pub(super) fn map_counters(ebpf: &mut Ebpf) -> Result<Counters, ProbeError> {
    let cpus = possible_cpus()? as usize;
    map_array(ebpf, MAP_COUNTERS, |map| Counters::map(map, cpus))
}

pub(super) fn map_syns(ebpf: &mut Ebpf, counters: &mut Counters) -> Result<(), ProbeError> {
    map_array(ebpf, MAP_SYNS_BY_PORT, |map| counters.map_syns(map))
}

pub(super) fn map_listener_processes(ebpf: &mut Ebpf) -> Result<ListenerProcesses, ProbeError> {
    map_array(ebpf, MAP_LISTENER_PROCESSES, ListenerProcesses::map)
}

fn map_array<T>(
    ebpf: &mut Ebpf,
    name: &str,
    to_memory: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
) -> Result<T, ProbeError> {
    let map = take_map(ebpf, name)?;
    let Map::Array(data) = &map else {
        return Err(ProbeError::Load(format!("{name} is not an array")));
    };
    to_memory(data.fd().as_fd())
        .map_err(|error| ProbeError::Load(format!("mapping {name}: {error}")))
}
