//! A client of the kernel's `sock_diag`, which lists TCP sockets: those that exist when tracing
//! begins, and whether a connection still exists.
//!
//! It asks and never changes anything (no SOCK_DESTROY), and knows nothing of events.

mod diag;
mod entry;
mod message;

pub use self::entry::{DiagFamily, DiagSocket, Tuple};
pub use crate::host::netns::Namespace;
pub use crate::sock_diag::diag::Diag;
