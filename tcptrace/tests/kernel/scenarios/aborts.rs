//! What ends at once by our own doing.

use std::{io::Write, os::fd::AsFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use socket2::Socket;

use super::{destroy::destroy, scenario::Scenario, suite::scenarios};
use crate::{
    peer::{Flow, Unreachable},
    support::{
        Check,
        sockets::{
            CLOSE_WAIT, abort_at_close, disconnect, local, set_ip_option, set_tcp_option,
            wait_state,
        },
        wait_for,
    },
};

scenarios![
    pending_error_linger_zero,
    pending_error_graceful_active_close,
    pending_error_graceful_passive_close,
    linger_zero,
    linger_zero_in_close_wait,
    linger2_negative,
    unread_data,
    disconnected,
    destroyed,
    destroyed_in_syn_sent,
];

fn aborted(scenario: &Scenario, states: &str, expected: &Value) -> Check {
    scenario.went(states)?.ended(expected).map(drop)
}

/// A connection that lives on with an error: IP_RECVERR, and ICMP host unreachable for its last
/// segment.
fn with_pending_error(scenario: &Scenario) -> anyhow::Result<(Socket, Flow)> {
    let (socket, mut flow) = scenario.connected()?;
    set_ip_option(&socket, libc::IP_RECVERR, 1)?;
    (&socket).write_all(b"hello")?;
    let heard = flow.expect_data(b"hello")?;
    flow.send_unreachable(&heard, Unreachable::Host)?;
    flow.send_ack()?;
    // Whoever asks for the error takes it away; poll() does not.
    wait_for("the pending error", || {
        let mut polled = [PollFd::new(socket.as_fd(), PollFlags::empty())];
        poll(&mut polled, PollTimeout::ZERO)?;
        let raised = polled[0].revents().unwrap_or(PollFlags::empty());
        Ok(raised.contains(PollFlags::POLLERR).then_some(()))
    })?;
    Ok((socket, flow))
}

fn pending_error_linger_zero(scenario: &Scenario) -> Check {
    let (socket, mut flow) = with_pending_error(scenario)?;
    abort_at_close(&socket)?;
    drop(socket);
    flow.expect_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    life.ended(&json!({"verdict": "reset_by_us", "closed_by": "local"}))?
        .must_lack(&["errno"])
}

fn pending_error_graceful_active_close(scenario: &Scenario) -> Check {
    let (socket, mut flow) = with_pending_error(scenario)?;
    drop(socket);
    flow.close()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?
        .must_lack(&["errno"])
}

fn pending_error_graceful_passive_close(scenario: &Scenario) -> Check {
    let (socket, mut flow) = with_pending_error(scenario)?;
    flow.send_fin()?;
    wait_state(&socket, CLOSE_WAIT)?;
    drop(socket);
    flow.expect_fin()?;
    flow.send_ack()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "remote"}))?
        .must_lack(&["errno"])
}

fn linger_zero(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    abort_at_close(&socket)?;
    drop(socket);
    flow.expect_rst()?;
    aborted(
        scenario,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "local", "peer_fin": false}),
    )
}

fn linger_zero_in_close_wait(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    flow.send_fin()?;
    wait_state(&socket, CLOSE_WAIT)?;
    abort_at_close(&socket)?;
    drop(socket);
    flow.expect_rst()?;
    aborted(
        scenario,
        "CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "remote", "peer_fin": true}),
    )
}

/// FIN_WAIT2 is skipped: once our FIN is acknowledged, a RST follows.
fn linger2_negative(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    set_tcp_option(&socket, libc::TCP_LINGER2, -1)?;
    drop(socket);
    flow.expect_fin()?;
    flow.send_ack()?;
    flow.expect_rst()?;
    aborted(
        scenario,
        "CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "local", "peer_fin": false}),
    )
}

fn unread_data(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    flow.send_data(b"unread")?;
    flow.expect_ack()?;
    drop(socket);
    flow.expect_rst()?;
    aborted(
        scenario,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({"verdict": "unread_data", "closed_by": "local", "bytes_received": 6}),
    )
}

/// connect(AF_UNSPEC).
fn disconnected(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    disconnect(&socket)?;
    flow.expect_rst()?;
    aborted(
        scenario,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({"verdict": "reset_by_us", "closed_by": "local"}),
    )
}

fn destroyed(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    destroy(&scenario.namespace, [local(&socket)?, flow.peer()])?;
    flow.expect_rst()?;
    aborted(
        scenario,
        "CLOSE SYN_SENT ESTABLISHED CLOSE",
        &json!({
            "verdict": "killed", "closed_by": "local",
            "errno": "ECONNABORTED", "errno_number": 103,
        }),
    )
}

fn destroyed_in_syn_sent(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    flow.expect_syn()?;
    destroy(&scenario.namespace, [local(&socket)?, flow.peer()])?;
    let life = scenario.went("CLOSE SYN_SENT CLOSE")?;
    life.never_shook_hands()?;
    life.ended(&json!({"verdict": "killed", "errno": "ECONNABORTED"}))
        .map(drop)
}
