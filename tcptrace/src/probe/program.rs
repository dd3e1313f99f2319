//! The kernel's statistics of each loaded program.

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
    time::Duration,
};

use aya::programs::Program;
use tcptrace_common::{
    PROGRAM_ACCEPT, PROGRAM_CONNECT_EXIT, PROGRAM_CREATE_CHILD, PROGRAM_HELD,
    PROGRAM_RECEIVE_RESET, PROGRAM_RETRANSMIT_SYNACK, PROGRAM_SEED, PROGRAM_SEND_RESET,
    PROGRAM_SET_STATE_BTF, PROGRAM_SET_STATE_CLASSIC, PROGRAM_SYN, PROGRAM_TIMEWAIT,
    PROGRAM_TIMEWAIT_BEGIN, PROGRAM_TIMEWAIT_END, PROGRAMS_ACCEPT_EXIT, PROGRAMS_CONNECT,
    SECOND_COPIES,
};

use super::counters::Counters;
use crate::feed::item::EventKind;

/// Runs of a program that the kernel skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramMisses {
    pub program: String,
    pub misses: u64,
    /// Of those, the runs that the second copy made up for; `None` without one.
    pub recovered: Option<u64>,
}

/// Runs of a program while the kernel counted them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRuns {
    pub program: String,
    pub runs: u64,
    /// The total time.
    pub time: Duration,
}

/// The kinds of events that are missing when a program is skipped.
pub const SKIPPED_EVENTS: [EventKind; 8] = [
    EventKind::Transition,
    EventKind::Reset,
    EventKind::Accept,
    EventKind::Timewait,
    EventKind::SynackRetransmit,
    EventKind::Seed,
    EventKind::Handshake,
    EventKind::Connect,
];

/// Events for which the kernel ran no program, by [`SKIPPED_EVENTS`].
pub type Skipped = [u64; SKIPPED_EVENTS.len()];

/// The kind of each program's events. Not in it are second copies, and the programs that run for
/// every process and every cgroup of the host: a skipped run rarely concerns a socket.
const KINDS: [(&str, EventKind); 21] = [
    (PROGRAM_SET_STATE_BTF, EventKind::Transition),
    (PROGRAM_SET_STATE_CLASSIC, EventKind::Transition),
    (PROGRAM_RECEIVE_RESET, EventKind::Reset),
    (PROGRAM_SEND_RESET, EventKind::Reset),
    (PROGRAM_TIMEWAIT, EventKind::Timewait),
    (PROGRAM_TIMEWAIT_BEGIN, EventKind::Timewait),
    (PROGRAM_TIMEWAIT_END, EventKind::Timewait),
    (PROGRAM_RETRANSMIT_SYNACK, EventKind::SynackRetransmit),
    (PROGRAM_SEED, EventKind::Seed),
    (PROGRAM_HELD, EventKind::Seed),
    (PROGRAM_CREATE_CHILD, EventKind::Handshake),
    (PROGRAM_SYN, EventKind::Handshake),
    (PROGRAM_ACCEPT, EventKind::Accept),
    (PROGRAMS_ACCEPT_EXIT[0], EventKind::Accept),
    (PROGRAMS_ACCEPT_EXIT[1], EventKind::Accept),
    (PROGRAM_CONNECT_EXIT, EventKind::Connect),
    (PROGRAMS_CONNECT[0].1, EventKind::Connect),
    (PROGRAMS_CONNECT[1].1, EventKind::Connect),
    (PROGRAMS_CONNECT[2].1, EventKind::Connect),
    (PROGRAMS_CONNECT[3].1, EventKind::Connect),
    (PROGRAMS_CONNECT[4].1, EventKind::Connect),
];

/// Returns the kind of a program's events, as its index in [`SKIPPED_EVENTS`].
fn tells_of(program: &str) -> Option<usize> {
    let (_, kind) = KINDS.iter().find(|(name, _)| *name == program)?;
    SKIPPED_EVENTS.iter().position(|of| of == kind)
}

/// The loaded programs, and what the kernel skipped of them.
pub(super) struct Programs {
    programs: Vec<ProgramInfo>,
    /// What both copies seemed to have skipped at the last check.
    seen: Skipped,
    /// What was reported as skipped.
    told: Skipped,
}

impl Programs {
    pub(super) fn new(programs: Vec<ProgramInfo>) -> Self {
        Self {
            programs,
            seen: Skipped::default(),
            told: Skipped::default(),
        }
    }

    /// Returns the runs skipped so far that no second copy made up for; `repeated` transitions and
    /// resets of second copies made up for nothing. While programs run, a skip is reported once it
    /// is seen twice: the second copy may be about to run.
    pub(super) fn skipped(
        &mut self,
        counters: &Counters,
        repeated: [u64; 2],
        running: bool,
    ) -> Skipped {
        let mut missed = Skipped::default();
        for program in &self.programs {
            if let Some(kind) = tells_of(&program.name)
                && !is_second(&program.name)
            {
                missed[kind] += program.misses().unwrap_or(0);
            }
        }
        // Read after the misses, because it is counted after them.
        let mut recovered = Skipped::default();
        for ((first, ..), count) in SECOND_COPIES.into_iter().zip(counters.recovered()) {
            if let Some(kind) = tells_of(first) {
                recovered[kind] += count;
            }
        }
        for (of, count) in [PROGRAM_SET_STATE_BTF, PROGRAM_SEND_RESET]
            .into_iter()
            .zip(repeated)
        {
            if let Some(kind) = tells_of(of) {
                recovered[kind] = recovered[kind].saturating_sub(count);
            }
        }
        for kind in 0..SKIPPED_EVENTS.len() {
            let now = missed[kind].saturating_sub(recovered[kind]);
            let sure = if running {
                now.min(self.seen[kind])
            } else {
                now
            };
            self.seen[kind] = now;
            self.told[kind] = self.told[kind].max(sure);
        }
        self.told
    }

    /// Returns the misses by program; empty if the kernel does not count them (before 5.12).
    pub(super) fn misses(&self, counters: &Counters) -> Vec<ProgramMisses> {
        let of = |program: &ProgramInfo| {
            let misses = program.misses()?;
            let has_second = |name: &str| self.programs.iter().any(|program| program.name == name);
            let recovered = SECOND_COPIES
                .into_iter()
                .zip(counters.recovered())
                .find(|((first, second), _)| *first == program.name && has_second(second))
                .map(|(_, count)| count);
            Some(ProgramMisses {
                program: program.name.clone(),
                misses,
                recovered,
            })
        };
        self.programs.iter().filter_map(of).collect()
    }

    /// Returns the runs by program; empty unless the kernel has counted any.
    pub(super) fn runs(&self) -> Vec<ProgramRuns> {
        let of = |program: &ProgramInfo| {
            let [runs, time_ns] = program.numbers(["run_cnt:", "run_time_ns:"])?;
            Some(ProgramRuns {
                program: program.name.clone(),
                runs,
                time: Duration::from_nanos(time_ns),
            })
        };
        let runs: Vec<_> = self.programs.iter().filter_map(of).collect();
        match runs.iter().all(|program| program.runs == 0) {
            true => Vec::new(),
            false => runs,
        }
    }
}

fn is_second(name: &str) -> bool {
    SECOND_COPIES.iter().any(|(_, second)| *second == name)
}

/// The kernel's statistics of a program, kept open to be read often. Readable even after the
/// program is detached.
pub(super) struct ProgramInfo {
    name: String,
    info: File,
    _program: OwnedFd,
}

impl ProgramInfo {
    pub(super) fn open(name: &str, program: &Program) -> Option<Self> {
        let program = program.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
        let info = File::open(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
        Some(Self {
            name: name.to_owned(),
            info,
            _program: program,
        })
    }

    /// Returns the runs that the kernel skipped; `None` if it does not count them (before 5.12).
    fn misses(&self) -> Option<u64> {
        let [misses] = self.numbers(["recursion_misses:"])?;
        Some(misses)
    }

    /// Returns the numbers in the lines of these names (`bpf_prog_show_fdinfo`); `None` if one is
    /// missing.
    fn numbers<const N: usize>(&self, names: [&str; N]) -> Option<[u64; N]> {
        let mut text = [0; 512];
        let length = self.info.read_at(&mut text, 0).ok()?;
        let text = str::from_utf8(&text[..length]).ok()?;
        let mut numbers = [0; N];
        for (number, name) in numbers.iter_mut().zip(names) {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            *number = line.trim().parse().ok()?;
        }
        Some(numbers)
    }
}

/// Whether the kernel counts the runs of a program that it skips.
pub(super) fn counts_misses(program: &Program) -> bool {
    ProgramInfo::open("", program).is_some_and(|info| info.misses().is_some())
}

#[cfg(test)]
mod tests {
    use tcptrace_common::{PROGRAM_CGROUP_MADE, PROGRAM_PROCESS_EXIT, PROGRAM_PROCESS_RENAME};

    use super::{super::btf::Btf, *};

    static OBJECT: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/ebpf/tcptrace.bpf.o"));

    /// LLVM writes declarations in the order of their addresses in the linker's memory. With two of
    /// them, the same sources make two objects.
    #[test]
    fn the_object_declares_at_most_one_type_without_describing_it() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let btf = Btf::parse(object.btf.unwrap().to_bytes(), &[]).unwrap();
        assert_eq!(btf.declarations(), ["bpf_sock"]);
    }

    #[test]
    fn every_program_of_the_object_has_a_kind_or_a_reason_to_have_none() {
        let object = aya_obj::Object::parse(OBJECT).unwrap();
        let without = [
            PROGRAM_PROCESS_RENAME,
            PROGRAM_PROCESS_EXIT,
            PROGRAM_CGROUP_MADE,
        ];
        for name in object.programs.keys() {
            let name = name.as_str();
            let has_kind = tells_of(name).is_some();
            let needs_none = is_second(name) || without.contains(&name);
            assert!(has_kind != needs_none, "{name}");
        }
        assert_eq!(
            object.programs.len(),
            KINDS.len() + SECOND_COPIES.len() + without.len()
        );
    }
}
