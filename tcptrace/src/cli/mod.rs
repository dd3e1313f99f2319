//! The command line, as typed. What it means is for [`config`] to say.

pub mod config;
pub mod settings;

use std::{
    net::{Ipv6Addr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use regex_lite::Regex;

use crate::{
    output::{
        render::{Column, Format},
        view::terms::{CgroupTerm, Cidr, Comm, ContainerTerm, Netns, Pid, Ports, State, Terms},
    },
    probe::{AttachMode, Exclusion},
    tracker::{Role, Verdict},
};

/// An eBPF tracer of the TCP connection lifecycle.
#[derive(Debug, Parser)]
#[command(name = "tcptrace", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show connections as they open and close.
    Tail(Box<TailArgs>),
    /// Trace in the background and serve Prometheus metrics.
    Daemon(DaemonArgs),
    /// Write the raw events to a file.
    Capture(CaptureArgs),
    /// Show what a capture holds, as `tail` would have.
    Replay(Box<ReplayArgs>),
    /// Show what this kernel and these privileges allow.
    Check(CheckArgs),
    /// Explain a verdict: what it looks like on the wire, its causes, and what to do.
    Explain(ExplainArgs),
    /// Print what a shell needs to complete the command line.
    Completions(CompletionsArgs),
}

impl Command {
    /// As typed.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Tail(_) => "tail",
            Self::Daemon(_) => "daemon",
            Self::Capture(_) => "capture",
            Self::Replay(_) => "replay",
            Self::Check(_) => "check",
            Self::Explain(_) => "explain",
            Self::Completions(_) => "completions",
        }
    }
}

/// How the kernel side is set up.
#[derive(Clone, Debug, Args)]
pub struct ProbeArgs {
    /// How to trace transitions.
    #[arg(long, value_enum, default_value_t = AttachMode::Auto, hide_short_help = true, help_heading = "Tracing")]
    pub attach: AttachMode,

    /// Hooks not to use even where they are available: hooks (inet_csk_accept, …) or ways to attach the
    /// optional ones (fentry, fexit, sock_ops, …). `tcptrace check` names those in use.
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

    /// The most connections to track; past that the one unchanged for longest is given up.
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16_777_216), hide_short_help = true, help_heading = "Tracing")]
    pub max_connections: u32,

    /// How often to compare the tracked connections with the kernel's list of sockets, and correct
    /// them; with off, only at the start and when events were lost.
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = parse_interval, hide_short_help = true, help_heading = "Tracing")]
    pub resync_interval: Interval,

    /// How much is logged on standard error.
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

/// A time between two runs, or `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval(pub Option<Duration>);

/// A level of logging.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// A time, a level and what is said.
    Text,
    /// The same as a JSON object (timestamp, level, message).
    Json,
}

/// What of a cgroup's path the label of its metrics is.
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

/// Which connections to show. Each takes a comma list; a leading `!` means none of these.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters (a comma list; a leading ! means none of these)")]
pub struct FilterArgs {
    /// Either port: 443 or 8000-8099.
    #[arg(long, value_name = "PORTS", value_parser = parse_terms::<Ports>)]
    pub port: Option<Terms<Ports>>,

    /// This side's port.
    #[arg(long, value_name = "PORTS", value_parser = parse_terms::<Ports>)]
    pub local_port: Option<Terms<Ports>>,

    /// The other side's port.
    #[arg(long, value_name = "PORTS", value_parser = parse_terms::<Ports>)]
    pub remote_port: Option<Terms<Ports>>,

    /// Either address: 10.0.0.0/8, 192.0.2.7, 2001:db8::/32.
    #[arg(long, value_name = "NETS", value_parser = parse_terms::<Cidr>)]
    pub cidr: Option<Terms<Cidr>>,

    /// The process.
    #[arg(long, value_name = "PIDS", value_parser = parse_terms::<Pid>)]
    pub pid: Option<Terms<Pid>>,

    /// The process's name.
    ///
    /// The kernel keeps 15 bytes of it. `\,` is a comma in it.
    #[arg(long, value_name = "NAMES", value_parser = parse_terms::<Comm>)]
    pub comm: Option<Terms<Comm>>,

    /// active, passive, simultaneous or unknown.
    #[arg(long, value_name = "ROLES", value_parser = parse_terms::<Role>)]
    pub role: Option<Terms<Role>>,

    /// The network namespace: inode number, name or path.
    ///
    /// `lsns -t net` shows inode numbers, `ip netns` names.
    #[arg(long, value_name = "NAMESPACES", value_parser = parse_terms::<Netns>)]
    pub netns: Option<Terms<Netns>>,

    /// The socket's cgroup: a path, or a name such as nginx.service.
    ///
    /// The one that the socket was made in, or one that it lies in: a path means all below it too.
    #[arg(long, value_name = "CGROUPS", value_parser = parse_terms::<CgroupTerm>)]
    pub cgroup: Option<Terms<CgroupTerm>>,

    /// The container: its id or the beginning of it.
    #[arg(long, value_name = "IDS", value_parser = parse_terms::<ContainerTerm>)]
    pub container: Option<Terms<ContainerTerm>>,

    /// Why it ended: refused, reset_received … (see explain).
    #[arg(long, value_name = "VERDICTS", value_parser = parse_terms::<Verdict>)]
    pub verdict: Option<Terms<Verdict>>,

    /// Rows that tell of these states.
    ///
    /// That is the state entered, or at the end the state left.
    #[arg(long, value_name = "STATES", value_parser = parse_terms::<State>)]
    pub state: Option<Terms<State>>,

    /// Never established.
    #[arg(long)]
    pub failed: bool,

    /// Handshake or wait for accept() took this long at least: 100ms.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub slow: Option<Duration>,

    /// The handshake took this long at least.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min_handshake: Option<Duration>,

    /// It lived this long at least.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min_duration: Option<Duration>,

    /// IPv4 only; an IPv4-mapped address is IPv4.
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    pub ipv4: bool,

    /// IPv6 only.
    #[arg(short = '6', long)]
    pub ipv6: bool,
}

/// What is shown, and how.
#[derive(Clone, Debug, Args)]
pub struct ViewArgs {
    /// Which rows: transitions, handshakes, connections, releases; a comma list.
    ///
    /// transitions: every change of state, listeners' too. handshakes: connections as they are
    /// established. connections: as they end. releases: what became of TIME_WAIT after that, the peer's
    /// late FIN. Without it handshakes and connections are shown, in a diagram connections, and with
    /// --summary nothing else.
    #[arg(
        long,
        value_enum,
        value_name = "ROWS",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub show: Vec<Show>,

    /// A row with sums every so often: 10s.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub summary: Option<Duration>,

    /// table or diagram for people, json or csv for programs.
    #[arg(long, value_enum, default_value_t = Format::Table, hide_possible_values = true)]
    pub format: Format,

    /// The table's columns, a comma list; --help names them.
    #[arg(
        long,
        value_enum,
        value_name = "COLUMNS",
        value_delimiter = ',',
        hide_possible_values = true,
        long_help = columns_help(),
    )]
    pub columns: Vec<Column>,

    /// local or utc time of the day, relative to the first row, or epoch seconds.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = TimeChoice::Local, hide_possible_values = true)]
    pub time: TimeChoice,

    /// Addresses by name; a line never waits for one.
    ///
    /// The host's resolver is asked meanwhile, by threads of their own: the first lines of an address
    /// show it as a number. Names are kept until the end.
    #[arg(long)]
    pub resolve: bool,

    /// Ports as numbers, not by their well-known names.
    #[arg(short, long)]
    pub numeric: bool,

    /// How long a line of a table may be: auto is the terminal's width.
    ///
    /// Where the output is no terminal, auto means without limit.
    #[arg(long, value_name = "N", default_value = "auto", value_parser = parse_width)]
    pub width: WidthChoice,

    /// auto, always or never; auto means on a terminal, unless NO_COLOR is set.
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto, hide_possible_values = true)]
    pub color: ColorChoice,

    /// End after N rows.
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub count: Option<u64>,

    #[command(flatten)]
    pub filter: FilterArgs,
}

/// `tcptrace tail`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tcptrace tail --failed                             what was refused, timed out or gave up
  tcptrace tail --cidr '!127.0.0.0/8,::1' --slow 1s  slow handshakes and accepts, without loopback
  tcptrace tail --port 443 --summary 10s             sums every 10 s
  tcptrace tail --format diagram --count 1           the next connection as the textbook draws it
  tcptrace tail --format json | jq -c 'select(.verdict==\"refused\") | {comm, remote_address}'
  tcptrace tail --format json | jq -r 'select(.handshake_us>1e5) | [.time,.comm] | @tsv'")]
pub struct TailArgs {
    /// End after this time, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub view: ViewArgs,

    #[command(flatten)]
    pub probe: ProbeArgs,
}

/// What a tail can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// Every state transition, listeners' too.
    Transitions,
    /// Connections as they are established.
    Handshakes,
    /// Connections as they end.
    Connections,
    /// What became of TIME_WAIT after that: the peer's late FIN.
    #[value(alias = "release")]
    Releases,
}

/// What is shown of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimeChoice {
    Local,
    Utc,
    Relative,
    Epoch,
}

/// How long a line may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WidthChoice {
    /// As wide as the terminal, if it is one.
    Auto,
    /// So many characters.
    Fixed(u16),
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// `tcptrace daemon`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tcptrace daemon
  curl -s localhost:9823/metrics | grep handshake_failures
  tcptrace daemon --web.listen-address 0.0.0.0:9823 --metrics.ports 443,5432")]
pub struct DaemonArgs {
    /// A TOML file with settings: those that neither flags nor variables (TCPTRACE_RING_SIZE) set.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Check the settings, and do no more.
    #[arg(long)]
    pub check_config: bool,

    /// Where to serve metrics; a comma list, may be given more than once.
    #[arg(
        long = "web.listen-address",
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:9823",
        value_delimiter = ',',
        value_parser = parse_address
    )]
    pub listen_addresses: Vec<SocketAddr>,

    /// Serve on the sockets that systemd hands over, instead.
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

    /// What a line of the log looks like.
    #[arg(long, value_name = "FORMAT", default_value = "text", value_enum)]
    pub log_format: LogFormat,

    /// How often to look into the kernel's own tables (sockets by state, queues, drops); with off,
    /// never.
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse_interval)]
    pub poll_interval: Interval,

    /// Have the kernel count the runs of eBPF programs and their time, of all that it has. That takes
    /// some time of each run (Linux 5.8 and newer; CAP_SYS_ADMIN).
    #[arg(long)]
    pub program_stats: bool,

    /// So many ports can get a label of their own, half of them those that serve from the start or
    /// below the ephemeral range, the others by steady use; the rest are "other".
    #[arg(long = "metrics.max-ports", value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub max_ports: u16,

    /// Only these ports get a label, a comma list.
    #[arg(long = "metrics.ports", value_name = "PORTS", value_delimiter = ',', value_parser = parse_port)]
    pub ports: Vec<u16>,

    /// Count by cgroup too, with a label for so many: half of them cgroups that are there from the start,
    /// the others by steady use; the rest are "other".
    #[arg(long = "metrics.cgroups", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1024))]
    pub max_cgroups: u16,

    /// What the label of a cgroup is: its path, or what that tells of it ("none" where it tells no
    /// such thing). It needs --metrics.cgroups.
    #[arg(
        long = "metrics.cgroup-label",
        value_name = "WHAT",
        default_value = "path",
        value_enum
    )]
    pub cgroup_label: CgroupLabelChoice,

    /// The label is what this regular expression captures of a cgroup's path, such as
    /// '/system\.slice/(.+)\.service'. Of several the first that matches; "none" when none does.
    #[arg(long = "metrics.cgroup-pattern", value_name = "REGEX", value_parser = parse_pattern)]
    pub cgroup_patterns: Vec<Regex>,

    #[command(flatten)]
    pub probe: ProbeArgs,
}

/// `tcptrace capture`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
The file holds the events as the kernel sent them, in blocks with a checksum each: what was
written before a crash or a full disk can be read. `tcptrace replay FILE` shows it.

Examples:
  tcptrace capture --duration 5m file.cap
  ssh host tcptrace capture --duration 30s - | tcptrace replay - --failed")]
pub struct CaptureArgs {
    /// The file to write; - is standard output.
    pub file: PathBuf,

    /// Replace the file if there is one.
    #[arg(long)]
    pub force: bool,

    /// End after this time, such as 30s or 5m.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub duration: Option<Duration>,

    #[command(flatten)]
    pub probe: ProbeArgs,
}

/// `tcptrace replay`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tcptrace replay file.cap --format diagram --verdict reset_received
  tcptrace replay file.cap --format json | jq -s 'group_by(.verdict) | map({(.[0].verdict // \"open\"): length})'")]
pub struct ReplayArgs {
    /// A file that `tcptrace capture` wrote; - is standard input.
    pub file: PathBuf,

    #[command(flatten)]
    pub view: ViewArgs,

    /// The most connections to track; past that the one unchanged for longest is given up.
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_connections: u32,
}

/// `tcptrace completions`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tcptrace completions bash > /usr/share/bash-completion/completions/tcptrace
  tcptrace completions zsh > /usr/share/zsh/site-functions/_tcptrace
  tcptrace completions fish > /usr/share/fish/vendor_completions.d/tcptrace.fish")]
pub struct CompletionsArgs {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `tcptrace explain`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  tcptrace explain                    what can be explained
  tcptrace explain reset_received
  tcptrace explain reset received     as the table has it
  tcptrace explain handshake          how a connection opens, and where that is measured")]
pub struct ExplainArgs {
    /// A verdict, handshake or release.
    #[arg(value_name = "VERDICT", num_args = 0..)]
    pub topic: Vec<String>,
}

/// `tcptrace check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Fail unless every hook is available, not only the needed one.
    #[arg(long)]
    pub strict: bool,
}

fn parse_terms<T: std::str::FromStr<Err: std::fmt::Display>>(
    text: &str,
) -> Result<Terms<T>, String> {
    text.parse()
}

fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(count) if count > 0 => Ok(count),
        Ok(_) | Err(_) => Err("expected a number of rows, 1 or more".to_owned()),
    }
}

fn parse_width(text: &str) -> Result<WidthChoice, String> {
    match text.parse() {
        _ if text == "auto" => Ok(WidthChoice::Auto),
        Ok(width) if width > 0 => Ok(WidthChoice::Fixed(width)),
        Ok(_) | Err(_) => Err("expected a number of characters, 1 or more, or auto".to_owned()),
    }
}

/// The columns by name: too many for the short help.
fn columns_help() -> String {
    let names: Vec<_> = Column::value_variants()
        .iter()
        .filter_map(ValueEnum::to_possible_value)
        .map(|value| value.get_name().to_owned())
        .collect();
    format!(
        "The columns of the table, a comma list. On a narrow terminal the usual ones become fewer; those \
         that are named here stay.\n\n[possible values: {}]",
        names.join(", ")
    )
}

fn parse_port(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        Ok(_) | Err(_) => {
            Err("expected a port from 1 to 65535, and a comma between two".to_owned())
        }
    }
}

/// An expression with something to capture.
fn parse_pattern(text: &str) -> Result<Regex, String> {
    let pattern = Regex::new(text).map_err(|error| error.to_string())?;
    if pattern.captures_len() < 2 {
        return Err("it captures nothing: the label goes between parentheses".to_owned());
    }
    Ok(pattern)
}

/// Where to listen: an address or a name of this host, and a port. Without the former it is all addresses.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let parts = text.rsplit_once(':');
    let parts = parts.and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let Some((host, port)) = parts.filter(|(host, _)| !host.contains([':', '[', ']'])) else {
        return Err(
            "expected an address and a port such as 127.0.0.1:9823, localhost:9823 or [::1]:9823, \
             or :9823 for all addresses"
                .to_owned(),
        );
    };
    if host.is_empty() {
        return Ok((Ipv6Addr::UNSPECIFIED, port).into());
    }
    let found = (host, port).to_socket_addrs();
    let found: Vec<_> = found
        .map_err(|error| format!("{host} cannot be resolved: {error}"))?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4());
    first
        .or(found.first())
        .copied()
        .ok_or_else(|| format!("{host} has no address"))
}

/// A number of bytes: `4096`, `64KiB`, `8M`.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let number: u64 = digits
        .parse()
        .map_err(|_| "expected a number of bytes such as 65536, 64KiB or 8MiB".to_owned())?;
    let factor = match &text[digits.len()..] {
        "" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1 << 30,
        unit => return Err(format!("the unit {unit:?} is not KiB, MiB or GiB")),
    };
    number
        .checked_mul(factor)
        .ok_or_else(|| "too large".to_owned())
}

fn parse_interval(text: &str) -> Result<Interval, String> {
    if text == "off" {
        return Ok(Interval(None));
    }
    match parse_duration(text)? {
        interval if interval >= Duration::from_secs(1) => Ok(Interval(Some(interval))),
        _ => Err("expected at least 1s, or off".to_owned()),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    // Whoever says a day means 24 hours.
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let duration = text
        .parse::<jiff::Span>()
        .and_then(|span| span.to_duration(days))
        .map_err(|_| "expected a duration such as 100ms, 30s, 5m, 1h or 1d".to_owned())?;
    match Duration::try_from(duration) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err("expected a duration longer than 0".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn addresses_are_told_as_other_exporters_take_them() {
        for (text, address) in [
            (":9823", "[::]:9823"),
            ("localhost:9823", "127.0.0.1:9823"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:1", "[::1]:1"),
        ] {
            assert_eq!(parse_address(text), Ok(address.parse().unwrap()), "{text}");
        }
        for (text, why) in [
            ("9823", "or :9823 for all addresses"),
            ("::1:9823", "or :9823 for all addresses"),
            (":98230", "or :9823 for all addresses"),
            ("no.host.invalid:1", "no.host.invalid cannot be resolved"),
        ] {
            let error = parse_address(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// What a screen of 100 columns shows.
    #[test]
    fn each_short_help_fits_a_screen() {
        let mut cli = Cli::command().term_width(100);
        cli.build();
        for command in cli.get_subcommands_mut() {
            let help = command.render_help().to_string();
            let lines = help.lines().count();
            assert!(lines <= 50, "{}: {lines} lines", command.get_name());
            let longest = help.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(100), "{help}");
        }
    }

    #[test]
    fn sizes_are_read_with_their_unit() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64KiB"), Ok(65_536));
        assert_eq!(parse_size("8M"), Ok(8 << 20));
        for wrong in [
            "",
            "KiB",
            "8MB2",
            "8 Mb",
            "-1",
            "99999999999999999999",
            "18446744073709551615G",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_interval_is_a_second_or_more_or_off() {
        assert_eq!(parse_interval("off"), Ok(Interval(None)));
        let second = Interval(Some(Duration::from_secs(1)));
        assert_eq!(parse_interval("1s"), Ok(second));
        for text in ["999ms", "0s", "", "never", "-1s"] {
            assert!(parse_interval(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_longer_than_nothing() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1d", 86_400), ("1h30m", 5_400)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
        }
        assert_eq!(parse_duration("100ms"), Ok(Duration::from_millis(100)));
        for wrong in ["", "0s", "-5s", "30", "soon"] {
            assert!(parse_duration(wrong).is_err(), "{wrong:?}");
        }
    }
}
