//! What the tracker has to say.

use tcptrace_common::TcpState;

use super::{
    connection::Connection, ended::Ended, listener::Listener, time_wait::release::Release,
    vocabulary::Moment,
};
use crate::feed::{event::Endpoints, item::LossPlace};

/// What the tracker has to say of an item that it took.
#[derive(Clone, Debug)]
pub enum Update {
    /// A connection entered the tracker: its attempt, or in mid-life.
    Entered(Connection),
    /// A connection changed its state; `connection` is as it is after that.
    Transition {
        /// Whose.
        connection: Connection,
        /// The state left.
        from: TcpState,
        /// The state entered.
        to: TcpState,
        /// When.
        time: Moment,
        /// How long the state left was held, nanoseconds; `None` when its beginning was not seen.
        in_state_ns: Option<u64>,
    },
    /// A transition that no kernel path makes, of a socket that is not known: an anomaly, of which
    /// nothing else will be said.
    Stray {
        /// What the event said of the socket; it is not tracked.
        connection: Connection,
        /// The state left.
        from: TcpState,
        /// The state entered.
        to: TcpState,
        /// When.
        time: Moment,
    },
    /// A connection reached ESTABLISHED (or a later state without it).
    Established(Connection),
    /// accept() returned a connection whose wait for it is known thereby.
    Accepted(Connection),
    /// A connection is over and its grace as well: its one record.
    Ended(Ended),
    /// What was learnt of a connection after its record.
    Released(Release),
    /// A connection was given up for lack of room.
    Evicted(Connection),
    /// The kernel acted on a RST from the peer, or sent one itself.
    Reset {
        /// It was sent.
        sent: bool,
        /// Why, where the kernel tells: `enum sk_rst_reason` of that kernel.
        reason: Option<u32>,
    },
    /// A listener's SYN-ACK was sent again.
    SynackRetransmit(Endpoints),
    /// A socket began or ceased to listen.
    Listener {
        /// Which.
        listener: Listener,
        /// It began; otherwise it ceased.
        began: bool,
        /// When.
        time: Moment,
    },
    /// Events were lost before this point.
    Lost {
        /// How many.
        events: u64,
        /// Where.
        place: LossPlace,
    },
}
