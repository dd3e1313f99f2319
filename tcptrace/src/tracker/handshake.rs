//! How long a handshake took, and how we know: for each kind of open the source that is exact, and
//! none where no source is.

use super::connection::Connection;
use crate::feed::event::HandshakeFields;
use crate::tracker::vocabulary::{Completeness, HandshakeSource, Moment, Role};

/// Nanoseconds and source of a handshake that is over at `time`; `None` when it cannot be known.
///
/// `syns_seen` says whether sock_ops watches SYNs.
pub(super) fn measure(
    connection: &Connection,
    time: Moment,
    fields: Option<&HandshakeFields>,
    syns_seen: bool,
) -> Option<(u64, HandshakeSource)> {
    if connection.completeness != Completeness::Full {
        return None;
    }
    let since_opened = || {
        let opened = connection.handshake.opened?;
        time.get().checked_sub(opened.get())
    };
    if fields.is_some_and(|fields| fields.repair) {
        // TCP_REPAIR restores a connection whose handshake was elsewhere.
        return None;
    }
    match connection.role {
        // TCP_FASTOPEN_CONNECT: SYN_SENT begins at connect(), the SYN leaves at the first send.
        Role::Active if fields.is_some_and(|fields| fields.fastopen_connect) => round_trip(fields),
        // connect() to the SYN-ACK, retransmits of the SYN included.
        Role::Active | Role::Simultaneous => {
            since_opened().map(|took| (took, HandshakeSource::SynSent))
        }
        // A Fast Open child is made when its SYN-ACK is sent.
        Role::Passive if connection.handshake.fast_open == Some(true) => {
            since_opened().map(|took| (took, HandshakeSource::Synack))
        }
        Role::Passive => passive(connection, time, fields, syns_seen),
        Role::Unknown => None,
    }
}

/// SYN_RECV→ESTABLISHED are microseconds within one function, not a handshake: when it began is
/// known from the request, or from the SYN.
fn passive(
    connection: &Connection,
    time: Moment,
    fields: Option<&HandshakeFields>,
    syns_seen: bool,
) -> Option<(u64, HandshakeSource)> {
    let request = &connection.handshake.request;
    if request.deferred == Some(true) {
        return None;
    }
    if let Some(seen) = request.seen {
        // Without a time it was a SYN cookie's.
        let began = seen.synack_us?.saturating_mul(1000);
        let took = time.get().checked_sub(began)?;
        return Some((took, HandshakeSource::Synack));
    }
    // Where the listener's TCP_DEFER_ACCEPT cannot be read, an ACK that carries data may have
    // waited for it.
    if request.deferred.is_none() && fields.and_then(|fields| fields.last_ack_data) != Some(false) {
        return None;
    }
    if !syns_seen {
        return round_trip(fields);
    }
    // Without a SYN it was a SYN cookie's, or one from before we looked.
    let began = fields?.syn_ns?;
    let took = time.get().checked_sub(began)?;
    Some((took, HandshakeSource::SockOps))
}

/// The first sample of the round trip, where it is the handshake's: when nothing was sent again,
/// and it was not taken from TCP time stamps. Those count whole milliseconds, and are what a SYN
/// cookie's sample comes from, tens of milliseconds wrong (`cookie_init_timestamp`).
fn round_trip(fields: Option<&HandshakeFields>) -> Option<(u64, HandshakeSource)> {
    let fields = fields?;
    let exact = fields.retransmits == 0 && !fields.srtt_us.is_multiple_of(1000);
    exact.then(|| (u64::from(fields.srtt_us) * 1000, HandshakeSource::Srtt))
}
