//! What a machine's hooks can tell, for what differs between machines: an expectation of its own
//! for each, never a test that does not run.

use serde_json::{Value, json};

use super::{functions_can_be_traced, surroundings::has_tracefs};
use crate::scenarios::kernel::Kernel;

/// Functions of this kernel can be traced: what they tell is then expected, and else its absence
/// or a weaker source.
pub(crate) fn traces_functions() -> bool {
    functions_can_be_traced().is_ok()
}

/// Where the time of a passive handshake comes from.
pub(crate) fn handshake_source() -> &'static str {
    if traces_functions() {
        "synack"
    } else {
        "sock_ops"
    }
}

/// accept() is seen, in one way or the other.
pub(crate) fn sees_accept() -> bool {
    traces_functions() || has_tracefs()
}

/// A connect() that fails before its SYN is seen.
pub(crate) fn sees_connect() -> bool {
    // The exit of connect() needs bpf_task_pt_regs.
    traces_functions() || (has_tracefs() && Kernel::here() >= Kernel(5, 15))
}

/// How the process of an accepted connection is known.
pub(crate) fn accepted_by() -> &'static str {
    if sees_accept() {
        "accept"
    } else {
        listened_by()
    }
}

/// How the process of a connection is known before that.
pub(crate) fn listened_by() -> &'static str {
    if traces_functions() {
        "listen"
    } else {
        "address"
    }
}

/// What is said of TIME_WAIT where the full socket's end tells.
pub(crate) fn time_wait(entered: bool) -> Value {
    let source = if traces_functions() {
        "twsk_alloc"
    } else {
        "flags"
    };
    json!({"time_wait": entered, "time_wait_source": source})
}
