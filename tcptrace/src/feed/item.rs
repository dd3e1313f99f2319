//! The items of a feed: the same from the kernel and from a file.

use super::event::Event;
use crate::feed::name::Name;

/// What the tracker takes, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Event(Event),
    /// The name of a number that the next event may contain.
    Name(Name),
    /// Events were lost, at some point since the last [`Item::Time`].
    Loss {
        events: u64,
        place: LossPlace,
        /// The kind of the events; `None` if not known.
        kind: Option<EventKind>,
    },
    /// A hook was attached or detached while the others went on.
    Hook {
        witness: EvidenceHook,
        /// Attached from then on; otherwise detached.
        attached: bool,
        /// When, on the events' clock, nanoseconds.
        time_ns: u64,
    },
    /// Everything before this moment of the events' clock, nanoseconds, was reported, losses
    /// included.
    Time(u64),
}

/// A hook whose silence is evidence while it is attached: it would have reported the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::VariantArray)]
pub enum EvidenceHook {
    /// `tcp_receive_reset`.
    ResetReceived,
    /// `tcp_send_reset`.
    ResetSent,
    /// sock_ops, which sees SYNs.
    Syn,
    /// `inet_twsk_alloc`.
    Timewait,
    /// `tcp_timewait_state_process`.
    TimewaitStep,
}

impl EvidenceHook {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;
}

/// The kind of a lost event.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, strum::IntoStaticStr, strum::VariantArray, serde::Serialize,
)]
#[strum(serialize_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    Transition,
    /// A RST, received or sent.
    Reset,
    Accept,
    /// A timewait socket, or a segment that reached one.
    Timewait,
    /// A SYN-ACK retransmit.
    SynackRetransmit,
    /// A socket found by a walk.
    Seed,
    /// A listening process's new name or exit.
    Process,
    /// A request or a SYN.
    Handshake,
    /// A failed connect().
    Connect,
    Cgroup,
}

impl EventKind {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

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
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum LossPlace {
    /// The ring was full.
    Ring,
    /// The kernel skipped the program.
    Kernel,
    /// The ring's bytes could not be decoded.
    Decode,
    /// A capture could not be written fast enough.
    Capture,
}

impl LossPlace {
    pub const ALL: &[Self] = <Self as strum::VariantArray>::VARIANTS;

    pub fn name(self) -> &'static str {
        self.into()
    }
}
