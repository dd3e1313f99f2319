//! A RST from the peer, in each state.

use std::net::Shutdown;

use serde_json::{Value, json};

use super::{
    connection_records::ConnectionRecords,
    scenario::{Scenario, accept},
    suite::scenarios,
};
use crate::{
    peer::Flow,
    support::{
        Check,
        hooks::{time_wait, traces_functions},
        sockets::{CLOSE, CLOSE_WAIT, FIN_WAIT2, wait_state},
    },
};

scenarios![
    reset_in_established,
    reset_in_close_wait,
    reset_in_fin_wait1,
    reset_in_fin_wait1_of_an_orphan,
    reset_in_fin_wait2,
    reset_of_a_fin_wait2_minisocket,
    reset_in_time_wait,
    place_taken_in_time_wait,
    reset_in_closing,
    reset_in_last_ack,
];

fn must_be_reset(life: &ConnectionRecords, closed_by: &str, more: &Value) -> Check {
    let record = life.ended(&json!({
        "verdict": "reset_received", "closed_by": closed_by,
        "errno": "ECONNRESET", "errno_number": 104,
    }))?;
    record.must_have(more)
}

fn reset_in_established(scenario: &Scenario) -> Check {
    let (_socket, mut flow) = scenario.connected()?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    must_be_reset(
        &life,
        "remote",
        &json!({"role": "active", "peer_fin": false}),
    )
}

/// The error is another one after the peer's FIN (`tcp_reset`).
fn reset_in_close_wait(scenario: &Scenario) -> Check {
    let (_listener, socket, mut flow) = scenario.accepted()?;
    flow.send_fin()?;
    wait_state(&socket, CLOSE_WAIT)?;
    flow.send_rst()?;
    let life = scenario.went("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT CLOSE")?;
    life.ended(&json!({
        "role": "passive", "verdict": "reset_received", "closed_by": "remote",
        "errno": "EPIPE", "errno_number": 32, "peer_fin": true,
    }))?;
    Ok(())
}

fn reset_in_fin_wait1(scenario: &Scenario) -> Check {
    let (socket, flow) = scenario.connected()?;
    socket.shutdown(Shutdown::Write)?;
    answer_fin_with_rst(scenario, flow)
}

fn reset_in_fin_wait1_of_an_orphan(scenario: &Scenario) -> Check {
    let (socket, flow) = scenario.connected()?;
    drop(socket);
    answer_fin_with_rst(scenario, flow)
}

fn answer_fin_with_rst(scenario: &Scenario, mut flow: Flow) -> Check {
    flow.expect_fin()?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSE")?;
    must_be_reset(
        &life,
        "local",
        &json!({"role": "active", "peer_fin": false}),
    )
}

fn reset_in_fin_wait2(scenario: &Scenario) -> Check {
    let (_socket, mut flow) = scenario.half_closed()?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    must_be_reset(&life, "local", &json!({"peer_fin": false}))
}

/// The full socket is gone by then, and its record says what it saw.
fn reset_of_a_fin_wait2_minisocket(scenario: &Scenario) -> Check {
    let mut flow = scenario.orphaned()?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?
        .must_lack(&["peer_fin", "time_wait"])?;
    was_ended(scenario, &json!({"outcome": "reset", "time_wait": false}))
}

/// What ended the timewait socket is told where functions can be traced.
fn was_ended(scenario: &Scenario, expected: &Value) -> Check {
    if !traces_functions() {
        let [life] = scenario.lives()?;
        return life.was_not_released();
    }
    scenario.wait_record("release")?;
    let [life] = scenario.lives()?;
    life.was_released(expected).map(drop)
}

/// TIME_WAIT assassination (RFC 1337).
fn reset_in_time_wait(scenario: &Scenario) -> Check {
    let mut flow = in_time_wait(scenario)?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local", "peer_fin": true}))?
        .must_have(&time_wait(true))?;
    was_ended(scenario, &json!({"outcome": "reset"}))
}

/// A connection that the peer opened, and that this side has closed first.
fn in_time_wait(scenario: &Scenario) -> anyhow::Result<Flow> {
    let (_, socket, mut flow) = scenario.accepted()?;
    socket.shutdown(Shutdown::Write)?;
    flow.expect_fin()?;
    flow.send_ack()?;
    wait_state(&socket, FIN_WAIT2)?;
    flow.send_fin()?;
    flow.expect_ack()?;
    Ok(flow)
}

/// The peer opens the next connection from the same port (RFC 9293, section 3.6.1).
fn place_taken_in_time_wait(scenario: &Scenario) -> Check {
    let flow = in_time_wait(scenario)?;
    let mut again = flow.again();
    let listener = scenario.listen()?;
    again.open()?;
    let _socket = accept(&listener, &again)?;
    again.send_rst()?;
    scenario.wait_record("release")?;
    let [first, second] = scenario.lives()?;
    first
        .ended(&json!({"verdict": "graceful", "closed_by": "local"}))?
        .must_have(&time_wait(true))?;
    first
        .was_released(&json!({"outcome": "reused"}))?
        .must_lack(&["time_wait", "peer_fin_at"])?;
    second.went("LISTEN SYN_RECV ESTABLISHED CLOSE")?;
    second.was_not_released()
}

fn reset_in_closing(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    socket.shutdown(Shutdown::Write)?;
    flow.close_crossing()?;
    flow.send_rst()?;
    wait_state(&socket, CLOSE)?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSING CLOSE")?;
    must_be_reset(&life, "simultaneous", &json!({"peer_fin": true}))
}

fn reset_in_last_ack(scenario: &Scenario) -> Check {
    let mut flow = scenario.closed_by_the_peer()?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE")?;
    must_be_reset(
        &life,
        "remote",
        &json!({"role": "active", "peer_fin": true}),
    )
}
