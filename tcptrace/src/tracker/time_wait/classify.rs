//! Whether a connection entered TIME_WAIT, which never shows as a state: the kernel moves it to a
//! socket of another kind.
//!
//! A timewait socket begins in TIME_WAIT if the peer's FIN reached the full socket, and in
//! FIN_WAIT2 if we closed first and the peer has not yet: the usual case. That FIN then makes no
//! transition. What is learnt after the connection's record is a `Release`.

use tcptrace_common::TcpState;

use super::release::{TimeWaitEntry, TimeWaitSource};
use crate::feed::event::CloseFields;
use crate::tracker::{connection::Allocation, ended::Ended, verdict::errno};

/// Returns whether TIME_WAIT was entered, as far as the full socket's end tells. `alloc_seen` tells
/// that an allocation would have been seen.
pub(in crate::tracker) fn at_close(ended: &Ended, alloc_seen: bool) -> Option<TimeWaitEntry> {
    const ENTERED: Option<TimeWaitEntry> = Some(TimeWaitEntry::entered(TimeWaitSource::TwskAlloc));
    const NOT_ENTERED: Option<TimeWaitEntry> =
        Some(TimeWaitEntry::not_entered(TimeWaitSource::TwskAlloc));
    if ended.late_fin.is_some() {
        return ENTERED;
    }
    match ended.connection.closing.timewait {
        Some(Allocation { timewait: None, .. }) => NOT_ENTERED,
        Some(Allocation {
            awaits_fin: true, ..
        }) => None,
        Some(Allocation {
            awaits_fin: false, ..
        }) => ENTERED,
        None if alloc_seen => NOT_ENTERED,
        None if !ended.end_seen => None,
        None => by_flags(ended).map(|entered| TimeWaitEntry {
            entered,
            source: TimeWaitSource::Flags,
        }),
    }
}

/// Whether TIME_WAIT was entered, if there was room for it.
fn had_room(fields: &CloseFields) -> Option<bool> {
    (!fields.time_wait_full).then_some(true)
}

/// The classifier that needs no hook: what `tcp_fin` and `tcp_rcv_state_process` do in each state.
fn by_flags(ended: &Ended) -> Option<bool> {
    match ended.connection.state {
        TcpState::FinWait2 => {
            let fields = ended.fields?;
            if fields.peer_fin {
                had_room(&fields)
            } else {
                // Replaced by a timewait socket in FIN_WAIT2, or ended by something else.
                (!ended.may_be_swapped(&fields)).then_some(false)
            }
        }
        TcpState::Closing => {
            let fields = ended.fields?;
            if fields.error != errno::ECONNRESET && fields.unacknowledged == 0 {
                had_room(&fields)
            } else {
                Some(false)
            }
        }
        TcpState::FinWait1 => {
            let fields = ended.fields?;
            (fields.error != 0 || !fields.dead).then_some(false)
        }
        TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::Established
        | TcpState::CloseWait
        | TcpState::LastAck => Some(false),
        TcpState::TimeWait | TcpState::Close | TcpState::Listen | TcpState::NewSynRecv => None,
    }
}
