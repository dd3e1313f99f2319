//! How to trace: the arguments of every command that loads the programs, and of `capture`.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{
    HELP,
    values::{Interval, KeptCapability, parse_duration, parse_interval, parse_kept, parse_size},
};
use crate::{
    log::LogLevel,
    privileges::Sandbox,
    probe::{AttachMode, Exclusion},
};

/// How the kernel side is set up.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// How to trace transitions.
    #[arg(long, value_enum, default_value_t = AttachMode::Auto, hide_short_help = true, help_heading = "Tracing")]
    pub attach: AttachMode,

    /// Hooks to leave out: by name (inet_csk_accept, …), or optional ones by how they are attached
    /// (fentry, fexit, sock_ops, …). `tcptrace check` names both.
    #[arg(
        long,
        value_name = "HOOKS",
        value_delimiter = ',',
        hide_short_help = true,
        help_heading = "Tracing"
    )]
    pub without: Vec<Exclusion>,

    /// Size of the ring buffer: a power of two, at least 4KiB.
    #[arg(long, value_name = "BYTES", default_value = "8MiB", value_parser = parse_size, hide_short_help = true, help_heading = "Tracing")]
    pub ring_size: u64,

    /// The most connections to track; past that, the one unchanged for longest is evicted.
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16_777_216), hide_short_help = true, help_heading = "Tracing")]
    pub max_connections: u32,

    /// How often to compare the tracked connections with the kernel's list of sockets, and correct
    /// them; off means only at the start and after losses.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_interval, hide_short_help = true, help_heading = "Tracing")]
    pub resync_interval: Interval,

    /// The capabilities that the thread keeper keeps once the programs are attached, if the process
    /// has them: none, or a comma list. All other threads give up every capability.
    #[arg(
        long = "capabilities.keep",
        value_name = "NAMES",
        value_delimiter = ',',
        default_values_t = KeptCapability::usual(),
        value_parser = parse_kept,
        hide_short_help = true,
        help_heading = "Tracing"
    )]
    pub keep: Vec<KeptCapability>,

    /// Whether threads are restricted, once the programs are attached, to the system calls and
    /// files that they are known to need (seccomp, Landlock).
    #[arg(long, value_enum, default_value_t = Sandbox::On, hide_short_help = true, help_heading = "Tracing")]
    pub sandbox: Sandbox,

    /// The log level on standard error.
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        hide_short_help = true,
        help_heading = "Tracing"
    )]
    pub log_level: Option<LogLevel>,

    /// Log messages of the eBPF programs; they cost nothing when off.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = LogLevel::Off, hide_short_help = true, help_heading = "Tracing")]
    pub ebpf_log_level: LogLevel,
}

/// `tcptrace capture`.
#[derive(Clone, Debug, Args)]
#[command(help_template = HELP, after_help = "\
The file holds the events as the kernel sent them, in blocks with a checksum each: what was
written before a crash or a full disk can be read. `tcptrace replay FILE` shows it.

Examples:
  tcptrace capture --duration 5m file.cap
  ssh host tcptrace capture --duration 30s - | tcptrace replay - --failed")]
pub struct CaptureArgs {
    /// The file to write; - is standard output.
    pub file: PathBuf,

    /// Replace an existing file.
    #[arg(long)]
    pub force: bool,

    /// End after this time, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub probe: ProbeArgs,
}
