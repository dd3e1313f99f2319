//! listen(): good, never completed, late, queued. A child socket is made at the final ACK, and
//! until then the kernel shows nothing.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use anyhow::ensure;
use serde_json::{Value, json};
use tcptrace::testing::{GRACE_NS, monotonic_ns};

use super::{
    connection_records::ConnectionRecords,
    kernel::Kernel,
    scenario::{HOME, Scenario, accept},
    suite::scenarios,
};
use crate::{
    peer::Flow,
    support::{
        Check,
        hooks::{accepted_by, handshake_source, listened_by, sees_accept, traces_functions},
        record::{Record, at_least, between},
        sockets::{CLOSE, CLOSE_WAIT, bound, set_tcp_option, wait_state},
        wait_for,
    },
};

scenarios![
    passive_open,
    passive_open_ipv6,
    nobody_listens,
    syn_never_acknowledged,
    syn_then_rst,
    final_ack_300ms_late,
    syn_ack_retransmitted,
    final_ack_with_data,
    final_ack_with_fin,
    accept_queue_full,
    reset_while_queued,
    syn_cookie,
    deferred_accept,
    deferred_accept_without_data,
];

/// What is said of every connection that the peer opened.
fn passive() -> Value {
    json!({
        "role": "passive", "local_port": HOME, "pid": std::process::id(),
        "pid_source": accepted_by(),
    })
}

/// What is said of it before it was accepted.
fn queued() -> Value {
    json!({
        "role": "passive", "local_port": HOME, "pid": std::process::id(),
        "pid_source": listened_by(),
    })
}

/// The handshake took at least what the peer took to answer the SYN-ACK, and no longer than from
/// its SYN to now. The first and the last of it are the peer's own readings of the clock.
pub(crate) struct Took {
    pub(crate) least_ns: u64,
    pub(crate) most_ns: u64,
}

impl Took {
    /// Shakes hands by hand, and measures. Between the first SYN-ACK and the ACK the peer does
    /// something else.
    pub(crate) fn measure(
        flow: &mut Flow,
        listener: &TcpListener,
        meanwhile: impl FnOnce(&mut Flow) -> Check,
    ) -> anyhow::Result<(Self, TcpStream)> {
        flow.send_syn()?;
        let syn = flow.sent_at_ns();
        let first = flow.expect_syn_ack()?;
        meanwhile(flow)?;
        flow.send_ack()?;
        let least_ns = flow.sent_at_ns() - first.at_ns;
        let socket = accept(listener, flow)?;
        let most_ns = monotonic_ns() - syn;
        Ok((Self { least_ns, most_ns }, socket))
    }

    fn must_be_told(&self, record: &Record) -> Check {
        record.must_have(&json!({"handshake_source": handshake_source()}))?;
        between(record, "handshake_us", self.least_ns, self.most_ns)
    }
}

/// It was accepted, and how long it waited for that is known wherever accept() is seen.
fn waited(record: &Record) -> Check {
    if sees_accept() {
        at_least(record, "accept_wait_us", 0)
    } else {
        record.must_lack(&["accept_wait_us"])
    }
}

/// The peer closes, and we after it.
fn peer_closes(mut socket: TcpStream, mut flow: Flow) -> Check {
    flow.send_fin()?;
    ensure!(socket.read(&mut [0])? == 0, "there was data");
    drop(socket);
    flow.expect_fin()?;
    flow.send_ack()
}

fn passive_open(scenario: &Scenario) -> Check {
    let listener = scenario.listen()?;
    let flow = scenario.peer.connect(HOME);
    open_and_close(scenario, &listener, flow, "ipv4")
}

fn open_and_close(
    scenario: &Scenario,
    listener: &TcpListener,
    mut flow: Flow,
    family: &str,
) -> Check {
    let (took, socket) = Took::measure(&mut flow, listener, |_| Ok(()))?;
    let peer = flow.peer();
    peer_closes(socket, flow)?;
    let life = passive_close(scenario, peer.port(), family)?;
    took.must_be_told(life.shook_hands(&json!({}))?)?;
    took.must_be_told(life.ended(&json!({}))?)
}

fn passive_open_ipv6(scenario: &Scenario) -> Check {
    let (listener, _) = scenario
        .namespace
        .listen(&scenario.peer.here_v6(HOME).to_string())?;
    let flow = scenario.peer.connect_to(scenario.peer.here_v6(HOME));
    open_and_close(scenario, &listener, flow, "ipv6")
}

/// All that is known of it however its handshake was made.
fn passive_close(
    scenario: &Scenario,
    peer_port: u16,
    family: &str,
) -> anyhow::Result<ConnectionRecords> {
    let life = scenario.went("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE")?;
    life.shook_hands(&queued())?.must_have(&json!({
        "family": family, "remote_port": peer_port, "syn_retransmits": 0,
    }))?;
    life.entered("SYN_RECV")?
        .must_have(&json!({"local_port": HOME}))?;
    let record = life.ended(&passive())?;
    record.must_have(&json!({"verdict": "graceful", "closed_by": "remote", "peer_fin": true}))?;
    waited(record)?;
    life.was_not_released()?;
    Ok(life)
}

/// A RST that belongs to no socket.
fn nobody_listens(scenario: &Scenario) -> Check {
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_rst()?;
    scenario.nothing_yet()
}

/// The request is dropped when its SYN-ACK was not answered, and leaves nothing.
fn syn_never_acknowledged(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_synack_retries", "0")?;
    let _listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    // It goes after a second.
    flow.expect_silence(Duration::from_millis(1_500))?;
    scenario.nothing_yet()
}

fn syn_then_rst(scenario: &Scenario) -> Check {
    let _listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    flow.send_rst()?;
    flow.expect_silence(Duration::from_millis(50))?;
    scenario.nothing_yet()
}

/// What is said of a connection that the peer opened and reset.
fn reset(life: &ConnectionRecords) -> anyhow::Result<&Record> {
    let record = reset_at_some_time(life)?;
    record.must_have(&passive())?;
    Ok(record)
}

/// Before it was accepted, or after.
fn reset_at_some_time(life: &ConnectionRecords) -> anyhow::Result<&Record> {
    life.went("LISTEN SYN_RECV ESTABLISHED CLOSE")?;
    life.ended(&json!({
        "verdict": "reset_received", "closed_by": "remote", "errno": "ECONNRESET",
    }))
}

/// A handshake in which the peer does something else between SYN-ACK and ACK, and how long it took.
fn slow(
    scenario: &Scenario,
    syn_retransmits: u32,
    meanwhile: impl FnOnce(&mut Flow) -> Check,
) -> anyhow::Result<(Took, ConnectionRecords)> {
    let listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    let (took, _socket) = Took::measure(&mut flow, &listener, meanwhile)?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    // From the first SYN-ACK on, whichever was answered.
    took.must_be_told(life.shook_hands(&json!({"syn_retransmits": syn_retransmits}))?)?;
    Ok((took, life))
}

fn final_ack_300ms_late(scenario: &Scenario) -> Check {
    let wait = |flow: &mut Flow| flow.expect_silence(Duration::from_millis(300));
    let (took, life) = slow(scenario, 0, wait)?;
    let record = reset(&life)?;
    took.must_be_told(record)?;
    at_least(record, "srtt_us", took.least_ns)
}

/// Which of the two was answered cannot be known without timestamps (RFC 6298, section 3).
fn syn_ack_retransmitted(scenario: &Scenario) -> Check {
    let (_, life) = slow(scenario, 1, |flow| flow.expect_syn_ack().map(drop))?;
    reset(&life)?.must_lack(&["srtt_us"])
}

fn final_ack_with_data(scenario: &Scenario) -> Check {
    let listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    flow.send_data(b"early")?;
    flow.expect_ack()?;
    let mut socket = accept(&listener, &flow)?;
    socket.read_exact(&mut [0; 5])?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    let record = reset(&life)?;
    if traces_functions() || !Kernel::here().knows_the_peer_at_syn_recv() {
        record.must_have(&json!({"handshake_source": handshake_source(), "deferred": false}))?;
    } else {
        // The data may have been waited for: that the listener does not want it is not known.
        record.must_lack(&["handshake_us", "deferred"])?;
    }
    record.must_have(&json!({"bytes_received": 5}))
}

fn final_ack_with_fin(scenario: &Scenario) -> Check {
    let listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    flow.send_fin()?;
    flow.expect_ack()?;
    let socket = accept(&listener, &flow)?;
    wait_state(&socket, CLOSE_WAIT)?;
    drop(socket);
    flow.expect_fin()?;
    flow.send_ack()?;
    let life = scenario.went("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT LAST_ACK CLOSE")?;
    life.ended(&json!({
        "role": "passive", "verdict": "graceful", "closed_by": "remote", "peer_fin": true,
        "bytes_received": 0,
    }))?;
    Ok(())
}

/// The final ACK is dropped while the queue is full, and there is no child until it comes again.
fn accept_queue_full(scenario: &Scenario) -> Check {
    let here = scenario.peer.here(HOME).to_string();
    let listener: TcpListener = scenario.namespace.run(|| {
        let socket = bound(&here)?;
        // Room for one more than that.
        socket.listen(0)?;
        Ok(socket.into())
    })?;
    let mut flows = [scenario.peer.connect(HOME), scenario.peer.connect(HOME)];
    for flow in &mut flows {
        flow.send_syn()?;
        flow.expect_syn_ack()?;
    }
    let [first, second] = &mut flows;
    first.send_ack()?;
    scenario.wait_step("SYN_RECV→ESTABLISHED")?;
    second.send_ack()?;
    second.expect_silence(Duration::from_millis(50))?;
    ensure!(
        scenario.so_far()?.len() == 1,
        "a child found no room in the queue and is there"
    );
    let first_socket = accept(&listener, first)?;
    second.send_again()?;
    let second_socket = accept(&listener, second)?;
    first.send_rst()?;
    wait_state(&first_socket, CLOSE)?;
    second.send_rst()?;
    wait_state(&second_socket, CLOSE)?;
    let [first, second] = scenario.lives()?;
    reset(&first)?;
    reset(&second).map(drop)
}

/// accept() comes after the end.
fn reset_while_queued(scenario: &Scenario) -> Check {
    let listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    flow.open()?;
    flow.send_rst()?;
    // The line of it comes when the record's grace is over, and accept() belongs to the record
    // within that.
    wait_for("the kernel to take the RST", || {
        scenario.namespace.run(|| {
            let sockets = fs::read_to_string("/proc/thread-self/net/tcp")?;
            // st 01 is ESTABLISHED.
            let is_open = |line: &str| line.split_whitespace().nth(3) == Some("01");
            Ok((!sockets.lines().any(is_open)).then_some(()))
        })
    })?;
    drop(accept(&listener, &flow)?);
    let took = monotonic_ns() - flow.sent_at_ns();
    let [life] = scenario.lives()?;
    if took < GRACE_NS {
        return waited(reset(&life)?);
    }
    // Under load accept() may come after the record's grace, and is then no part of it.
    reset_at_some_time(&life).map(drop)
}

/// Cookies for every SYN: there is no request to remember anything of the handshake.
fn syn_cookie(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_syncookies", "2")?;
    let (_listener, socket, flow) = scenario.accepted()?;
    let peer = flow.peer();
    peer_closes(socket, flow)?;
    let life = passive_close(scenario, peer.port(), "ipv4")?;
    life.shook_hands(&json!({}))?
        .must_lack(&["handshake_us", "srtt_us"])
}

fn deferred_accept(scenario: &Scenario) -> Check {
    let listener = scenario.listen()?;
    // Seconds: until they are over, no SYN-ACK is sent again.
    set_tcp_option(&listener, libc::TCP_DEFER_ACCEPT, 10)?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    flow.send_ack()?;
    flow.expect_silence(Duration::from_millis(100))?;
    scenario.nothing_yet()?;
    flow.send_data(b"at last")?;
    flow.expect_ack()?;
    let mut socket = accept(&listener, &flow)?;
    socket.read_exact(&mut [0; 7])?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    reset(&life)?;
    let handshake = life.shook_hands(&json!({"syn_retransmits": 0}))?;
    handshake.must_lack(&["handshake_us", "srtt_us"])?;
    deferred(handshake)
}

/// TCP_DEFER_ACCEPT can be read from the request, and up to Linux 6.14 from the child.
fn deferred(handshake: &Record) -> Check {
    if traces_functions() || !Kernel::here().knows_the_peer_at_syn_recv() {
        handshake.must_have(&json!({"deferred": true}))
    } else {
        handshake.must_lack(&["deferred"])
    }
}

/// Once the time is over, an ACK without data will do: the SYN-ACK that is sent again asks for
/// one, and is no sign of a loss.
fn deferred_accept_without_data(scenario: &Scenario) -> Check {
    let listener = scenario.listen()?;
    set_tcp_option(&listener, libc::TCP_DEFER_ACCEPT, 1)?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    flow.send_ack()?;
    flow.expect_syn_ack()?;
    scenario.nothing_yet()?;
    flow.send_ack()?;
    let mut socket = accept(&listener, &flow)?;
    socket.write_all(b"you first")?;
    flow.expect_data(b"you first")?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    reset(&life)?;
    let handshake = life.shook_hands(&json!({"syn_retransmits": 1}))?;
    if traces_functions() || !Kernel::here().knows_the_peer_at_syn_recv() {
        handshake.must_lack(&["handshake_us"])?;
    }
    deferred(handshake)
}
