//! Opens that cross (RFC 9293 §3.5, figure 7): SYN_RECV alone does not mean passive.

use anyhow::ensure;
use serde_json::json;

use super::{kernel::Kernel, scenario::Scenario, suite::scenarios};
use crate::{
    peer::Flow,
    support::{
        Check,
        sockets::{CLOSE, ESTABLISHED, bound, local, state, wait_state},
    },
};

scenarios![
    simultaneous_open,
    simultaneous_open_by_syn_ack,
    simultaneous_open_reset,
    self_connect,
];

/// Both SYNs are under way.
fn cross(scenario: &Scenario, socket: &socket2::Socket) -> anyhow::Result<Flow> {
    let mut flow = scenario.begin(socket)?;
    flow.expect_syn()?;
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    Ok(flow)
}

/// We close first, and it was established by both.
fn close(scenario: &Scenario, socket: socket2::Socket, mut flow: Flow) -> Check {
    drop(socket);
    flow.close()?;
    let life = scenario.went("CLOSE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    let expected = json!({
        "role": "simultaneous", "handshake_source": "syn_sent", "pid_source": "connect",
    });
    life.shook_hands(&expected)?;
    life.ended(&expected)?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?;
    Ok(())
}

fn simultaneous_open(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = cross(scenario, &socket)?;
    flow.send_ack()?;
    wait_state(&socket, ESTABLISHED)?;
    close(scenario, socket, flow)
}

/// The peer answers our SYN as RFC 9293 has it. Old kernels drop that and wait for an ACK.
fn simultaneous_open_by_syn_ack(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = cross(scenario, &socket)?;
    flow.send_crossed_syn_ack()?;
    if !Kernel::here().takes_a_crossed_syn_ack() {
        let lives = scenario.so_far()?;
        ensure!(lives.len() == 1, "more than one connection");
        lives[0].went("CLOSE SYN_SENT SYN_RECV")?;
        flow.send_ack()?;
    }
    wait_state(&socket, ESTABLISHED)?;
    close(scenario, socket, flow)
}

fn simultaneous_open_reset(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = cross(scenario, &socket)?;
    flow.send_rst()?;
    wait_state(&socket, CLOSE)?;
    ensure!(state(&socket)? == CLOSE, "it is not closed");
    let life = scenario.went("CLOSE SYN_SENT SYN_RECV CLOSE")?;
    life.never_shook_hands()?;
    life.ended(&json!({
        "role": "simultaneous", "verdict": "handshake_failed", "errno": "ECONNRESET",
    }))?;
    Ok(())
}

/// One socket, and both ends of its connection.
fn self_connect(scenario: &Scenario) -> Check {
    let port = scenario.namespace.run(|| {
        let socket = bound("127.0.0.1:0")?;
        let own = local(&socket)?;
        socket.connect(&own.into())?;
        Ok(own.port())
    })?;
    let life = scenario.went("CLOSE SYN_SENT SYN_RECV ESTABLISHED FIN_WAIT1 CLOSING CLOSE")?;
    life.ended(&json!({
        "role": "simultaneous", "verdict": "graceful", "closed_by": "simultaneous",
        "local_port": port, "remote_port": port, "peer_fin": true,
    }))?;
    Ok(())
}
