//! The hooks, and how each is attached.

use std::fmt;

use tcptrace_common::{
    PROGRAM_RECEIVE_RESET, PROGRAM_SEND_RESET, PROGRAM_SET_STATE_BTF, PROGRAM_SET_STATE_CLASSIC,
    PROGRAMS_CONNECT, SECOND_COPIES,
};

/// A hook in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, strum::VariantArray)]
pub enum Hook {
    /// Every transition. The only hook that is required.
    SetState,
    /// A listener's child is created: how its handshake began.
    CreateChild,
    /// A SYN-ACK is retransmitted.
    RetransmitSynack,
    /// accept() returns a connection to a process.
    Accept,
    /// RSTs received.
    ReceiveReset,
    /// RSTs sent.
    SendReset,
    /// A timewait socket takes over.
    Timewait,
    /// Segments that reach a timewait socket.
    TimewaitProcess,
    /// connect() that fails inside the call.
    Connect,
    /// A listening process is renamed or exits.
    Process,
    /// A cgroup is created.
    Cgroup,
    /// The sockets that exist already.
    Sockets,
}

impl Hook {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// Returns the kernel's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SetState => "inet_sock_set_state",
            Self::CreateChild => "tcp_create_openreq_child",
            Self::RetransmitSynack => "tcp_retransmit_synack",
            Self::Accept => "inet_csk_accept",
            Self::ReceiveReset => "tcp_receive_reset",
            Self::SendReset => "tcp_send_reset",
            Self::Timewait => "inet_twsk_alloc",
            Self::TimewaitProcess => "tcp_timewait_state_process",
            Self::Connect => "tcp_v4_connect",
            Self::Process => "task_rename",
            Self::Cgroup => "cgroup_mkdir",
            Self::Sockets => "iter/tcp",
        }
    }

    /// Returns its purpose.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::SetState => "every state transition",
            Self::CreateChild => "when passive handshakes began",
            Self::RetransmitSynack => "SYN-ACK retransmits, by listener",
            Self::Accept => "how long connections wait for accept(), and who accepts them",
            Self::ReceiveReset => "RSTs that came in",
            Self::SendReset => "RSTs that went out",
            Self::Timewait => "the entry into TIME_WAIT",
            Self::TimewaitProcess => "FINs that arrive late, during FIN_WAIT2 or after it",
            Self::Connect => "connects that fail before a SYN is sent",
            Self::Process => "the names of listening processes, and their ends",
            Self::Cgroup => "the paths of cgroups that come and go",
            Self::Sockets => "connections that existed before",
        }
    }

    /// Returns what is missing or weaker without it.
    pub const fn consequence(self) -> &'static str {
        match self {
            Self::SetState => "nothing can be traced",
            Self::CreateChild => {
                "passive handshakes are timed by their round trip, where it is exact, up to Linux 6.14 (handshake_source srtt), and not at all on later kernels"
            }
            Self::RetransmitSynack => "a handshake that hangs is not seen at the listener",
            Self::Accept => {
                "no accept wait, and passive connections are their listener's (pid_source listen or address)"
            }
            Self::ReceiveReset => {
                "a refused connect cannot be told from an ICMP error (verdict unknown)"
            }
            Self::SendReset => {
                "data after close cannot be told from a RST (verdict unknown where it matters)"
            }
            Self::Timewait => {
                "TIME_WAIT is known from the socket's last flags only (time_wait_source flags)"
            }
            Self::TimewaitProcess => {
                "the peer's late FIN is looked up by sock_diag, for a bounded number of connections (time_wait_source sock_diag)"
            }
            Self::Connect => {
                "a connect that fails before a SYN is sent leaves no trace: no route, or forbidden by a policy"
            }
            Self::Process => {
                "a listener's process has the name that it listened by, and may be gone (pid_source listen)"
            }
            Self::Cgroup => {
                "the path of a cgroup is looked up when its first socket is told, and it may be gone by then"
            }
            Self::Sockets => {
                "connections that existed before are seen only at their next transition"
            }
        }
    }

    /// Returns what is weaker with this source; `None` when nothing is.
    pub const fn weakness(self, source: Source) -> Option<&'static str> {
        match (self, source) {
            (Self::CreateChild, Source::SockOps) => Some(
                "passive handshakes are timed from the SYN instead (handshake_source sock_ops)",
            ),
            (Self::Accept, Source::Tracepoint) => Some(
                "accepts are seen when the system call returns, for which the kernel takes a slower way through every system call; those by io_uring are not seen",
            ),
            (Self::Connect, Source::Tracepoint) => Some(
                "failed connects are seen when the system call returns, for which the kernel takes a slower way through every system call; those by io_uring, and those of a socket that has sent a SYN before, are not seen",
            ),
            (Self::Sockets, Source::SockDiag) => Some(
                "connections that existed before are told by their cookies; one whose end was lost is found out only the second time that it is not listed",
            ),
            _ => None,
        }
    }
}

/// How a hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Source {
    /// A BTF-enabled raw tracepoint.
    TpBtf,
    /// The classic tracepoint, with socket fields read at BTF's offsets.
    Tracepoint,
    /// The classic tracepoint's record alone, without BTF.
    TracepointOnly,
    /// The entry of a function.
    Fentry,
    /// The exit of a function.
    Fexit,
    /// A sock_ops program at the root cgroup.
    SockOps,
    /// An iterator over sockets, run on request.
    Iter,
    /// No program: the kernel's own list of sockets.
    SockDiag,
}

impl Source {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// How a hook is attached, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStatus {
    pub hook: Hook,
    /// How it is attached, or why not.
    pub attached: Result<Source, String>,
    /// Why it is not attached in a better way.
    pub better: Option<String>,
}

/// What must not be used though it is available: an optional hook, or a way to attach optional
/// hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exclusion {
    /// A hook, whatever its source.
    Hook(Hook),
    /// A source, for all optional hooks.
    Source(Source),
}

impl Exclusion {
    /// Returns every possible exclusion.
    pub fn all() -> impl Iterator<Item = Self> {
        let hooks = Hook::ALL
            .iter()
            .copied()
            .filter(|&hook| hook != Hook::SetState)
            .map(Self::Hook);
        let sources = Source::ALL
            .iter()
            .copied()
            .filter(|&source| source != Source::TracepointOnly)
            .map(Self::Source);
        hooks.chain(sources)
    }

    /// Returns its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hook(hook) => hook.name(),
            Self::Source(source) => source.name(),
        }
    }
}

impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Exclusion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::all()
            .find(|exclusion| exclusion.name() == text)
            .ok_or_else(|| {
                let names: Vec<_> = Self::all().map(Self::name).collect();
                format!(
                    "not a hook or a source; expected one of {}",
                    names.join(", ")
                )
            })
    }
}

/// The system calls of [`tcptrace_common::PROGRAMS_ACCEPT_EXIT`].
pub(super) const ACCEPT_CALLS: [&str; 2] = ["sys_exit_accept", "sys_exit_accept4"];

/// The second tracepoint of [`Hook::Process`].
pub(super) const PROCESS_EXIT: &str = "sched_process_exit";

/// The functions entered or left, with the iterators' own.
pub(super) const FUNCTIONS: [&str; 11] = [
    Hook::CreateChild.name(),
    Hook::Accept.name(),
    Hook::Timewait.name(),
    Hook::TimewaitProcess.name(),
    "bpf_iter_tcp",
    "bpf_iter_task_file",
    PROGRAMS_CONNECT[0].0,
    PROGRAMS_CONNECT[1].0,
    PROGRAMS_CONNECT[2].0,
    PROGRAMS_CONNECT[3].0,
    PROGRAMS_CONNECT[4].0,
];

pub(super) const TRACEPOINTS: [&str; 7] = [
    Hook::SetState.name(),
    Hook::RetransmitSynack.name(),
    Hook::ReceiveReset.name(),
    Hook::SendReset.name(),
    Hook::Process.name(),
    PROCESS_EXIT,
    Hook::Cgroup.name(),
];

/// Returns the ways to attach an optional hook, best first.
pub(super) const fn ways(hook: Hook) -> &'static [Source] {
    match hook {
        Hook::SetState => &[],
        Hook::CreateChild => &[Source::Fentry, Source::SockOps],
        Hook::Accept | Hook::Connect => &[Source::Fexit, Source::Tracepoint],
        Hook::RetransmitSynack
        | Hook::ReceiveReset
        | Hook::SendReset
        | Hook::Process
        | Hook::Cgroup => &[Source::TpBtf],
        Hook::Timewait | Hook::TimewaitProcess => &[Source::Fexit],
        Hook::Sockets => &[Source::Iter, Source::SockDiag],
    }
}

/// Returns the program of a reset hook. It has a second copy, because the absence of a reset is
/// evidence.
pub(super) const fn reset_program(hook: Hook) -> Option<&'static str> {
    match hook {
        Hook::ReceiveReset => Some(PROGRAM_RECEIVE_RESET),
        Hook::SendReset => Some(PROGRAM_SEND_RESET),
        Hook::SetState
        | Hook::CreateChild
        | Hook::RetransmitSynack
        | Hook::Accept
        | Hook::Timewait
        | Hook::TimewaitProcess
        | Hook::Process
        | Hook::Cgroup
        | Hook::Connect
        | Hook::Sockets => None,
    }
}

/// The programs of [`Hook::SetState`].
pub(super) const TRANSITIONS: [&str; 3] = [
    PROGRAM_SET_STATE_BTF,
    SECOND_COPIES[0].1,
    PROGRAM_SET_STATE_CLASSIC,
];
