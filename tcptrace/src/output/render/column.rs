//! The columns of a table and their names.

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Column {
    Time,
    Process,
    Role,
    Local,
    Remote,
    What,
    Took,
    Notes,
    Verdict,
    Handshake,
    AcceptWait,
    Duration,
    Sent,
    Received,
    Retransmits,
    Rtt,
    ClosedBy,
    Netns,
    Uid,
    Cgroup,
    Container,
    Pod,
    Unit,
    Interface,
    Id,
}

impl Column {
    /// The columns shown when none are chosen.
    pub const DEFAULT: [Self; 8] = [
        Self::Time,
        Self::Process,
        Self::Role,
        Self::Local,
        Self::Remote,
        Self::What,
        Self::Took,
        Self::Notes,
    ];

    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::Time => "TIME",
            Self::Process => "PROCESS",
            Self::Role => "ROLE",
            Self::Local => "LOCAL",
            Self::Remote => "REMOTE",
            Self::What => "WHAT",
            Self::Took => "TOOK",
            Self::Notes => "NOTES",
            Self::Verdict => "VERDICT",
            Self::Handshake => "HANDSHAKE",
            Self::AcceptWait => "ACCEPT",
            Self::Duration => "DURATION",
            Self::Sent => "SENT",
            Self::Received => "RECEIVED",
            Self::Retransmits => "RETRANS",
            Self::Rtt => "RTT",
            Self::ClosedBy => "CLOSED BY",
            Self::Netns => "NETNS",
            Self::Uid => "UID",
            Self::Cgroup => "CGROUP",
            Self::Container => "CONTAINER",
            Self::Pod => "POD",
            Self::Unit => "UNIT",
            Self::Interface => "INTERFACE",
            Self::Id => "ID",
        }
    }
}
