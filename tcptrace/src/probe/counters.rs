//! The kernel side's exact counters, read from mapped memory.
//!
//! Without bpf(2): while that reads a map, the kernel skips classic tracepoint programs on that
//! CPU, and does not count them.

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

pub struct Counters {
    memory: MmapRaw,
    cpus: usize,
    /// SYNs by local port, if they are seen.
    syns: Option<MmapRaw>,
}

/// Sums over all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelCounts {
    /// How often each transition occurred: from, to, count. States are raw: the kernel may have
    /// states that this program does not know.
    pub transitions: Vec<(u8, u8, u64)>,
    /// Events that found the ring full, by [`LOST_EVENTS`].
    pub lost_events: [u64; LOST_EVENTS.len()],
    pub syns: Option<SynCounts>,
}

/// The SYNs that reached listeners, without those of SYN cookies and Fast Open, and without
/// repeated ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SynCounts {
    /// Counts by the listener's port, without ports that had none.
    pub by_port: Vec<(u16, u64)>,
    /// How many times were dropped to remember newer ones, before their handshakes ended.
    pub evicted: u64,
}

/// What is lost when the ring is full: the counter, and the kind.
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
    /// Maps the array behind `map`, one entry per CPU.
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

    /// Returns the counts of SYNs; `None` if they are not seen.
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

    /// Returns how many skipped runs the second copies made up for, by `RECOVERED_*`.
    pub fn recovered(&self) -> [u64; RECOVERED_KINDS] {
        let first = std::mem::offset_of!(CpuCounters, recovered);
        std::array::from_fn(|kind| self.sum(first + kind * size_of::<u64>()))
    }

    /// Returns all counters. Each is exact; they belong to one moment only when nothing happens.
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

    /// Returns the sum over CPUs of the word at a byte offset of each entry.
    fn sum(&self, offset: usize) -> u64 {
        (0..self.cpus)
            .map(|cpu| word(&self.memory, cpu * size_of::<CpuCounters>() + offset))
            .sum()
    }
}

/// The mapped array of processes that may listen.
pub(super) struct ListenerProcesses(MmapRaw);

impl ListenerProcesses {
    pub(super) fn map(map: BorrowedFd<'_>) -> std::io::Result<Self> {
        let memory = MmapOptions::new()
            .len(LISTENER_SLOTS)
            .map_raw(map.as_raw_fd())?;
        Ok(Self(memory))
    }

    /// Adds a process.
    pub(super) fn add(&self, pid: u32) {
        let slot = pid as usize % LISTENER_SLOTS;
        // SAFETY: within the mapping; all writers write the same value.
        let slot = unsafe { AtomicU8::from_ptr(self.0.as_mut_ptr().add(slot)) };
        slot.store(1, Ordering::Relaxed);
    }
}

/// Returns the word at a byte offset of a mapping.
fn word(memory: &MmapRaw, at: usize) -> u64 {
    assert!(at.is_multiple_of(8) && at + 8 <= memory.len());
    // SAFETY: within the mapping, and aligned to 8; the kernel writes these words atomically and
    // user space never writes them.
    let word = unsafe { AtomicU64::from_ptr(memory.as_mut_ptr().add(at).cast()) };
    word.load(Ordering::Relaxed)
}

/// Returns a state's name, or its number if it is unknown here.
pub fn state_name(raw: u8) -> String {
    TcpState::from_raw(raw).map_or_else(|| raw.to_string(), |state| state.name().to_owned())
}
