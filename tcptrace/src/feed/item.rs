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
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
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
    /// Every value, in order.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;
}

/// What a lost event would have told.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray, serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
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
    /// Every value, in order.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As a label.
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Where events are lost.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray, serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
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
    /// Every value, in order.
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    /// As printed.
    pub fn name(self) -> &'static str {
        self.into()
    }
}
