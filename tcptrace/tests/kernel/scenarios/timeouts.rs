//! A peer that is gone, or as good as gone.

use std::{io::Write, time::Duration};

use serde_json::{Value, json};
use socket2::{Socket, TcpKeepalive};

use super::{scenario::Scenario, suite::scenarios};
use crate::{
    peer::{Flow, Unreachable},
    support::Check,
};

scenarios![
    keepalive_timeout,
    user_timeout,
    retransmission_timeout,
    retransmission_timeout_after_host_unreachable,
    zero_window_timeout,
    zero_window_user_timeout,
    fin_never_acknowledged,
    fin_never_acknowledged_in_last_ack,
    fin_never_acknowledged_in_closing,
];

const ESTABLISHED_TO_THE_END: &str = "CLOSE SYN_SENT ESTABLISHED CLOSE";

fn timed_out(scenario: &Scenario, states: &str, expected: &Value) -> Check {
    let life = scenario.went(states)?;
    let record = life.ended(&json!({"errno": "ETIMEDOUT", "errno_number": 110}))?;
    record.must_have(expected)
}

fn keepalive_timeout(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(second)
        .with_interval(second)
        .with_retries(2);
    socket.set_tcp_keepalive(&keepalive)?;
    // An answer, and then none.
    flow.expect_probe()?;
    flow.send_ack()?;
    flow.expect_probe()?;
    flow.expect_probe()?;
    flow.expect_rst()?;
    timed_out(
        scenario,
        ESTABLISHED_TO_THE_END,
        &json!({"verdict": "keepalive_timeout", "peer_fin": false}),
    )
}

fn user_timeout(scenario: &Scenario) -> Check {
    let (mut socket, mut flow) = scenario.connected()?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(500)))?;
    socket.write_all(b"hello?")?;
    flow.expect_data(b"hello?")?;
    timed_out(
        scenario,
        ESTABLISHED_TO_THE_END,
        &json!({"verdict": "retransmission_timeout", "bytes_sent": 6}),
    )
}

fn retransmission_timeout(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_retries2", "2")?;
    let (mut socket, mut flow) = scenario.connected()?;
    socket.write_all(b"hello?")?;
    flow.expect_data(b"hello?")?;
    flow.expect_retransmit()?;
    timed_out(
        scenario,
        ESTABLISHED_TO_THE_END,
        &json!({"verdict": "retransmission_timeout", "bytes_sent": 6}),
    )
}

/// The last ICMP error takes the place of the time-out's own.
fn retransmission_timeout_after_host_unreachable(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_retries2", "2")?;
    let (mut socket, mut flow) = scenario.connected()?;
    socket.write_all(b"hello?")?;
    let data = flow.expect_data(b"hello?")?;
    flow.send_unreachable(&data, Unreachable::Host)?;
    let [life] = scenario.lives()?;
    life.went(ESTABLISHED_TO_THE_END)?;
    life.ended(&json!({
        "verdict": "retransmission_timeout", "errno": "EHOSTUNREACH", "errno_number": 113,
    }))?;
    Ok(())
}

/// The peer closes its window before anything is sent, and then falls silent.
pub(super) fn stuck(scenario: &Scenario, data: &[u8]) -> anyhow::Result<(Socket, Flow)> {
    let (mut socket, mut flow) = scenario.connected()?;
    flow.window = 0;
    // An ACK of nothing new is not answered; data tells when the window was taken in.
    flow.send_data(b"stop")?;
    flow.expect_ack()?;
    socket.write_all(data)?;
    Ok((socket, flow))
}

fn zero_window_timeout(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_retries2", "2")?;
    let (_socket, mut flow) = stuck(scenario, b"when you are ready")?;
    flow.expect_probe()?;
    timed_out(
        scenario,
        ESTABLISHED_TO_THE_END,
        &json!({"verdict": "zero_window_timeout", "bytes_received": 4}),
    )
}

fn zero_window_user_timeout(scenario: &Scenario) -> Check {
    let (socket, mut flow) = stuck(scenario, b"when you are ready")?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(500)))?;
    flow.expect_probe()?;
    timed_out(
        scenario,
        ESTABLISHED_TO_THE_END,
        &json!({"verdict": "zero_window_timeout", "bytes_received": 4}),
    )
}

/// Nobody acknowledges our FIN.
fn unacknowledged(scenario: &Scenario, states: &str, closed_by: &str) -> Check {
    let expected = json!({
        "verdict": "retransmission_timeout", "closed_by": closed_by,
        "peer_fin": closed_by != "local",
    });
    timed_out(scenario, states, &expected)
}

fn fin_never_acknowledged(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_orphan_retries", "1")?;
    let (socket, mut flow) = scenario.connected()?;
    drop(socket);
    flow.expect_fin()?;
    flow.expect_retransmit()?;
    unacknowledged(
        scenario,
        "CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSE",
        "local",
    )
}

fn fin_never_acknowledged_in_last_ack(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_orphan_retries", "1")?;
    let mut flow = scenario.closed_by_the_peer()?;
    flow.expect_retransmit()?;
    let states = "CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE";
    unacknowledged(scenario, states, "remote")
}

fn fin_never_acknowledged_in_closing(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_orphan_retries", "1")?;
    let (socket, mut flow) = scenario.connected()?;
    drop(socket);
    flow.close_crossing()?;
    let states = "CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSING CLOSE";
    unacknowledged(scenario, states, "simultaneous")
}
