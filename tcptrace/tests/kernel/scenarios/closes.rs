//! Closing by FINs: crossed, twice, half, and by an orphan whose peer takes its time.

use std::{
    io::{Read, Write},
    net::Shutdown,
    thread,
    time::Duration,
};

use serde_json::json;
use tcptrace::testing::monotonic_ns;

use super::{
    connection_records::ConnectionRecords,
    owners::alone,
    scenario::{SERVICE, Scenario},
    suite::scenarios,
};
use crate::support::{
    Check,
    hooks::{time_wait, traces_functions},
    record::at_least,
    sockets::{CLOSE_WAIT, FIN_WAIT2, wait_state},
    test_process::TestProcess,
};

scenarios![
    simultaneous_close,
    fin_with_the_ack_of_ours,
    close_after_shutdown_in_fin_wait1,
    close_after_shutdown_in_fin_wait2,
    close_after_shutdown_in_closing,
    close_after_shutdown_in_last_ack,
    half_close_by_us,
    half_close_by_the_peer,
    fin_within_the_congestion_window,
    fin_behind_a_full_congestion_window,
    orphaned_fin_wait2_with_late_fin,
    orphaned_fin_wait2_with_data,
    orphaned_fin_wait2_without_fin,
    orphaned_fin_wait2_that_runs_out,
    no_room_for_time_wait,
    no_room_for_time_wait_at_once,
];

/// Segments of a response, all of them sent at once: the initial window has ten (RFC 6928). Without
/// an MSS option a segment has 536 bytes.
const SEGMENT: [u8; 536] = [b'x'; 536];

/// A server writes so many segments and closes; the client takes its time to acknowledge them.
fn responds_and_closes(scenario: &Scenario, segments: usize) -> anyhow::Result<ConnectionRecords> {
    let (_listener, mut server, mut flow) = scenario.accepted()?;
    server.write_all(&SEGMENT.repeat(segments))?;
    for _ in 0..segments {
        flow.expect_data(&SEGMENT)?;
    }
    drop(server);
    scenario.wait_step("ESTABLISHED→FIN_WAIT1")?;
    thread::sleep(HALF);
    flow.send_ack()?;
    flow.expect_fin()?;
    flow.send_fin()?;
    flow.expect_ack()?;
    scenario.went("LISTEN SYN_RECV ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")
}

fn fin_within_the_congestion_window(scenario: &Scenario) -> Check {
    let life = responds_and_closes(scenario, 9)?;
    let record = life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?;
    // The FIN left at once, and what answers it came after all that.
    at_least(record, "half_closed_us", HALF.as_nanos().try_into()?)
}

/// The FIN leaves once there is room: when that is depends on the kernel, and has no event.
fn fin_behind_a_full_congestion_window(scenario: &Scenario) -> Check {
    let life = responds_and_closes(scenario, 10)?;
    let record = life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?;
    record.must_lack(&["half_closed_us"])
}

/// How long a half-closed connection stays so.
const HALF: Duration = Duration::from_millis(300);

fn simultaneous_close(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    drop(socket);
    flow.close_crossing()?;
    flow.acknowledge_again();
    flow.send_ack()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSING CLOSE")?;
    let record = life.ended(&json!({
        "verdict": "graceful", "closed_by": "simultaneous", "peer_fin": true,
    }))?;
    record.must_have(&time_wait(true))?;
    record.must_lack(&["fin_wait2_us"])?;
    life.was_not_released()
}

/// One segment: FIN_WAIT2 lasts no time at all.
fn fin_with_the_ack_of_ours(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    drop(socket);
    flow.close()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    let record =
        life.ended(&json!({"verdict": "graceful", "closed_by": "local", "peer_fin": true}))?;
    record.must_have(&time_wait(true))?;
    at_least(record, "fin_wait2_us", 0)?;
    life.was_not_released()
}

fn close_after_shutdown_in_fin_wait1(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    socket.shutdown(Shutdown::Write)?;
    flow.expect_fin()?;
    drop(socket);
    flow.send_fin()?;
    flow.expect_ack()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local", "peer_fin": true}))?
        .must_have(&time_wait(true))?;
    life.was_not_released()
}

fn close_after_shutdown_in_fin_wait2(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.half_closed()?;
    drop(socket);
    flow.send_fin()?;
    flow.expect_ack()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 FIN_WAIT2 CLOSE")?;
    let record = life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?;
    // The peer's FIN came to the minisocket. Where that is seen, the record tells of it if the FIN
    // came within the grace, and a release does otherwise.
    if !traces_functions() {
        return record.must_lack(&["peer_fin", "time_wait", "fin_wait2_us", "half_closed_us"]);
    }
    if record.get("peer_fin").is_some() {
        record.must_have(&json!({"peer_fin": true}))?;
        record.must_have(&time_wait(true))?;
        at_least(record, "fin_wait2_us", 0)?;
        at_least(record, "half_closed_us", 0)?;
        return life.was_not_released();
    }
    scenario.wait_record("release")?;
    let [life] = scenario.lives()?;
    let release = life.was_released(&json!({"outcome": "time_wait", "role": "active"}))?;
    release.must_have(&time_wait(true))?;
    at_least(release, "fin_wait2_us", 0)
}

fn close_after_shutdown_in_closing(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    socket.shutdown(Shutdown::Write)?;
    flow.close_crossing()?;
    drop(socket);
    scenario.wait_step("CLOSING→CLOSING")?;
    flow.acknowledge_again();
    flow.send_ack()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 CLOSING CLOSING CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "simultaneous"}))?
        .must_have(&time_wait(true))
}

fn close_after_shutdown_in_last_ack(scenario: &Scenario) -> Check {
    let (_listener, socket, mut flow) = scenario.accepted()?;
    flow.send_fin()?;
    wait_state(&socket, CLOSE_WAIT)?;
    socket.shutdown(Shutdown::Write)?;
    flow.expect_fin()?;
    drop(socket);
    scenario.wait_step("LAST_ACK→LAST_ACK")?;
    flow.send_ack()?;
    let life = scenario.went("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK LAST_ACK CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "remote"}))?;
    Ok(())
}

/// We have no more to say, and the peer goes on.
fn half_close_by_us(scenario: &Scenario) -> Check {
    let (mut socket, mut flow) = scenario.connected()?;
    socket.write_all(b"question")?;
    flow.expect_data(b"question")?;
    socket.shutdown(Shutdown::Write)?;
    flow.expect_fin()?;
    flow.send_ack()?;
    wait_state(&socket, FIN_WAIT2)?;
    let from = monotonic_ns();
    flow.expect_silence(HALF)?;
    for part in [b"a long", b"answer"] {
        flow.send_data(part)?;
        flow.expect_ack()?;
    }
    flow.send_fin()?;
    let took = flow.sent_at_ns() - from;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    drop(socket);
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    let record = life.ended(&json!({
        "verdict": "graceful", "closed_by": "local", "peer_fin": true,
        "bytes_sent": 8, "bytes_received": answer.len(),
    }))?;
    record.must_have(&time_wait(true))?;
    at_least(record, "fin_wait2_us", took)?;
    at_least(record, "half_closed_us", took)
}

/// The peer has no more to say, and we go on.
fn half_close_by_the_peer(scenario: &Scenario) -> Check {
    let (_listener, mut socket, mut flow) = scenario.accepted()?;
    flow.send_data(b"question")?;
    flow.expect_ack()?;
    flow.send_fin()?;
    let from = flow.expect_ack()?.at_ns;
    let mut question = String::new();
    socket.read_to_string(&mut question)?;
    flow.expect_silence(HALF)?;
    for part in [&b"a long"[..], b"answer"] {
        socket.write_all(part)?;
        flow.expect_data(part)?;
        flow.send_ack()?;
    }
    let took = flow.sent_at_ns() - from;
    drop(socket);
    flow.expect_fin()?;
    flow.send_ack()?;
    let life = scenario.went("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE")?;
    let record = life.ended(&json!({
        "verdict": "graceful", "closed_by": "remote", "peer_fin": true,
        "bytes_sent": 12, "bytes_received": question.len(),
    }))?;
    at_least(record, "half_closed_us", took)
}

/// The full socket goes when our FIN is acknowledged; the peer's FIN starts the real TIME_WAIT,
/// with no event.
fn orphaned_fin_wait2_with_late_fin(scenario: &Scenario) -> Check {
    // A namespace in which there is a process can be found, and so its sockets be looked up.
    let _inhabitant = inhabitant(scenario)?;
    let mut flow = scenario.orphaned()?;
    let from = monotonic_ns();
    flow.expect_silence(Duration::from_millis(200))?;
    flow.send_fin()?;
    let least_ns = flow.sent_at_ns() - from;
    // The minisocket's.
    flow.expect_ack()?;
    scenario.wait_record("release")?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?
        .must_lack(&["peer_fin", "time_wait", "fin_wait2_us", "half_closed_us"])?;
    let release = life.was_released(&json!({
        "role": "active", "outcome": "time_wait", "time_wait": true,
        "remote_port": SERVICE, "pid": std::process::id(), "pid_source": "connect",
    }))?;
    let (source, jiffies) = if traces_functions() {
        ("twsk_alloc", 0)
    } else {
        // The kernel tells how long TIME_WAIT lasts yet, in jiffies.
        ("sock_diag", 20_000_000)
    };
    release.must_have(&json!({"time_wait_source": source}))?;
    at_least(release, "fin_wait2_us", least_ns - jiffies)
}

/// What came to the minisocket was no FIN: data that nobody takes any more.
fn orphaned_fin_wait2_with_data(scenario: &Scenario) -> Check {
    let _inhabitant = inhabitant(scenario)?;
    let mut flow = scenario.orphaned()?;
    flow.expect_silence(Duration::from_millis(200))?;
    flow.send_data(b"too late")?;
    flow.expect_rst()?;
    scenario.wait_record("release")?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?
        .must_lack(&["peer_fin", "time_wait", "fin_wait2_us"])?;
    let expected = if traces_functions() {
        json!({"outcome": "refused", "time_wait": false, "time_wait_source": "twsk_alloc"})
    } else {
        json!({"outcome": "gone"})
    };
    life.was_released(&expected)?
        .must_lack(&["peer_fin_at", "fin_wait2_us"])
}

/// A process that keeps the namespace in sight.
fn inhabitant(scenario: &Scenario) -> anyhow::Result<TestProcess> {
    let _alone = alone();
    TestProcess::start(&scenario.namespace, "tt-inhabitant")
}

/// The minisocket runs out, and then nobody knows of the connection.
fn orphaned_fin_wait2_without_fin(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_fin_timeout", "1")?;
    let mut flow = scenario.orphaned()?;
    flow.expect_silence(Duration::from_millis(2_500))?;
    flow.send_fin()?;
    flow.expect_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?
        .must_lack(&["peer_fin", "time_wait", "fin_wait2_us"])
}

/// `tcp_keepalive_timer` ends an orphan on the full socket only when its time is not left for a
/// minisocket: when `tcp_fin_timeout` has meanwhile come down.
fn orphaned_fin_wait2_that_runs_out(scenario: &Scenario) -> Check {
    // A second more than a minisocket's 60.
    scenario.sysctl("tcp_fin_timeout", "61")?;
    let (socket, mut flow) = scenario.half_closed()?;
    drop(socket);
    scenario.sysctl("tcp_fin_timeout", "30")?;
    flow.expect_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({
        "verdict": "fin_wait_timeout", "closed_by": "local", "peer_fin": false,
    }))?
    .must_have(&time_wait(false))
}

/// The same where the peer's FIN came to the full socket, whose flags say that TIME_WAIT was meant.
fn no_room_for_time_wait_at_once(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_max_tw_buckets", "0")?;
    let (_socket, mut flow) = scenario.half_closed()?;
    flow.send_fin()?;
    flow.expect_ack()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    let record = life.ended(&json!({
        "verdict": "graceful", "closed_by": "local", "peer_fin": true,
    }))?;
    if traces_functions() {
        record.must_have(&time_wait(false))
    } else {
        record.must_lack(&["time_wait"])
    }
}

/// No timewait socket takes over, and the peer's FIN finds nobody; the events are the same.
fn no_room_for_time_wait(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_max_tw_buckets", "0")?;
    let mut flow = scenario.orphaned()?;
    flow.send_fin()?;
    flow.expect_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    let record = life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?;
    record.must_lack(&["peer_fin"])?;
    if traces_functions() {
        record.must_have(&time_wait(false))
    } else {
        record.must_lack(&["time_wait"])
    }
}
