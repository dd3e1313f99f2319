//! connect(): good, late, refused, unreachable, given up.

use std::{
    net::{Shutdown, SocketAddr},
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use socket2::{Domain, Socket};

use super::{
    connection_records::ConnectionRecords,
    scenario::{SERVICE, Scenario},
    suite::scenarios,
};
use crate::{
    peer::{Flow, Unreachable},
    support::{
        Check, hooks, netlink,
        record::at_least,
        sockets::{begin_connect, bound, disconnect, local},
    },
};

scenarios![
    active_open,
    active_open_ipv6,
    syn_ack_300ms_late,
    syn_retransmitted,
    refused_by_rst,
    refused_by_rst_ipv6,
    refused_by_port_unreachable,
    refused_by_port_unreachable_ipv6,
    host_unreachable,
    syn_timeout,
    cancelled_by_close,
    cancelled_by_shutdown,
    cancelled_by_disconnect,
    no_route,
    no_route_ipv6,
    no_route_ipv4_mapped,
    unreachable_route,
    blackhole_route,
    prohibit_route,
    link_local_without_an_interface,
    senseless_connects,
    no_local_port,
    connect_fails_locally,
];

fn active_open(scenario: &Scenario) -> Check {
    let (socket, flow) = scenario.connected()?;
    active_open_from(scenario, socket, flow, "ipv4")
}

fn active_open_ipv6(scenario: &Scenario) -> Check {
    let (socket, mut flow) = begin_v6(scenario)?;
    flow.open()?;
    active_open_from(scenario, socket, flow, "ipv6")
}

fn active_open_from(scenario: &Scenario, socket: Socket, mut flow: Flow, family: &str) -> Check {
    let from = socket.local_addr()?.as_socket().map(|it| it.port());
    drop(socket);
    flow.close()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    let both = json!({
        "role": "active", "family": family, "local_port": from, "remote_port": SERVICE,
        "remote_address": flow.peer().ip(), "pid": std::process::id(), "pid_source": "connect",
        "handshake_source": "syn_sent", "syn_retransmits": 0,
    });
    life.shook_hands(&both)?;
    life.ended(&both)?;
    life.ended(&json!({"verdict": "graceful", "closed_by": "local"}))?;
    // The port is chosen after the first transition.
    life.entered("SYN_SENT")?.must_lack(&["local_port"])?;
    life.entered("ESTABLISHED")?
        .must_have(&json!({"local_port": from}))
}

fn syn_ack_300ms_late(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    let syn = flow.expect_syn()?;
    flow.expect_silence(Duration::from_millis(300))?;
    flow.send_syn_ack()?;
    flow.expect_ack()?;
    let took = flow.sent_at_ns() - syn.at_ns;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    let handshake = life.shook_hands(&json!({
        "role": "active", "handshake_source": "syn_sent", "syn_retransmits": 0,
    }))?;
    at_least(handshake, "handshake_us", took)?;
    at_least(handshake, "srtt_us", took)?;
    at_least(life.entered("ESTABLISHED")?, "in_state_us", took)?;
    life.ended(&json!({
        "verdict": "reset_received", "closed_by": "remote", "errno": "ECONNRESET",
    }))?;
    Ok(())
}

fn syn_retransmitted(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    let first = flow.expect_syn()?;
    let again = flow.expect_syn()?;
    flow.send_syn_ack()?;
    flow.expect_ack()?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    let handshake = life.shook_hands(&json!({
        "role": "active", "handshake_source": "syn_sent", "syn_retransmits": 1,
    }))?;
    at_least(handshake, "handshake_us", again.at_ns - first.at_ns)?;
    life.ended(&json!({
        "verdict": "reset_received", "syn_retransmits": 1, "retransmits": 1,
        "errno": "ECONNRESET",
    }))?;
    Ok(())
}

/// What must be true of a connection that never was, from connect() to `verdict`.
fn failed(life: &ConnectionRecords, expected: &Value) -> Check {
    life.went("CLOSE SYN_SENT CLOSE")?;
    life.never_shook_hands()?;
    let record = life.ended(expected)?;
    record.must_have(&json!({
        "role": "active", "remote_port": SERVICE, "bytes_sent": 0, "bytes_received": 0,
        "pid": std::process::id(), "pid_source": "connect",
    }))?;
    record.must_lack(&["established_at", "handshake_us", "established_us"])
}

fn refused_by_rst(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    flow.expect_syn()?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    failed(
        &life,
        &json!({"verdict": "refused", "errno": "ECONNREFUSED", "errno_number": 111}),
    )
}

fn refused_by_rst_ipv6(scenario: &Scenario) -> Check {
    let (_socket, mut flow) = begin_v6(scenario)?;
    flow.expect_syn()?;
    flow.send_rst()?;
    let [life] = scenario.lives()?;
    failed(
        &life,
        &json!({"verdict": "refused", "errno": "ECONNREFUSED", "family": "ipv6"}),
    )
}

fn begin_v6(scenario: &Scenario) -> anyhow::Result<(Socket, Flow)> {
    let socket = scenario.socket_of(Domain::IPV6)?;
    begin_connect(&socket, scenario.peer.address_v6(SERVICE))?;
    Ok((
        socket,
        scenario.peer.listen_at(scenario.peer.address_v6(SERVICE)),
    ))
}

/// A firewall that rejects: the error is that of a RST, but there was none.
fn refused_by_port_unreachable(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    let syn = flow.expect_syn()?;
    flow.send_unreachable(&syn, Unreachable::Port)?;
    let [life] = scenario.lives()?;
    failed(
        &life,
        &json!({"verdict": "unreachable", "errno": "ECONNREFUSED", "errno_number": 111}),
    )
}

fn refused_by_port_unreachable_ipv6(scenario: &Scenario) -> Check {
    let (_socket, mut flow) = begin_v6(scenario)?;
    let syn = flow.expect_syn()?;
    flow.send_unreachable(&syn, Unreachable::Port)?;
    let [life] = scenario.lives()?;
    failed(
        &life,
        &json!({"verdict": "unreachable", "errno": "ECONNREFUSED", "family": "ipv6"}),
    )
}

fn host_unreachable(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    let syn = flow.expect_syn()?;
    flow.send_unreachable(&syn, Unreachable::Host)?;
    let [life] = scenario.lives()?;
    failed(
        &life,
        &json!({"verdict": "unreachable", "errno": "EHOSTUNREACH", "errno_number": 113}),
    )
}

fn syn_timeout(scenario: &Scenario) -> Check {
    scenario.sysctl("tcp_syn_retries", "1")?;
    // They do not count as retries.
    scenario.sysctl_if_any("tcp_syn_linear_timeouts", "0")?;
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    let first = flow.expect_syn()?;
    let again = flow.expect_syn()?;
    let [life] = scenario.lives()?;
    failed(
        &life,
        &json!({
            "verdict": "handshake_timeout", "errno": "ETIMEDOUT", "errno_number": 110,
            "retransmits": 1, "syn_retransmits": 1, "segments_sent": 2, "segments_received": 0,
        }),
    )?;
    at_least(
        life.ended(&json!({"errno": "ETIMEDOUT"}))?,
        "duration_us",
        again.at_ns - first.at_ns,
    )
}

fn cancelled_by_close(scenario: &Scenario) -> Check {
    cancelled(scenario, |socket| {
        drop(socket);
        Ok(())
    })
}

fn cancelled_by_shutdown(scenario: &Scenario) -> Check {
    cancelled(scenario, |socket| Ok(socket.shutdown(Shutdown::Both)?))
}

fn cancelled_by_disconnect(scenario: &Scenario) -> Check {
    cancelled(scenario, |socket| Ok(disconnect(&socket)?))
}

fn cancelled(scenario: &Scenario, give_up: impl FnOnce(Socket) -> Check) -> Check {
    let socket = scenario.socket()?;
    let mut flow = scenario.begin(&socket)?;
    flow.expect_syn()?;
    give_up(socket)?;
    let [life] = scenario.lives()?;
    failed(
        &life,
        &json!({"verdict": "cancelled", "closed_by": "local"}),
    )
}

fn no_route(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    let connected = socket.connect(&"203.0.113.1:443".parse::<SocketAddr>()?.into());
    ensure!(connected.is_err(), "connected without a route");
    never_sent(
        scenario,
        &json!({
            "verdict": "unreachable", "errno": "ENETUNREACH", "remote_address": "203.0.113.1",
            "remote_port": 443, "family": "ipv4",
        }),
    )
}

/// The one connect() that there was failed before its SYN.
fn never_sent(scenario: &Scenario, expected: &Value) -> Check {
    if !hooks::sees_connect() {
        return scenario.nothing_yet();
    }
    let [life] = scenario.lives()?;
    life.never_shook_hands()?;
    life.ended(expected)?;
    Ok(())
}

/// A connect() to a route that leads nowhere, which fails with `errno`.
fn bad_route(scenario: &Scenario, kind: u8, verdict: &str, errno: &str) -> Check {
    scenario
        .namespace
        .run(|| netlink::add_route(kind, [198, 51, 100, 0], 24))?;
    let socket = scenario.socket()?;
    let connected = socket.connect(&"198.51.100.7:443".parse::<SocketAddr>()?.into());
    ensure!(connected.is_err(), "connected by a route of type {kind}");
    never_sent(
        scenario,
        &json!({
            "verdict": verdict, "errno": errno, "remote_address": "198.51.100.7",
            "remote_port": 443,
        }),
    )
}

fn unreachable_route(scenario: &Scenario) -> Check {
    bad_route(
        scenario,
        libc::RTN_UNREACHABLE,
        "unreachable",
        "EHOSTUNREACH",
    )
}

fn blackhole_route(scenario: &Scenario) -> Check {
    bad_route(scenario, libc::RTN_BLACKHOLE, "unreachable", "EINVAL")
}

fn prohibit_route(scenario: &Scenario) -> Check {
    bad_route(scenario, libc::RTN_PROHIBIT, "forbidden", "EACCES")
}

fn no_route_ipv6(scenario: &Scenario) -> Check {
    let socket = scenario.socket_of(Domain::IPV6)?;
    let connected = socket.connect(&"[2001:db8:ffff::1]:443".parse::<SocketAddr>()?.into());
    ensure!(connected.is_err(), "connected without a route");
    never_sent(
        scenario,
        &json!({
            "verdict": "unreachable", "errno": "ENETUNREACH", "remote_address": "2001:db8:ffff::1",
            "remote_port": 443, "family": "ipv6",
        }),
    )
}

/// An IPv6 socket that wants to connect over IPv4 is told of once.
fn no_route_ipv4_mapped(scenario: &Scenario) -> Check {
    let socket = scenario.socket_of(Domain::IPV6)?;
    let connected = socket.connect(&"[::ffff:203.0.113.1]:443".parse::<SocketAddr>()?.into());
    ensure!(connected.is_err(), "connected without a route");
    never_sent(
        scenario,
        &json!({
            "verdict": "unreachable", "errno": "ENETUNREACH", "remote_address": "203.0.113.1",
            "remote_port": 443, "family": "ipv4",
        }),
    )
}

/// A link-local address without its interface is the application's mistake.
fn link_local_without_an_interface(scenario: &Scenario) -> Check {
    let socket = scenario.socket_of(Domain::IPV6)?;
    let connected = socket.connect(&"[fe80::7]:443".parse::<SocketAddr>()?.into());
    ensure!(connected.is_err(), "connected");
    never_sent(
        scenario,
        &json!({
            "verdict": "handshake_failed", "errno": "EINVAL", "remote_address": "fe80::7",
        }),
    )
}

/// Calls that fail for another reason than the network's are nobody's failed connections.
fn senseless_connects(scenario: &Scenario) -> Check {
    let (socket, mut flow) = scenario.connected()?;
    let to = scenario.peer.address(SERVICE);
    // EISCONN, EAFNOSUPPORT, ECONNREFUSED of another protocol, and a listener's EISCONN.
    let again = [socket.connect(&to.into()), socket.connect(&to.into())];
    ensure!(again[1].is_err(), "connected twice");
    let v4 = scenario.socket()?;
    let wrong = "[2001:db8::1]:443".parse::<SocketAddr>()?;
    ensure!(v4.connect(&wrong.into()).is_err(), "IPv6 by an IPv4 socket");
    let listener = scenario.listen()?;
    let listening = socket2::SockRef::from(&listener);
    ensure!(
        listening.connect(&to.into()).is_err(),
        "a listener connected"
    );
    flow.send_rst()?;
    scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    Ok(())
}

fn no_local_port(scenario: &Scenario) -> Check {
    let (first, mut flow) = scenario.connected()?;
    let port = first.local_addr()?.as_socket().map_or(0, |it| it.port());
    // The one that is taken.
    scenario.sysctl("ip_local_port_range", &format!("{port} {port}"))?;
    let second = scenario.socket()?;
    let connected = second.connect(&scenario.peer.address(SERVICE).into());
    ensure!(connected.is_err(), "another port was free");
    // The sentinels need theirs.
    scenario.sysctl("ip_local_port_range", "32768 60999")?;
    flow.send_rst()?;
    let [first, second] = scenario.lives()?;
    first.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    failed(
        &second,
        &with_result(json!({"verdict": "no_local_port", "segments_sent": 0})),
    )?;
    second.entered("CLOSE")?.must_lack(&["local_port"])
}

/// Two sockets may be bound to one port; only one of them can have the peer.
fn connect_fails_locally(scenario: &Scenario) -> Check {
    let here = scenario.peer.here(0).to_string();
    let (first, second) = scenario.namespace.run(|| {
        let first = bound(&here)?;
        let second = bound(&local(&first)?.to_string())?;
        Ok((first, second))
    })?;
    let mut flow = scenario.connect(&first)?;
    let connected = second.connect(&scenario.peer.address(SERVICE).into());
    ensure!(connected.is_err(), "both connected");
    flow.send_rst()?;
    let [first, second] = scenario.lives()?;
    first.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    failed(
        &second,
        &with_result(json!({
            "verdict": "handshake_failed", "local_port": local_port(&first)?, "segments_sent": 0,
        })),
    )
}

/// What is expected, with connect()'s own error where that is seen: no port was found.
fn with_result(mut expected: Value) -> Value {
    if hooks::sees_connect() {
        expected["errno"] = "EADDRNOTAVAIL".into();
    }
    expected
}

/// The port of this side, which a bound socket has from the beginning.
fn local_port(life: &ConnectionRecords) -> anyhow::Result<u64> {
    let first = life.entered("SYN_SENT")?;
    first.number("local_port").context("a bound socket's port")
}
