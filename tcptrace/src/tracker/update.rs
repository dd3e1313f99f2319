//! What the tracker reports.

use tcptrace_common::TcpState;

use super::{
    connection::Connection, ended::Ended, listener::Listener, time_wait::release::Release,
    vocabulary::Moment,
};
use crate::feed::{event::Endpoints, item::LossPlace};

/// What follows from an item.
#[derive(Clone, Debug)]
pub enum Update {
    /// A connection is held from now on: at its beginning, or first seen later.
    Entered(Connection),
    /// A connection changed its state; `connection` is as it is afterwards.
    Transition {
        connection: Connection,
        from: TcpState,
        to: TcpState,
        time: Moment,
        /// How long the state left was held, nanoseconds; `None` if its beginning was not seen.
        in_state_ns: Option<u64>,
    },
    /// An impossible transition of a socket that is not held: an anomaly, reported only here.
    Stray {
        /// What the event told of the socket.
        connection: Connection,
        from: TcpState,
        to: TcpState,
        time: Moment,
    },
    /// A connection reached ESTABLISHED, or a later state without it.
    Established(Connection),
    /// accept() returned a connection, so that its accept wait is known.
    Accepted(Connection),
    /// A connection's record is settled.
    Ended(Ended),
    /// More was learnt of a connection after its record.
    Released(Release),
    /// A connection was evicted for lack of room.
    Evicted(Connection),
    /// The kernel acted on a RST from the peer, or sent one itself.
    Reset {
        /// Sent by this host; otherwise received.
        sent: bool,
        /// Why it was sent: `enum sk_rst_reason` of the running kernel, if it tells.
        reason: Option<u32>,
    },
    /// A listener's SYN-ACK was retransmitted.
    SynackRetransmit(Endpoints),
    /// A socket began or stopped listening.
    Listener {
        listener: Listener,
        began: bool,
        time: Moment,
    },
    /// Events were lost before this point.
    Lost { events: u64, place: LossPlace },
}
