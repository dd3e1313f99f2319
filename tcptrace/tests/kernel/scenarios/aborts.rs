//! What ends at once by our own doing.

use serde_json::{Value, json};

use super::{destroy::destroy, stage::Stage, suite::scenarios};
use crate::support::{
    Check,
    sockets::{CLOSE_WAIT, abort_at_close, disconnect, local, set_tcp_option, wait_state},
};

scenarios![
    linger_zero,
    linger_zero_in_close_wait,
    linger2_negative,
    unread_data,
    disconnected,
    destroyed,
    destroyed_in_syn_sent,
];

fn aborted(stage: &Stage, states: &str, expected: &Value) -> Check {
    stage.went(states)?.ended(expected).map(drop)
}

fn linger_zero(stage: &Stage) -> Check {
    let (socket, mut flow) = stage.connected()?;
    abort_at_close(&socket)?;
    drop(socket);
    flow.expect_rst()?;
    aborted(
        stage,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "local", "peer_fin": false}),
    )
}

fn linger_zero_in_close_wait(stage: &Stage) -> Check {
    let (socket, mut flow) = stage.connected()?;
    flow.send_fin()?;
    wait_state(&socket, CLOSE_WAIT)?;
    abort_at_close(&socket)?;
    drop(socket);
    flow.expect_rst()?;
    aborted(
        stage,
        "CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "remote", "peer_fin": true}),
    )
}

/// FIN_WAIT2 is skipped: once our FIN is acknowledged, a RST follows.
fn linger2_negative(stage: &Stage) -> Check {
    let (socket, mut flow) = stage.connected()?;
    set_tcp_option(&socket, libc::TCP_LINGER2, -1)?;
    drop(socket);
    flow.expect_fin()?;
    flow.send_ack()?;
    flow.expect_rst()?;
    aborted(
        stage,
        "CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "local", "peer_fin": false}),
    )
}

fn unread_data(stage: &Stage) -> Check {
    let (socket, mut flow) = stage.connected()?;
    flow.send_data(b"unread")?;
    flow.expect_ack()?;
    drop(socket);
    flow.expect_rst()?;
    aborted(
        stage,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({"verdict": "unread_data", "closed_by": "local", "bytes_received": 6}),
    )
}

/// connect(AF_UNSPEC).
fn disconnected(stage: &Stage) -> Check {
    let (socket, mut flow) = stage.connected()?;
    disconnect(&socket)?;
    flow.expect_rst()?;
    aborted(
        stage,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "local"}),
    )
}

fn destroyed(stage: &Stage) -> Check {
    let (socket, mut flow) = stage.connected()?;
    destroy(&stage.namespace, [local(&socket)?, flow.peer()])?;
    flow.expect_rst()?;
    aborted(
        stage,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({
            "verdict": "killed", "closed_by": "local",
            "errno": "ECONNABORTED", "errno_number": 103,
        }),
    )
}

fn destroyed_in_syn_sent(stage: &Stage) -> Check {
    let socket = stage.socket()?;
    let mut flow = stage.begin(&socket)?;
    flow.expect_syn()?;
    destroy(&stage.namespace, [local(&socket)?, flow.peer()])?;
    let life = stage.went("CLOSE SYN_SENT CLOSE")?;
    life.never_shook_hands()?;
    life.ended(&json!({"verdict": "killed", "errno": "ECONNABORTED"}))
        .map(drop)
}
