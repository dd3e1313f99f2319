//! TIME_WAIT: whether a connection entered it, which connections wait for the peer's FIN before it,
//! and which are in it.

pub(super) mod classify;
pub(super) mod follow;
pub(super) mod release;
pub(super) mod sockets;
pub(super) mod waiting;
