//! Events of a program's second copy that the first copy has told already.

use tcptrace_common::TcpState;

use super::{connections::Connections, vocabulary::Origin};
use crate::feed::event::{Body, Transition};

/// Whether the first copy has told this event: the second one comes directly after it, before
/// anything else of its socket.
pub(super) fn repeats(sockets: &Connections, at: Origin, body: &Body) -> bool {
    let held = sockets.store.get(at.socket);
    let ended = sockets.ended.get(at.socket, at.time);
    match body {
        Body::Transition(Transition { old, new, .. }) => match (*old, *new) {
            (_, TcpState::Listen) => sockets.listeners.contains(at.socket),
            (TcpState::Listen, TcpState::Close) => sockets.listeners.has_just_ceased(at.socket),
            (old, TcpState::Close) => {
                ended.is_some_and(|ended| ended.end_seen && ended.connection.state == old)
            }
            transition => held.is_some_and(|held| (held.followed.before, held.state) == transition),
        },
        Body::ResetReceived(_) => held.is_some_and(|held| held.resets.received),
        Body::ResetSent { .. } => {
            held.is_some_and(|held| held.resets.sent)
                || ended.is_some_and(|ended| ended.reset_after)
        }
        Body::Accept { .. }
        | Body::Timewait { .. }
        | Body::TimewaitStep { .. }
        | Body::SynackRetransmit(_)
        | Body::Seed(_)
        | Body::ConnectFailed(_)
        | Body::Held(_)
        | Body::Rename(_)
        | Body::Exit(_) => false,
    }
}
