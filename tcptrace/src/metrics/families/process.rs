//! The process: Prometheus's usual metrics, with fractions of a second of CPU time.
//!
//! What /proc does not tell is absent.

use procfs::{
    ProcResult,
    process::{LimitValue, Process, Stat},
};

use super::family::Family;

pub(super) fn families() -> Vec<Family> {
    let Ok(process) = Process::myself() else {
        return Vec::new();
    };
    let mut families = Vec::new();
    if let Ok(stat) = process.stat() {
        families.extend(of_stat(&stat));
    }
    families.extend(of_files(&process));
    families
}

fn single(mut family: Family, value: f64) -> Family {
    family.add(&[], value);
    family
}

fn of_stat(stat: &Stat) -> Vec<Family> {
    let ticks = procfs::ticks_per_second() as f64;
    let mut families = vec![
        single(
            Family::counter(
                "process_cpu_seconds_total",
                &[],
                "Total user and system CPU time spent in seconds.",
            ),
            (stat.utime + stat.stime) as f64 / ticks,
        ),
        single(
            Family::gauge(
                "process_resident_memory_bytes",
                &[],
                "Resident memory size in bytes.",
            ),
            (stat.rss * procfs::page_size()) as f64,
        ),
        single(
            Family::gauge(
                "process_virtual_memory_bytes",
                &[],
                "Virtual memory size in bytes.",
            ),
            stat.vsize as f64,
        ),
        single(
            Family::gauge(
                "process_threads",
                &[],
                "Number of OS threads in the process.",
            ),
            stat.num_threads as f64,
        ),
    ];
    if let Ok(boot) = procfs::boot_time_secs() {
        families.push(single(
            Family::gauge(
                "process_start_time_seconds",
                &[],
                "Start time of the process since unix epoch in seconds.",
            ),
            boot as f64 + stat.starttime as f64 / ticks,
        ));
    }
    families
}

fn of_files(process: &Process) -> Vec<Family> {
    let mut families = Vec::new();
    if let Ok(open) = process.fd_count() {
        families.push(single(
            Family::gauge("process_open_fds", &[], "Number of open file descriptors."),
            open as f64,
        ));
    }
    if let Ok(max) = max_files(process) {
        families.push(single(
            Family::gauge(
                "process_max_fds",
                &[],
                "Maximum number of open file descriptors.",
            ),
            max,
        ));
    }
    families
}

fn max_files(process: &Process) -> ProcResult<f64> {
    Ok(match process.limits()?.max_open_files.soft_limit {
        LimitValue::Unlimited => f64::INFINITY,
        LimitValue::Value(files) => files as f64,
    })
}
