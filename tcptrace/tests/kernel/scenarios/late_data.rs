//! Data that comes after our close, in its three shapes.

use std::net::Shutdown;

use serde_json::json;

use super::{scenario::Scenario, suite::scenarios};
use crate::{
    peer::Flow,
    support::{
        Check,
        sockets::{FIN_WAIT2, wait_state},
    },
};

scenarios![
    data_in_fin_wait1_after_close,
    data_in_fin_wait2_after_shutdown,
    data_on_the_ack_of_our_fin,
    data_on_a_minisocket,
];

/// The full socket acts as if a RST had come in, and sends one.
fn reset_by_data(scenario: &Scenario, mut flow: Flow, states: &str) -> Check {
    flow.send_data(b"too late")?;
    flow.expect_rst()?;
    let life = scenario.went(states)?;
    life.ended(&json!({
        "verdict": "data_after_close", "closed_by": "local", "peer_fin": false,
        "errno": "ECONNRESET", "errno_number": 104,
    }))?;
    Ok(())
}

fn data_in_fin_wait1_after_close(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    drop(socket);
    flow.withhold_acknowledgements();
    flow.expect_fin()?;
    reset_by_data(scenario, flow, "CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSE")
}

/// The same without close(): the application has shut down both ways.
fn data_in_fin_wait2_after_shutdown(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    socket.shutdown(Shutdown::Both)?;
    flow.expect_fin()?;
    flow.send_ack()?;
    wait_state(&socket, FIN_WAIT2)?;
    let states = "CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE";
    reset_by_data(scenario, flow, states)
}

/// No error is left behind, only a RST that goes out.
fn data_on_the_ack_of_our_fin(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    drop(socket);
    flow.expect_fin()?;
    flow.send_data(b"too late")?;
    flow.expect_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({
        "verdict": "data_after_close", "closed_by": "local", "peer_fin": false,
    }))?;
    Ok(())
}

/// The connection's record is out by then, and stays what it is.
fn data_on_a_minisocket(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    drop(socket);
    flow.expect_fin()?;
    flow.send_ack()?;
    let [life] = scenario.lives()?;
    flow.send_data(b"too late")?;
    flow.expect_rst()?;
    life.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?
        .must_lack(&["peer_fin"])?;
    let [again] = scenario.lives()?;
    again.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")
}
