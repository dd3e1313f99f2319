//! TCP Fast Open (RFC 7413): data in the SYN, and a child socket at the SYN.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use serde_json::json;
use tcptrace::testing::monotonic_ns;

use super::{
    scenario::{HOME, SERVICE, Scenario, accept},
    suite::scenarios,
};
use crate::{
    peer::Flow,
    support::{
        Check,
        hooks::{accepted_by, listened_by},
        record::between,
        sockets::{ESTABLISHED, set_tcp_option, wait_state},
    },
};

scenarios![
    fast_open_server,
    fast_open_server_closed_before_the_ack,
    fast_open_server_reset_before_the_ack,
    fast_open_server_never_accepted,
    fast_open_client,
    fast_open_client_with_cookie,
];

/// Bits of `net.ipv4.tcp_fastopen`.
const CLIENT: u32 = 0x1;
const SERVER: u32 = 0x2;
const CLIENT_WITHOUT_COOKIE: u32 = 0x4;
const SERVER_WITHOUT_COOKIE: u32 = 0x200;
const EVERY_LISTENER: u32 = 0x400;
/// The option's kind.
const OPTION: u8 = 34;

fn switch_on(scenario: &Scenario, bits: u32) -> Check {
    scenario.sysctl("tcp_fastopen", &bits.to_string())
}

/// What was opened by a SYN alone.
struct Opened {
    _listener: TcpListener,
    socket: TcpStream,
    flow: Flow,
    /// When the SYN was sent, and when its answer was heard.
    syn_ns: u64,
    answered_ns: u64,
}

/// A connection that was accepted with its data when there was no more than a SYN.
fn accepted(scenario: &Scenario) -> anyhow::Result<Opened> {
    switch_on(scenario, SERVER | SERVER_WITHOUT_COOKIE | EVERY_LISTENER)?;
    let listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn_with_data(b"hello")?;
    let syn_ns = flow.sent_at_ns();
    let answered_ns = flow.expect_syn_ack()?.at_ns;
    let mut socket = accept(&listener, &flow)?;
    socket.read_exact(&mut [0; 5])?;
    Ok(Opened {
        _listener: listener,
        socket,
        flow,
        syn_ns,
        answered_ns,
    })
}

fn fast_open_server(scenario: &Scenario) -> Check {
    let Opened {
        socket,
        mut flow,
        syn_ns,
        answered_ns,
        ..
    } = accepted(scenario)?;
    let lives = scenario.so_far()?;
    lives[0].went("LISTEN SYN_RECV")?;
    flow.expect_silence(Duration::from_millis(200))?;
    flow.send_ack()?;
    let took = flow.sent_at_ns() - answered_ns;
    wait_state(&socket, ESTABLISHED)?;
    let most = monotonic_ns() - syn_ns;
    flow.send_rst()?;
    let life = scenario.went("LISTEN SYN_RECV ESTABLISHED CLOSE")?;
    // Here it is the round trip.
    let established = life.entered("ESTABLISHED")?;
    between(established, "in_state_us", took, most)?;
    let handshake = life.shook_hands(&json!({
        "role": "passive", "syn_retransmits": 0, "fast_open": true, "handshake_source": "synack",
    }))?;
    between(handshake, "handshake_us", took, most)?;
    life.ended(&json!({
        "role": "passive", "verdict": "reset_received", "errno": "ECONNRESET",
        "bytes_received": 5,
    }))?;
    Ok(())
}

fn fast_open_server_closed_before_the_ack(scenario: &Scenario) -> Check {
    let Opened {
        socket, mut flow, ..
    } = accepted(scenario)?;
    drop(socket);
    scenario.wait_step("SYN_RECV→FIN_WAIT1")?;
    flow.send_ack()?;
    flow.close()?;
    let life = scenario.went("LISTEN SYN_RECV FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({
        "role": "passive", "verdict": "graceful", "closed_by": "local", "bytes_received": 5,
        "fast_open": true,
    }))?;
    Ok(())
}

fn fast_open_server_reset_before_the_ack(scenario: &Scenario) -> Check {
    let mut opened = accepted(scenario)?;
    opened.flow.send_rst()?;
    let life = scenario.went("LISTEN SYN_RECV CLOSE")?;
    // It was served before its handshake was over: it opened.
    life.shook_hands(&json!({"role": "passive", "fast_open": true}))?
        .must_lack(&["handshake_us"])?;
    life.ended(&json!({
        "role": "passive", "established": true, "verdict": "reset_received",
        "closed_by": "remote", "errno": "ECONNRESET", "fast_open": true,
        "pid": std::process::id(), "pid_source": accepted_by(),
    }))?;
    Ok(())
}

/// Its listener closes before accept(): it had data all the same.
fn fast_open_server_never_accepted(scenario: &Scenario) -> Check {
    switch_on(scenario, SERVER | SERVER_WITHOUT_COOKIE | EVERY_LISTENER)?;
    let listener = scenario.listen()?;
    let mut flow = scenario.peer.connect(HOME);
    flow.send_syn_with_data(b"hello")?;
    flow.expect_syn_ack()?;
    drop(listener);
    flow.expect_rst()?;
    let life = scenario.went("LISTEN SYN_RECV CLOSE")?;
    life.shook_hands(&json!({"role": "passive", "fast_open": true}))?
        .must_lack(&["handshake_us"])?;
    life.ended(&json!({
        "role": "passive", "established": true, "verdict": "not_accepted",
        "closed_by": "local", "fast_open": true, "bytes_received": 5,
        "pid": std::process::id(), "pid_source": listened_by(),
    }))?;
    Ok(())
}

/// connect() returns at once, and the SYN waits for the first data.
fn fast_open_client(scenario: &Scenario) -> Check {
    switch_on(scenario, CLIENT | CLIENT_WITHOUT_COOKIE)?;
    let mut flow = scenario.peer.listen(SERVICE);
    let mut socket = scenario.socket()?;
    set_tcp_option(&socket, libc::TCP_FASTOPEN_CONNECT, 1)?;
    // It would wait with the first data for the SYN-ACK.
    socket.set_nonblocking(true)?;
    socket.connect(&scenario.peer.address(SERVICE).into())?;
    flow.expect_silence(Duration::from_millis(100))?;
    let lives = scenario.so_far()?;
    lives[0].went("CLOSE SYN_SENT")?;
    let sends_ns = monotonic_ns();
    socket.write_all(b"hello")?;
    let syn = flow.expect_syn_with_data(b"hello")?;
    flow.send_syn_ack()?;
    flow.expect_ack()?;
    let took = flow.sent_at_ns() - syn.at_ns;
    let most = monotonic_ns() - sends_ns;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    // The application's idle time between connect() and the first data is no part of it.
    let handshake = life.shook_hands(&json!({
        "role": "active", "syn_retransmits": 0, "handshake_source": "srtt",
    }))?;
    between(handshake, "handshake_us", took, most)?;
    life.ended(&json!({
        "role": "active", "verdict": "reset_received", "errno": "ECONNRESET", "bytes_sent": 5,
    }))?;
    Ok(())
}

/// The first connection asks for a cookie, and the second one uses it.
fn fast_open_client_with_cookie(scenario: &Scenario) -> Check {
    switch_on(scenario, CLIENT)?;
    let cookie = [OPTION, 10, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut asking = scenario.peer.listen(SERVICE);
    let mut first = scenario.socket()?;
    set_tcp_option(&first, libc::TCP_FASTOPEN_CONNECT, 1)?;
    first.set_nonblocking(true)?;
    let to = scenario.peer.address(SERVICE).into();
    // Without a cookie it is a connect() like any other, but that its SYN asks for one.
    anyhow::ensure!(first.connect(&to).is_err(), "connected at once");
    let syn = asking.expect_syn()?;
    anyhow::ensure!(
        syn.options.windows(2).any(|option| option == [OPTION, 2]),
        "the SYN asks for no cookie: {:?}",
        syn.options
    );
    asking.send_syn_ack_with(&[&cookie[..], &[1, 1]].concat())?;
    asking.expect_ack()?;
    wait_state(&first, ESTABLISHED)?;
    first.write_all(b"one")?;
    asking.expect_data(b"one")?;
    asking.send_rst()?;

    let mut using = scenario.peer.listen(SERVICE);
    let mut second = scenario.socket()?;
    set_tcp_option(&second, libc::TCP_FASTOPEN_CONNECT, 1)?;
    second.set_nonblocking(true)?;
    second.connect(&to)?;
    second.write_all(b"two")?;
    let syn = using.expect_syn_with_data(b"two")?;
    anyhow::ensure!(
        syn.options.windows(10).any(|option| option == cookie),
        "the SYN has not that cookie: {:?}",
        syn.options
    );
    using.send_syn_ack()?;
    using.expect_ack()?;
    using.send_rst()?;
    for life in scenario.lives::<2>()? {
        life.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
        life.ended(&json!({
            "role": "active", "verdict": "reset_received", "errno": "ECONNRESET",
            "bytes_sent": 3, "syn_retransmits": 0,
        }))?;
    }
    Ok(())
}
