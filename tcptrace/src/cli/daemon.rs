//! The arguments of `daemon`.

use crate::log::LogFormat;
use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use regex_lite::Regex;

use super::{
    HELP,
    trace::ProbeArgs,
    values::{Interval, parse_address, parse_interval, parse_pattern, parse_port},
};

/// `tcptrace daemon`.
#[derive(Clone, Debug, Args)]
#[command(help_template = HELP, after_help = "\
Examples:
  tcptrace daemon
  curl -s localhost:9823/metrics | grep handshake_failures
  tcptrace daemon --web.listen-address 0.0.0.0:9823 --metrics.ports 443,5432")]
pub struct DaemonArgs {
    /// A TOML file with settings: those that neither flags nor variables (TCPTRACE_RING_SIZE) set.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the settings and exit.
    #[arg(long)]
    pub check_config: bool,

    /// Where to serve metrics; a comma list, may be repeated.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9823",
        value_delimiter = ',',
        value_parser = parse_address
    )]
    pub listen_addresses: Vec<SocketAddr>,

    /// Serve on the sockets that systemd passes instead.
    #[arg(long = "web.systemd-socket")]
    pub systemd_socket: bool,

    /// The path of the metrics.
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        default_value = "/metrics"
    )]
    pub telemetry_path: String,

    /// TLS, client certificates, passwords and headers: a YAML file in the format of Prometheus's
    /// exporter-toolkit.
    #[arg(long = "web.config.file", value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// The format of log lines.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,

    /// How often to read the kernel's own tables (sockets by state, queues, drops); off means
    /// never.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_interval)]
    pub poll_interval: Interval,

    /// Measure the runs and the run time of every eBPF program of this kernel, which makes each run
    /// a little slower (Linux 5.8 and newer; needs CAP_SYS_ADMIN).
    #[arg(long)]
    pub program_stats: bool,

    /// The most ports with a label of their own; the rest are "other". Half of the labels go to
    /// ports that are listened on at the start or are below the ephemeral range, half to ports in
    /// steady use.
    #[arg(long = "metrics.max-ports", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub max_ports: u16,

    /// Only these ports get a label; a comma list.
    #[arg(long = "metrics.ports", value_name = "PORTS", value_delimiter = ',', value_parser = parse_port)]
    pub ports: Vec<u16>,

    /// Also count by cgroup, and label at most this many; the rest are "other". Half of the labels
    /// go to cgroups that exist at the start, half to cgroups in steady use.
    #[arg(long = "metrics.cgroups", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub max_cgroups: u16,

    /// The label of a cgroup: its path, or the part of it that names a unit, pod or container
    /// ("none" if it names no such thing). Needs --metrics.cgroups.
    #[arg(
        long = "metrics.cgroup-label",
        value_name = "WHAT",
        default_value = "path",
        value_enum
    )]
    pub cgroup_label: CgroupLabelChoice,

    /// A regular expression whose capture from the cgroup's path is the label, such as
    /// '/system\.slice/(.+)\.service'. If repeated, the first match counts; "none" without a match.
    #[arg(long = "metrics.cgroup-pattern", value_name = "REGEX", value_parser = parse_pattern)]
    pub cgroup_patterns: Vec<Regex>,

    #[command(flatten)]
    pub probe: ProbeArgs,
}

/// Which part of a cgroup's path labels its metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupLabelChoice {
    /// The whole path.
    Path,
    /// The systemd unit.
    Unit,
    /// The UID of the Kubernetes pod.
    Pod,
    /// The container's id.
    Container,
}
