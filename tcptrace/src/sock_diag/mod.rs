//! A client of the kernel's `sock_diag`, which lists TCP sockets: those that exist when tracing
//! begins, and whether a connection still exists.
//!
//! It asks and never changes anything (no SOCK_DESTROY), and knows nothing of events.

mod diag;
mod entry;
mod message;

/// Reads the replies of one recv().
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz(bytes: &[u8]) {
    // Each message has a head.
    assert!(message::Messages(bytes).count() <= 1 + bytes.len() / 12);
}

pub use self::entry::{DiagFamily, DiagSocket, Tuple};
pub use crate::host::netns::Namespace;
pub use crate::sock_diag::diag::Diag;
