//! The kernel's own list of TCP sockets (`sock_diag`), in every network namespace that can be
//! found: what is there already when tracing begins, and whether a connection is still there.
//!
//! It asks and never changes anything (no SOCK_DESTROY), and knows nothing of events.

mod entry;
mod message;
mod socket;

pub use self::{
    entry::{DiagSocket, Family, Tuple},
    socket::Diag,
};
pub use crate::host::netns::Namespace;
