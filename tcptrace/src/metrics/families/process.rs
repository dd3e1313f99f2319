//! The process: Prometheus's usual metrics, with fractions of a second of CPU time.
//!
//! What the kernel does not tell is absent.

use std::fs;

use nix::{
    sys::resource::{RLIM_INFINITY, Resource, getrlimit},
    unistd::{SysconfVar, sysconf},
};

use super::family::Family;

/// What the process uses; `None` of what the kernel does not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessUse {
    /// User and system time.
    processor_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    threads: Option<f64>,
    /// The start, since the epoch.
    start_seconds: Option<f64>,
    open_files: Option<f64>,
    max_files: Option<f64>,
}

impl ProcessUse {
    /// Reads /proc, which the web server's thread may not do.
    pub fn read() -> Self {
        let stat = Stat::read();
        let of_stat = |field: usize| stat.as_ref()?.field(field);
        let ticks = of_system(SysconfVar::CLK_TCK);
        let seconds = |field| Some(of_stat(field)? / ticks?);
        let processor = || Some(seconds(Stat::UTIME)? + seconds(Stat::STIME)?);
        let resident = || Some(of_stat(Stat::RSS)? * of_system(SysconfVar::PAGE_SIZE)?);
        let start = || Some(boot_time()? + seconds(Stat::STARTTIME)?);
        Self {
            processor_seconds: processor(),
            resident_bytes: resident(),
            virtual_bytes: of_stat(Stat::VSIZE),
            threads: of_stat(Stat::NUM_THREADS),
            start_seconds: start(),
            open_files: open_files(),
            max_files: max_files(),
        }
    }
}

pub(super) fn families(used: &ProcessUse) -> Vec<Family> {
    let processor = used.processor_seconds.map(|value| {
        let help = "Total user and system CPU time spent in seconds.";
        single(
            Family::counter("process_cpu_seconds_total", &[], help),
            value,
        )
    });
    let gauges = [
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            used.resident_bytes,
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            used.virtual_bytes,
        ),
        (
            "process_threads",
            "Number of OS threads in the process.",
            used.threads,
        ),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            used.start_seconds,
        ),
        (
            "process_open_fds",
            "Number of open file descriptors.",
            used.open_files,
        ),
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            used.max_files,
        ),
    ];
    let gauges = gauges
        .into_iter()
        .filter_map(|(name, help, value)| Some(single(Family::gauge(name, &[], help), value?)));
    processor.into_iter().chain(gauges).collect()
}

fn single(mut family: Family, value: f64) -> Family {
    family.add(&[], value);
    family
}

/// The fields of /proc/self/stat from the third on: the second, the name, may contain anything.
struct Stat(String);

/// The numbers of fields, as proc_pid_stat(5) counts them.
impl Stat {
    const UTIME: usize = 14;
    const STIME: usize = 15;
    const NUM_THREADS: usize = 20;
    const STARTTIME: usize = 22;
    const VSIZE: usize = 23;
    const RSS: usize = 24;

    fn read() -> Option<Self> {
        let text = fs::read("/proc/self/stat").ok()?;
        let text = String::from_utf8_lossy(&text);
        Some(Self(text.rsplit_once(") ")?.1.to_owned()))
    }

    fn field(&self, number: usize) -> Option<f64> {
        self.0
            .split_ascii_whitespace()
            .nth(number - 3)?
            .parse()
            .ok()
    }
}

fn of_system(variable: SysconfVar) -> Option<f64> {
    Some(sysconf(variable).ok()?? as f64)
}

/// Returns the time of the boot, in seconds since the epoch.
fn boot_time() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// Returns the number of open descriptors, without that of the directory that tells it.
fn open_files() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    Some(open.saturating_sub(1) as f64)
}

fn max_files() -> Option<f64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(if soft == RLIM_INFINITY {
        f64::INFINITY
    } else {
        soft as f64
    })
}
