//! When the steps of a connection took place, as far as its record tells.

use jiff::Timestamp;
use tcptrace_common::TcpState;

use crate::{
    output::record::ConnectionRecord,
    tracker::{HandshakeSource, Role},
};

/// The times of a connection's steps, microseconds since `first`; absent if not known.
pub(super) struct Moments {
    /// What the others are counted from.
    pub(super) first: Option<Timestamp>,
    pub(super) established: Option<u64>,
    /// The first FIN, or the end without one.
    pub(super) first_fin: Option<u64>,
    /// The second FIN, if the full socket saw it.
    pub(super) second_fin: Option<u64>,
    pub(super) fin_acked: Option<u64>,
    pub(super) closed: Option<u64>,
}

impl Moments {
    pub(super) fn new(body: &ConnectionRecord) -> Self {
        // A passive handshake ends when its socket is made; it began `took` earlier.
        let took = match body.handshake.handshake_source {
            Some(HandshakeSource::SockOps | HandshakeSource::Synack) => body.handshake.handshake_us,
            Some(HandshakeSource::SynSent | HandshakeSource::Srtt) | None => None,
        };
        let began = match (body.role(), body.established_at, took) {
            (Role::Passive, Some(established), Some(took)) => {
                i64::try_from(took).ok().and_then(|took| {
                    established
                        .checked_sub(jiff::SignedDuration::from_micros(took))
                        .ok()
                })
            }
            (Role::Passive, established, None) => established,
            _ => body.opened_at,
        };
        let first = began.or(body.established_at);
        let since = |time: Option<Timestamp>| {
            let micros = time?.duration_since(first?).as_micros();
            u64::try_from(micros).ok()
        };
        let established = since(body.established_at);
        let closed = since(body.closed_at);
        let plus = |start: Option<u64>, took: Option<u64>| start?.checked_add(took?);
        let minus = |end: Option<u64>, took: Option<u64>| end?.checked_sub(took?);
        let first_fin = plus(established, body.established_us);
        let second_fin = if body.last_state == TcpState::LastAck {
            minus(closed, body.last_ack_us)
        } else {
            plus(first_fin, body.half_closed_us)
        };
        Self {
            first,
            established,
            first_fin,
            second_fin,
            fin_acked: minus(second_fin, body.fin_wait2_us),
            closed,
        }
    }
}
