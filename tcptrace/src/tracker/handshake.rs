//! Handshake times, each from the exact source for its kind of open, or none.

use super::connection::Connection;
use crate::feed::event::HandshakeFields;
use crate::tracker::vocabulary::{Completeness, HandshakeSource, Moment, Role};

/// Returns the duration, nanoseconds, and the source of a handshake that ended at `time`; `None`
/// when it is not known.
///
/// `syns_seen` tells whether sock_ops sees SYNs.
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
        // TCP_REPAIR restores a connection whose handshake took place elsewhere.
        return None;
    }
    match connection.role {
        // TCP_FASTOPEN_CONNECT: SYN_SENT begins at connect(), but the SYN leaves at the first send.
        Role::Active if fields.is_some_and(|fields| fields.fastopen_connect) => round_trip(fields),
        // From connect() to the SYN-ACK, SYN retransmits included.
        Role::Active | Role::Simultaneous => {
            since_opened().map(|took| (took, HandshakeSource::SynSent))
        }
        // A Fast Open child is created when its SYN-ACK is sent.
        Role::Passive if connection.handshake.fast_open == Some(true) => {
            since_opened().map(|took| (took, HandshakeSource::Synack))
        }
        Role::Passive => passive(connection, time, fields, syns_seen),
        Role::Unknown => None,
    }
}

/// Returns the time of a passive handshake. SYN_RECV→ESTABLISHED takes microseconds within one
/// function and is no handshake: the request or the SYN tells when it began.
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
        // Without a time it used a SYN cookie.
        let began = seen.synack_us?.saturating_mul(1000);
        let took = time.get().checked_sub(began)?;
        return Some((took, HandshakeSource::Synack));
    }
    // If the listener's TCP_DEFER_ACCEPT cannot be read, an ACK with data may have waited for it.
    if request.deferred.is_none() && fields.and_then(|fields| fields.last_ack_data) != Some(false) {
        return None;
    }
    if !syns_seen {
        return round_trip(fields);
    }
    // Without a SYN it used a SYN cookie, or the SYN came before the trace.
    let began = fields?.syn_ns?;
    let took = time.get().checked_sub(began)?;
    Some((took, HandshakeSource::SockOps))
}

/// Returns the first round-trip sample if it is the handshake's: nothing was retransmitted, and the
/// sample does not come from TCP timestamps. Those count whole milliseconds, and a SYN cookie's
/// sample comes from them, tens of milliseconds wrong (`cookie_init_timestamp`).
fn round_trip(fields: Option<&HandshakeFields>) -> Option<(u64, HandshakeSource)> {
    let fields = fields?;
    let exact = fields.retransmits == 0 && !fields.srtt_us.is_multiple_of(1000);
    exact.then(|| (u64::from(fields.srtt_us) * 1000, HandshakeSource::Srtt))
}
