//! The places in the kernel that are listened to, and what became of each.

/// A place in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Every transition. Nothing works without it.
    SetState,
    /// RSTs that came in.
    ReceiveReset,
    /// RSTs that go out.
    SendReset,
}

impl Hook {
    /// Every hook, the needed one first.
    pub const ALL: [Self; 3] = [Self::SetState, Self::ReceiveReset, Self::SendReset];

    /// The kernel's name of it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SetState => "inet_sock_set_state",
            Self::ReceiveReset => "tcp_receive_reset",
            Self::SendReset => "tcp_send_reset",
        }
    }

    /// What it is for.
    #[must_use]
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::SetState => "every state transition",
            Self::ReceiveReset => "RSTs that came in",
            Self::SendReset => "RSTs that went out",
        }
    }

    /// What is missing without it.
    #[must_use]
    pub const fn consequence(self) -> &'static str {
        match self {
            Self::SetState => "nothing can be traced",
            Self::ReceiveReset => {
                "a refused connect cannot be told from an ICMP error (verdict unknown)"
            }
            Self::SendReset => {
                "data after close cannot be told from a RST (verdict unknown where it matters)"
            }
        }
    }
}

/// How a hook is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A BTF-enabled raw tracepoint.
    TpBtf,
    /// The classic tracepoint, with socket fields read at the offsets that BTF gave.
    Tracepoint,
    /// The classic tracepoint's record and no more, for there is no BTF.
    TracepointOnly,
}

impl Source {
    /// As printed and as a label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::TracepointOnly => "tracepoint_only",
        }
    }
}

/// What became of a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookStatus {
    /// Which.
    pub hook: Hook,
    /// How it is attached; `Err` says why it is not.
    pub attached: Result<Source, String>,
}
