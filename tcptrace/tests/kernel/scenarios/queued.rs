//! What waits in the socket when close() is called: our FIN leaves after it, whenever that is.

use std::{io::Write, net::Shutdown, time::Duration};

use anyhow::ensure;
use serde_json::json;
use tcptrace::testing::monotonic_ns;

use super::{scenario::Scenario, suite::scenarios, timeouts::stuck};
use crate::{
    peer::{Flow, Peer},
    support::{
        Check,
        record::between,
        sockets::{CLOSE_WAIT, CLOSING, FIN_WAIT2, wait_state},
    },
};

scenarios![
    fin_behind_data,
    fin_behind_data_and_the_peers_first,
    fin_behind_data_in_last_ack,
    fin_behind_data_never_sent,
    written_without_a_link,
];

const DATA: &[u8] = b"as much as the peer has no room for";
/// Room again.
const WINDOW: u16 = 60_000;

/// The peer takes what waited, and our FIN with it.
fn make_room(flow: &mut Flow) -> Check {
    flow.window = WINDOW;
    flow.send_ack()?;
    flow.expect_data_and_fin(DATA).map(drop)
}

/// The FIN leaves 100 ms after close(), and its acknowledgement says that it was the first.
fn fin_behind_data(scenario: &Scenario) -> Check {
    let (socket, mut flow) = stuck(scenario, DATA)?;
    socket.shutdown(Shutdown::Write)?;
    scenario.wait_step("ESTABLISHED→FIN_WAIT1")?;
    flow.expect_silence(Duration::from_millis(100))?;
    make_room(&mut flow)?;
    let acks_ns = monotonic_ns();
    flow.send_ack()?;
    wait_state(&socket, FIN_WAIT2)?;
    let waits_ns = monotonic_ns();
    flow.expect_silence(Duration::from_millis(50))?;
    let closes_ns = monotonic_ns();
    flow.send_fin()?;
    flow.expect_ack()?;
    let most = monotonic_ns() - acks_ns;
    drop(socket);
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    let record = life.ended(&json!({
        "closed_by": "local", "peer_fin": true, "bytes_sent": DATA.len(),
    }))?;
    between(record, "fin_wait2_us", closes_ns - waits_ns, most)?;
    record.must_lack(&["half_closed_us", "established_us"])
}

/// The peer has closed before our FIN could leave.
fn fin_behind_data_and_the_peers_first(scenario: &Scenario) -> Check {
    let (socket, mut flow) = stuck(scenario, DATA)?;
    socket.shutdown(Shutdown::Write)?;
    scenario.wait_step("ESTABLISHED→FIN_WAIT1")?;
    flow.send_fin()?;
    wait_state(&socket, CLOSING)?;
    make_room(&mut flow)?;
    flow.send_ack()?;
    drop(socket);
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSING CLOSE")?;
    life.ended(&json!({
        "closed_by": "remote", "verdict": "graceful", "peer_fin": true, "bytes_sent": DATA.len(),
    }))?
    .must_lack(&["half_closed_us"])
}

fn fin_behind_data_in_last_ack(scenario: &Scenario) -> Check {
    let (socket, mut flow) = stuck(scenario, DATA)?;
    flow.send_fin()?;
    wait_state(&socket, CLOSE_WAIT)?;
    socket.shutdown(Shutdown::Write)?;
    scenario.wait_step("CLOSE_WAIT→LAST_ACK")?;
    make_room(&mut flow)?;
    flow.send_ack()?;
    drop(socket);
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE")?;
    life.ended(&json!({
        "closed_by": "remote", "verdict": "graceful", "peer_fin": true, "bytes_sent": DATA.len(),
    }))?
    .must_lack(&["half_closed_us", "last_ack_us"])
}

/// A RST comes while the FIN waits: it never left.
fn fin_behind_data_never_sent(scenario: &Scenario) -> Check {
    let (socket, mut flow) = stuck(scenario, DATA)?;
    socket.shutdown(Shutdown::Write)?;
    scenario.wait_step("ESTABLISHED→FIN_WAIT1")?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSE")?;
    life.ended(&json!({
        "closed_by": "remote", "verdict": "reset_received", "errno": "ECONNRESET",
        "bytes_sent": 0,
    }))?
    .must_lack(&["half_closed_us"])
}

/// What does not leave the host is tried again, and counted once.
fn written_without_a_link(scenario: &Scenario) -> Check {
    let (mut socket, mut flow) = scenario.connected()?;
    Peer::set_link(&scenario.namespace, false)?;
    socket.write_all(DATA)?;
    // Some attempts, by the kernel's own timer (TCP_RESOURCE_PROBE_INTERVAL).
    flow.expect_silence(Duration::from_millis(1_200))?;
    Peer::set_link(&scenario.namespace, true)?;
    flow.expect_data(DATA)?;
    flow.send_ack()?;
    drop(socket);
    flow.expect_fin()?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    let record = life.ended(&json!({
        "verdict": "reset_received", "errno": "ECONNRESET", "bytes_sent": DATA.len(),
    }))?;
    ensure!(record.get("closed_by").is_some(), "nobody closed: {record}");
    Ok(())
}
