//! TIME_WAIT: whether a connection entered it, who waits for the peer's FIN before it, and who is in it.

pub(super) mod classify;
pub(super) mod follow;
pub(super) mod release;
pub(super) mod residents;
pub(super) mod waiting;
