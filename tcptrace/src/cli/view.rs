//! What to show and how: the arguments of `tail` and `replay`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::{
    HELP,
    netns::NetnsArg,
    trace::ProbeArgs,
    values::{WidthChoice, parse_count, parse_duration, parse_terms, parse_width},
};
use crate::{
    output::{
        render::{Column, Format},
        view::terms::{
            CgroupTerm, CidrTerm, CommTerm, ContainerTerm, PidTerm, PortTerm, StateTerm, Terms,
        },
    },
    tracker::{Role, Verdict},
};

/// Which connections to show. Each takes a comma list; a leading `!` means none of these.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Filters (a comma list; a leading ! means none of these)")]
pub struct FilterArgs {
    /// Either port: 443 or 8000-8099.
    #[arg(long, value_name = "PORTS", value_parser = parse_terms::<PortTerm>)]
    pub port: Option<Terms<PortTerm>>,

    /// The local port.
    #[arg(long, value_name = "PORTS", value_parser = parse_terms::<PortTerm>)]
    pub local_port: Option<Terms<PortTerm>>,

    /// The remote port.
    #[arg(long, value_name = "PORTS", value_parser = parse_terms::<PortTerm>)]
    pub remote_port: Option<Terms<PortTerm>>,

    /// Either address: 10.0.0.0/8, 192.0.2.7, 2001:db8::/32.
    #[arg(long, value_name = "NETS", value_parser = parse_terms::<CidrTerm>)]
    pub cidr: Option<Terms<CidrTerm>>,

    /// The process.
    #[arg(long, value_name = "PIDS", value_parser = parse_terms::<PidTerm>)]
    pub pid: Option<Terms<PidTerm>>,

    /// The process's name.
    ///
    /// The kernel keeps 15 bytes of it. Write `\,` for a comma in it.
    #[arg(long, value_name = "NAMES", value_parser = parse_terms::<CommTerm>)]
    pub comm: Option<Terms<CommTerm>>,

    /// active, passive, simultaneous or unknown.
    #[arg(long, value_name = "ROLES", value_parser = parse_terms::<Role>)]
    pub role: Option<Terms<Role>>,

    /// The network namespace: inode number, name or path.
    ///
    /// `lsns -t net` shows inode numbers, `ip netns` names.
    #[arg(long, value_name = "NAMESPACES", value_parser = parse_terms::<NetnsArg>)]
    pub netns: Option<Terms<NetnsArg>>,

    /// The socket's cgroup: a path, or a name such as nginx.service.
    ///
    /// The cgroup that the socket was made in, or one that contains it: a path includes everything
    /// below it.
    #[arg(long, value_name = "CGROUPS", value_parser = parse_terms::<CgroupTerm>)]
    pub cgroup: Option<Terms<CgroupTerm>>,

    /// The container: its id or the beginning of its id.
    #[arg(long, value_name = "IDS", value_parser = parse_terms::<ContainerTerm>)]
    pub container: Option<Terms<ContainerTerm>>,

    /// Why it ended: refused, reset_received … (see explain).
    #[arg(long, value_name = "VERDICTS", value_parser = parse_terms::<Verdict>)]
    pub verdict: Option<Terms<Verdict>>,

    /// Rows that show these states.
    ///
    /// A row shows the state entered, or for an ended connection the state left.
    #[arg(long, value_name = "STATES", value_parser = parse_terms::<StateTerm>)]
    pub state: Option<Terms<StateTerm>>,

    /// Never established.
    #[arg(long)]
    pub failed: bool,

    /// Handshake or accept wait at least this long: 100ms.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub slow: Option<Duration>,

    /// The handshake took at least this long.
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    pub min_handshake: Option<Duration>,

    /// The connection lived at least this long.
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
    /// transitions: every change of state, also of listeners. handshakes: connections as they are
    /// established. connections: connections as they end. releases: what became of TIME_WAIT after
    /// that, and the peer's late FIN. By default handshakes and connections are shown, in a diagram
    /// only connections, and with --summary nothing else.
    #[arg(
        long,
        value_enum,
        value_name = "ROWS",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub show: Vec<Show>,

    /// Print a row with sums at this interval: 10s.
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

    /// local or utc time of day, relative to the first row, or epoch seconds.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = TimeChoice::Local, hide_possible_values = true)]
    pub time: TimeChoice,

    /// Show addresses by name, without waiting for one.
    ///
    /// Threads of their own ask the host's resolver: the first lines of an address show it as a
    /// number. Names are kept until the end.
    #[arg(long)]
    pub resolve: bool,

    /// Show ports as numbers, not by their well-known names.
    #[arg(short, long)]
    pub numeric: bool,

    /// The longest line of a table: auto is the terminal's width.
    ///
    /// If the output is no terminal, auto means no limit.
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
#[command(help_template = HELP, after_help = "\
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

/// The rows of a tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Show {
    /// Every state transition, also of listeners.
    Transitions,
    /// Connections as they are established.
    Handshakes,
    /// Connections as they end.
    Connections,
    /// What became of TIME_WAIT after that, and the peer's late FIN.
    #[value(alias = "release")]
    Releases,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TimeChoice {
    Local,
    Utc,
    Relative,
    Epoch,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    Auto,
    Always,
    Never,
}

/// `tcptrace replay`.
#[derive(Clone, Debug, Args)]
#[command(help_template = HELP, after_help = "\
Examples:
  tcptrace replay file.cap --format diagram --verdict reset_received
  tcptrace replay file.cap --format json | jq -s 'group_by(.verdict) | map({(.[0].verdict // \"open\"): length})'")]
pub struct ReplayArgs {
    /// A file that `tcptrace capture` wrote; - is standard input.
    pub file: PathBuf,

    #[command(flatten)]
    pub view: ViewArgs,

    /// The most connections to track; past that, the one unchanged for longest is evicted.
    #[arg(long, value_name = "N", default_value_t = 262_144, value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    pub max_connections: u32,
}

/// Returns the help of `--columns`, with their names: too many for the short help.
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
