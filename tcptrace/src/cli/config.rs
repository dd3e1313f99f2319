//! The validated command line: what each command runs with.

use std::{io::IsTerminal, net::SocketAddr, path::PathBuf, time::Duration};

use jiff::tz::TimeZone;
use nix::unistd::{SysconfVar, sysconf};

use crate::{
    cli::{
        CaptureArgs, CgroupLabelChoice, ColorChoice, DaemonArgs, ExplainArgs, FilterArgs,
        ProbeArgs, ReplayArgs, Show, TailArgs, TimeChoice, ViewArgs, WidthChoice, netns::NetnsArg,
    },
    explain::Topic,
    log::LogLevel,
    metrics::{CgroupLabel, MetricsConfig},
    output::{
        render::{Column, Columns, Format, Look, Time, Width},
        tail::ViewConfig,
        view::{
            ShownRecords,
            filter::{FamilyFilter, Filter},
            terms::Terms,
        },
    },
    privileges::Privileges,
    probe::ProbeConfig,
};

/// Invalid arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The kernel does not take a ring of this size.
    #[error("--ring-size {0}: the kernel takes a power of two from {1} to 1073741824 bytes")]
    RingSize(u64, u64),
    /// Not a valid metrics path.
    #[error(
        "--web.telemetry-path {0}: not a valid path: it must begin with /, must not be / or begin with /-/, and is of at most 256 characters, among them no ?, # or space"
    )]
    TelemetryPath(String),
    /// No such verdict.
    #[error("{0:?} cannot be explained: {1}")]
    Topic(String, String),
    /// The web server's file, or one that it names, is not valid or cannot be read.
    #[error("{0}")]
    WebConfig(String),
    /// A network namespace that cannot be opened.
    #[error("--netns {0}")]
    Netns(String),
    /// More fixed ports than labels.
    #[error("--metrics.ports names {0} ports: at most 1024 are allowed")]
    Ports(usize),
    /// How cgroups are labelled, though none has a label.
    #[error(
        "{0} has no effect: no cgroup has a label. Set --metrics.cgroups N, the most labels of cgroups"
    )]
    NoCgroups(&'static str),
    /// Two kinds of cgroup labels.
    #[error(
        "--metrics.cgroup-label and --metrics.cgroup-pattern cannot be used together: leave one of them out"
    )]
    CgroupLabels,
}

#[derive(Clone, Copy, Debug)]
pub struct ExplainConfig {
    /// The topic; `None` lists the topics.
    pub topic: Option<Topic>,
    /// Characters in a line.
    pub width: usize,
    /// ASCII characters only.
    pub ascii: bool,
}

impl ExplainConfig {
    pub fn new(args: &ExplainArgs) -> Result<Self, ConfigError> {
        let name = args.topic.join(" ");
        let topic = if name.is_empty() {
            None
        } else {
            let parsed = name.parse();
            Some(parsed.map_err(|expected| ConfigError::Topic(name, expected))?)
        };
        Ok(Self {
            topic,
            // Prose in longer lines is hard to read.
            width: Width::Terminal.now().map_or(80, |width| width.min(80)),
            ascii: !speaks_utf8(),
        })
    }
}

#[derive(Clone, Debug)]
pub struct TailConfig {
    pub probe: ProbeConfig,
    pub privileges: Privileges,
    /// The most connections tracked.
    pub max_connections: usize,
    /// The time between two comparisons with the kernel's list of sockets.
    pub resync_interval: Option<Duration>,
    pub view: ViewConfig,
    /// Ends after this time.
    pub duration: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct CaptureConfig {
    pub probe: ProbeConfig,
    pub privileges: Privileges,
    /// The destination; `None` is standard output.
    pub file: Option<PathBuf>,
    /// Replaces an existing file.
    pub force: bool,
    /// Ends after this time.
    pub duration: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct ReplayConfig {
    /// The source; `None` is standard input.
    pub file: Option<PathBuf>,
    pub view: ViewConfig,
    /// The most connections tracked.
    pub max_connections: usize,
}

#[derive(Clone, Debug)]
pub struct DaemonConfig {
    pub probe: ProbeConfig,
    pub privileges: Privileges,
    /// The most connections tracked.
    pub max_connections: usize,
    /// The time between two comparisons with the kernel's list of sockets.
    pub resync_interval: Option<Duration>,
    /// The time between two polls of the kernel's own tables.
    pub poll_interval: Option<Duration>,
    /// The kernel counts the runs of eBPF programs.
    pub program_stats: bool,
    pub listen_addresses: Vec<SocketAddr>,
    /// Serves on the sockets that systemd passes instead.
    pub systemd_socket: bool,
    pub telemetry_path: String,
    /// The file with TLS and passwords.
    pub web_config: Option<PathBuf>,
    pub metrics: MetricsConfig,
}

/// The default for slow: the kernel retransmits a SYN after a second (RFC 6298 §2.1).
const SLOW_US: u64 = 1_000_000;

fn view_config(args: ViewArgs) -> Result<ViewConfig, ConfigError> {
    for notice in args.filter.comm.iter().flat_map(Terms::notices) {
        tracing::warn!("{notice}");
    }
    let show = match (&args.show[..], args.summary) {
        ([], None) if args.format == Format::Diagram => &[Show::Connections][..],
        ([], None) => &[Show::Handshakes, Show::Connections],
        (show, _) => show,
    };
    let shows = |what| show.contains(&what);
    let terminal = std::io::stdout().is_terminal();
    Ok(ViewConfig {
        shown: ShownRecords {
            transitions: shows(Show::Transitions),
            handshakes: shows(Show::Handshakes),
            connections: shows(Show::Connections),
            releases: shows(Show::Releases),
        },
        format: args.format,
        look: Look {
            color: color(args.color),
            ascii: !speaks_utf8(),
            terminal,
            width: match args.width {
                WidthChoice::Auto if terminal => Width::Terminal,
                WidthChoice::Auto => Width::Unlimited,
                WidthChoice::Fixed(width) => Width::Fixed(width.into()),
            },
            time: match args.time {
                TimeChoice::Local => Time::Zone(TimeZone::system()),
                TimeChoice::Utc => Time::Zone(TimeZone::UTC),
                TimeChoice::Relative => Time::Relative,
                TimeChoice::Epoch => Time::Epoch,
            },
            columns: match &args.columns[..] {
                [] => Columns::Usual,
                columns => Columns::Chosen(unique(columns)),
            },
            numeric: args.numeric,
            resolver: None,
            slow_us: args.filter.slow.map_or(SLOW_US, |slow| {
                slow.as_micros().try_into().unwrap_or(u64::MAX)
            }),
            transitions: shows(Show::Transitions),
            rows: !show.is_empty(),
            status: terminal && !is_dumb(),
        },
        resolve: args.resolve,
        summary: args.summary,
        count: args.count,
        filter: filter(args.filter)?,
    })
}

impl TailConfig {
    pub fn new(args: TailArgs) -> Result<Self, ConfigError> {
        Ok(Self {
            probe: probe_config(&args.probe)?,
            privileges: privileges(&args.probe, args.view.resolve),
            max_connections: args.probe.max_connections as usize,
            resync_interval: args.probe.resync_interval.0,
            view: view_config(args.view)?,
            duration: args.duration,
        })
    }
}

impl CaptureConfig {
    pub fn new(args: CaptureArgs) -> Result<Self, ConfigError> {
        Ok(Self {
            probe: probe_config(&args.probe)?,
            privileges: privileges(&args.probe, false),
            file: unless_dash(args.file),
            force: args.force,
            duration: args.duration,
        })
    }
}

impl ReplayConfig {
    pub fn new(args: ReplayArgs) -> Result<Self, ConfigError> {
        Ok(Self {
            file: unless_dash(args.file),
            view: view_config(args.view)?,
            max_connections: args.max_connections as usize,
        })
    }
}

/// Returns `None` for `-`, a standard stream.
fn unless_dash(file: PathBuf) -> Option<PathBuf> {
    (file.as_os_str() != "-").then_some(file)
}

impl DaemonConfig {
    /// Validates the arguments.
    pub fn new(args: DaemonArgs) -> Result<Self, ConfigError> {
        let cgroup_label = cgroup_label(&args)?;
        let path = args.telemetry_path;
        // As it will come in a request: no query, no fragment, nothing that must be escaped.
        let is_path = path
            .parse::<hyper::Uri>()
            .is_ok_and(|uri| uri.path() == path && uri.host().is_none());
        let is_free = path != "/" && !path.starts_with("/-/") && path.starts_with('/');
        if !is_path || !is_free || path.len() > 256 {
            return Err(ConfigError::TelemetryPath(path));
        }
        if args.ports.len() > 1024 {
            return Err(ConfigError::Ports(args.ports.len()));
        }
        Ok(Self {
            probe: probe_config(&args.probe)?,
            privileges: privileges(&args.probe, false),
            max_connections: args.probe.max_connections as usize,
            resync_interval: args.probe.resync_interval.0,
            poll_interval: args.poll_interval.0,
            program_stats: args.program_stats,
            listen_addresses: args.listen_addresses,
            systemd_socket: args.systemd_socket,
            telemetry_path: path,
            web_config: args.web_config,
            metrics: MetricsConfig {
                max_ports: args.max_ports.into(),
                fixed_ports: args.ports,
                max_cgroups: args.max_cgroups.into(),
                cgroup_label,
                ..MetricsConfig::default()
            },
        })
    }
}

fn cgroup_label(args: &DaemonArgs) -> Result<CgroupLabel, ConfigError> {
    let chosen = match args.cgroup_label {
        CgroupLabelChoice::Path => CgroupLabel::Path,
        CgroupLabelChoice::Unit => CgroupLabel::Unit,
        CgroupLabelChoice::Pod => CgroupLabel::Pod,
        CgroupLabelChoice::Container => CgroupLabel::Container,
    };
    let is_path = matches!(chosen, CgroupLabel::Path);
    match (is_path, args.cgroup_patterns.is_empty()) {
        (false, false) => Err(ConfigError::CgroupLabels),
        (false, true) if args.max_cgroups == 0 => {
            Err(ConfigError::NoCgroups("--metrics.cgroup-label"))
        }
        (true, false) if args.max_cgroups == 0 => {
            Err(ConfigError::NoCgroups("--metrics.cgroup-pattern"))
        }
        (true, false) => Ok(CgroupLabel::Patterns(args.cgroup_patterns.clone())),
        (_, true) => Ok(chosen),
    }
}

fn privileges(args: &ProbeArgs, resolving: bool) -> Privileges {
    Privileges {
        sandbox: args.sandbox,
        resolving,
        keep: args.keep.iter().filter_map(|kept| kept.0).collect(),
    }
}

fn probe_config(args: &ProbeArgs) -> Result<ProbeConfig, ConfigError> {
    // sysconf(3) cannot fail for this; if it did, the kernel would refuse a wrong size.
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page = page.map_or(0, i64::unsigned_abs);
    let error = ConfigError::RingSize(args.ring_size, page);
    let ring_bytes = u32::try_from(args.ring_size)
        .ok()
        .filter(|size| size.is_power_of_two() && *size <= 1 << 30 && u64::from(*size) >= page)
        .ok_or(error)?;
    Ok(ProbeConfig {
        ring_bytes,
        attach: args.attach,
        without: args.without.clone(),
        log_level: match args.ebpf_log_level {
            LogLevel::Off => 0,
            LogLevel::Error => 1,
            LogLevel::Warn => 2,
            LogLevel::Info => 3,
            LogLevel::Debug => 4,
            LogLevel::Trace => 5,
        },
    })
}

fn filter(args: FilterArgs) -> Result<Filter, ConfigError> {
    let netns = args.netns.map(|terms| terms.try_map(NetnsArg::open));
    Ok(Filter {
        port: args.port,
        local_port: args.local_port,
        remote_port: args.remote_port,
        cidr: args.cidr,
        pid: args.pid,
        comm: args.comm,
        role: args.role,
        netns: netns.transpose().map_err(ConfigError::Netns)?,
        cgroup: args.cgroup,
        container: args.container,
        verdict: args.verdict,
        state: args.state,
        failed: args.failed,
        slow: args.slow,
        min_handshake: args.min_handshake,
        min_duration: args.min_duration,
        family: match (args.ipv4, args.ipv6) {
            (true, _) => Some(FamilyFilter::Ipv4),
            (false, true) => Some(FamilyFilter::Ipv6),
            (false, false) => None,
        },
    })
}

/// Returns each column once, where it is named first.
fn unique(columns: &[Column]) -> Vec<Column> {
    let mut unique = Vec::new();
    for &column in columns {
        if !unique.contains(&column) {
            unique.push(column);
        }
    }
    unique
}

/// Whether to colour what goes to standard output.
pub fn color(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        // https://no-color.org: set, and not empty.
        ColorChoice::Auto => {
            std::io::stdout().is_terminal()
                && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
                && !is_dumb()
        }
    }
}

/// Whether the terminal knows no escape sequences.
fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Whether the locale's character set is UTF-8, looked up in the C library's order (setlocale(3)).
fn speaks_utf8() -> bool {
    ["LC_ALL", "LC_CTYPE", "LANG"]
        .iter()
        .filter_map(std::env::var_os)
        .find(|value| !value.is_empty())
        .is_some_and(|value| {
            let value = value.to_string_lossy().to_ascii_lowercase();
            value.contains("utf-8") || value.contains("utf8")
        })
}
