//! What a feed consists of: the same from the kernel and from a file.

use super::{event::Event, names::Name};

/// What the tracker is fed with, in true order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Something happened.
    Event(Event),
    /// The name of something that the next event may tell by its number.
    Name(Name),
    /// Events were lost, somewhere since the last [`Item::Time`].
    Loss {
        /// How many.
        events: u64,
        /// Where.
        place: LossPlace,
        /// Of which kind they were; `None` when that is not known.
        kind: Option<EventKind>,
    },
    /// A hook was attached or detached while the others went on.
    Hook {
        /// Which.
        witness: Witness,
        /// It is attached from then on, and not any more otherwise.
        attached: bool,
        /// When, on the events' clock, nanoseconds.
        time_ns: u64,
    },
    /// Everything that happened before this moment of the events' clock, nanoseconds, has been
    /// told, and what was lost of it too.
    Time(u64),
}

/// A hook whose silence is evidence while it is attached: had the thing happened, it would have
/// been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// `tcp_receive_reset`.
    ResetReceived,
    /// `tcp_send_reset`.
    ResetSent,
    /// sock_ops, which watches SYNs.
    Syn,
    /// `inet_twsk_alloc`.
    Timewait,
    /// `tcp_timewait_state_process`.
    TimewaitStep,
}

impl Witness {
    /// Every witness, in their order.
    pub const ALL: [Self; 5] = [
        Self::ResetReceived,
        Self::ResetSent,
        Self::Syn,
        Self::Timewait,
        Self::TimewaitStep,
    ];
}

/// What a lost event would have told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A transition.
    Transition,
    /// A RST, received or sent.
    Reset,
    /// An accept().
    Accept,
    /// A timewait socket, or what came to it.
    Timewait,
    /// A SYN-ACK sent again.
    SynackRetransmit,
    /// A socket that is there.
    Seed,
    /// A listening process's new name, or its end.
    Process,
    /// What is known of a request or a SYN.
    Handshake,
    /// A failed connect().
    Connect,
    /// The path of a new cgroup.
    Cgroup,
}

impl EventKind {
    /// Every kind, in their order.
    pub const ALL: [Self; 10] = [
        Self::Transition,
        Self::Reset,
        Self::Accept,
        Self::Timewait,
        Self::SynackRetransmit,
        Self::Seed,
        Self::Process,
        Self::Handshake,
        Self::Connect,
        Self::Cgroup,
    ];

    /// As a label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transition => "transition",
            Self::Reset => "reset",
            Self::Accept => "accept",
            Self::Timewait => "timewait",
            Self::SynackRetransmit => "synack_retransmit",
            Self::Seed => "seed",
            Self::Process => "process",
            Self::Handshake => "handshake",
            Self::Connect => "connect",
            Self::Cgroup => "cgroup",
        }
    }
}

/// Where events are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossPlace {
    /// The ring was full.
    Ring,
    /// The kernel skipped the program.
    Kernel,
    /// What the ring held was no event.
    Decode,
    /// A capture could not be written as fast as they came.
    Capture,
}

impl LossPlace {
    /// Every place, in their order.
    pub const ALL: [Self; 4] = [Self::Ring, Self::Kernel, Self::Decode, Self::Capture];

    /// As printed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Kernel => "kernel",
            Self::Decode => "decode",
            Self::Capture => "capture",
        }
    }
}
