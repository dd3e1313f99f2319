//! The kernel side's exact counters, read from mapped memory.
//!
//! No bpf(2) call is made: while one reads a map, the kernel skips classic tracepoint programs
//! on that CPU, and nobody counts those.

use std::{
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicU8, AtomicU64, Ordering},
};

use memmap2::{MmapOptions, MmapRaw};
use tcptrace_common::{
    CpuCounters, LISTENER_SLOTS, LOST_ACCEPT, LOST_CGROUP, LOST_CONNECT, LOST_PROCESS, LOST_RESET,
    LOST_SEED, LOST_SYNACK_RETRANSMIT, LOST_TIMEWAIT, LOST_TRANSITION, PORTS, RECOVERED_KINDS,
    STATE_SLOTS, TcpState,
};

use crate::feed::item::EventKind;

/// The mapped counters.
pub struct Counters {
    memory: MmapRaw,
    cpus: usize,
    /// SYNs by local port, where they are seen.
    syns: Option<MmapRaw>,
}

/// Sums over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// Every transition that occurred: from, to, how often. Raw states, for the kernel may have
    /// states that this program does not know.
    pub transitions: Vec<(u8, u8, u64)>,
    /// Events that found the ring full, by [`LOST_EVENTS`].
    pub lost_events: [u64; LOST_EVENTS.len()],
    /// What is seen of SYNs, where they are.
    pub syns: Option<SynCounts>,
}

/// What is known of SYNs that came in for listeners; those of SYN cookies and Fast Open are not
/// among them, nor is one that comes again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SynCounts {
    /// How many, by the listener's port; those that had any.
    pub by_port: Vec<(u16, u64)>,
    /// Of how many the time was forgotten, to remember newer ones', before their handshakes were
    /// over.
    pub evicted: u64,
}

/// What is lost when the ring is full: where it is counted, and its kind.
pub const LOST_EVENTS: [(usize, EventKind); 9] = [
    (LOST_TRANSITION, EventKind::Transition),
    (LOST_RESET, EventKind::Reset),
    (LOST_ACCEPT, EventKind::Accept),
    (LOST_TIMEWAIT, EventKind::Timewait),
    (LOST_SYNACK_RETRANSMIT, EventKind::SynackRetransmit),
    (LOST_SEED, EventKind::Seed),
    (LOST_PROCESS, EventKind::Process),
    (LOST_CONNECT, EventKind::Connect),
    (LOST_CGROUP, EventKind::Cgroup),
];

impl Counters {
    /// Maps the array behind `map`, one entry a CPU.
    pub fn map(map: BorrowedFd<'_>, cpus: usize) -> std::io::Result<Self> {
        let memory = MmapOptions::new()
            .len(cpus * size_of::<CpuCounters>())
            .map_raw_read_only(map.as_raw_fd())?;
        Ok(Self {
            memory,
            cpus,
            syns: None,
        })
    }

    /// Maps the array behind `map`, SYNs by local port.
    pub fn map_syns(&mut self, map: BorrowedFd<'_>) -> std::io::Result<()> {
        let memory = MmapOptions::new()
            .len(PORTS * size_of::<u64>())
            .map_raw_read_only(map.as_raw_fd())?;
        self.syns = Some(memory);
        Ok(())
    }

    /// What is seen of SYNs; `None` where they are not.
    pub fn syns(&self) -> Option<SynCounts> {
        let memory = self.syns.as_ref()?;
        let by_port = (0..=u16::MAX)
            .map(|port| (port, word(memory, usize::from(port) * size_of::<u64>())))
            .filter(|&(_, count)| count > 0)
            .collect();
        Some(SynCounts {
            by_port,
            evicted: self.sum(std::mem::offset_of!(CpuCounters, syns_evicted)),
        })
    }

    pub(super) fn lost_events(&self) -> [u64; LOST_EVENTS.len()] {
        LOST_EVENTS.map(|(kind, _)| self.lost_of(kind))
    }

    pub(super) fn lost_of(&self, kind: usize) -> u64 {
        self.sum(std::mem::offset_of!(CpuCounters, lost) + kind * size_of::<u64>())
    }

    /// Runs of programs that were skipped and that their second copies made up for, by `RECOVERED_*`.
    pub fn recovered(&self) -> [u64; RECOVERED_KINDS] {
        let first = std::mem::offset_of!(CpuCounters, recovered);
        std::array::from_fn(|kind| self.sum(first + kind * size_of::<u64>()))
    }

    /// Everything. Each count is exact; counts of one moment they are only once it is quiet.
    pub fn read(&self) -> KernelCounts {
        let mut transitions = Vec::new();
        for index in 0..STATE_SLOTS * STATE_SLOTS {
            let count =
                self.sum(std::mem::offset_of!(CpuCounters, transitions) + index * size_of::<u64>());
            if count > 0 {
                let raw = |state: usize| u8::try_from(state).unwrap_or(u8::MAX);
                transitions.push((raw(index / STATE_SLOTS), raw(index % STATE_SLOTS), count));
            }
        }
        KernelCounts {
            transitions,
            lost_events: self.lost_events(),
            syns: self.syns(),
        }
    }

    /// The sum over CPUs of the word at a byte offset of each entry.
    fn sum(&self, offset: usize) -> u64 {
        (0..self.cpus)
            .map(|cpu| word(&self.memory, cpu * size_of::<CpuCounters>() + offset))
            .sum()
    }
}

/// The mapped array of processes that may listen.
pub(super) struct ListenerProcesses(MmapRaw);

impl ListenerProcesses {
    /// Maps the array behind `map`.
    pub(super) fn map(map: BorrowedFd<'_>) -> std::io::Result<Self> {
        let memory = MmapOptions::new()
            .len(LISTENER_SLOTS)
            .map_raw(map.as_raw_fd())?;
        Ok(Self(memory))
    }

    /// A process is among them.
    pub(super) fn add(&self, pid: u32) {
        let slot = pid as usize % LISTENER_SLOTS;
        // SAFETY: within the mapping; whoever writes there writes the same.
        let slot = unsafe { AtomicU8::from_ptr(self.0.as_mut_ptr().add(slot)) };
        slot.store(1, Ordering::Relaxed);
    }
}

/// The word at a byte offset of a mapping.
fn word(memory: &MmapRaw, at: usize) -> u64 {
    assert!(at.is_multiple_of(8) && at + 8 <= memory.len());
    // SAFETY: within the mapping, and aligned to 8; the kernel writes these words atomically and
    // nobody here does.
    let word = unsafe { AtomicU64::from_ptr(memory.as_mut_ptr().add(at).cast()) };
    word.load(Ordering::Relaxed)
}

/// A state's name, or its number where it has none here.
pub fn state_name(raw: u8) -> String {
    TcpState::from_raw(raw).map_or_else(|| raw.to_string(), |state| state.name().to_owned())
}
