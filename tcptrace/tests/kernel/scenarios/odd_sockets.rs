//! Sockets that are not what they seem: of two families, of another protocol, used twice,
//! restored.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::AsRawFd,
    time::Duration,
};

use anyhow::{Context, ensure};
use serde_json::json;
use socket2::{Domain, Socket};

use super::{
    connection_records::ConnectionRecords,
    scenario::{HOME, SERVICE, Scenario},
    suite::scenarios,
};
use crate::{
    peer::Flow,
    support::{
        Check, ignored, mptcp,
        sockets::{begin_connect, disconnect, set_tcp_option},
    },
};

scenarios![
    ipv4_mapped,
    ipv6_addrform,
    connects_again,
    repair,
    mptcp,
    mptcp_with_a_plain_peer,
];

/// An IPv6 socket that is connected over IPv4.
fn mapped(scenario: &Scenario) -> anyhow::Result<(Socket, Flow)> {
    let socket = scenario.socket_of(Domain::IPV6)?;
    let SocketAddr::V4(to) = scenario.peer.address(SERVICE) else {
        anyhow::bail!("the peer has no IPv4 address");
    };
    let mapped = SocketAddr::from((to.ip().to_ipv6_mapped(), to.port()));
    let mut flow = scenario.peer.listen(SERVICE);
    begin_connect(&socket, mapped)?;
    flow.open()?;
    Ok((socket, flow))
}

fn is_ipv4(life: &ConnectionRecords, flow: &Flow) -> Check {
    let ends = json!({
        "family": "ipv4", "remote_address": flow.peer().ip(), "remote_port": SERVICE,
    });
    life.shook_hands(&ends)?;
    life.ended(&json!({"verdict": "reset_received", "errno": "ECONNRESET"}))?
        .must_have(&ends)
}

fn ipv4_mapped(scenario: &Scenario) -> Check {
    let (_socket, mut flow) = mapped(scenario)?;
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    is_ipv4(&life, &flow)
}

/// It becomes an IPv4 socket in the middle of its life.
fn ipv6_addrform(scenario: &Scenario) -> Check {
    let (socket, mut flow) = mapped(scenario)?;
    let family = libc::AF_INET;
    // SAFETY: the value is an int, as large as the size says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            libc::IPV6_ADDRFORM,
            (&raw const family).cast(),
            size_of_val(&family).try_into()?,
        )
    };
    ensure!(result == 0, "{}", io::Error::last_os_error());
    flow.send_rst()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    is_ipv4(&life, &flow)
}

/// One socket, two connections.
fn connects_again(scenario: &Scenario) -> Check {
    let (socket, mut first) = scenario.connected()?;
    disconnect(&socket)?;
    first.expect_rst()?;
    let mut second = scenario.connect(&socket)?;
    second.send_rst()?;
    let [before, after] = scenario.lives()?;
    before.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    before.ended(&json!({"verdict": "reset_by_us", "closed_by": "local"}))?;
    after.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    after.ended(&json!({
        "verdict": "reset_received", "closed_by": "remote", "errno": "ECONNRESET",
    }))?;
    Ok(())
}

/// TCP_REPAIR: what a checkpoint was restored from comes and goes without a packet.
fn repair(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    match set_tcp_option(&socket, libc::TCP_REPAIR, 1) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            return Err(ignored(format!("TCP_REPAIR: {error}")));
        }
        set => set.context("TCP_REPAIR")?,
    }
    socket.connect(&scenario.peer.address(SERVICE).into())?;
    let mut flow = scenario.peer.listen(SERVICE);
    drop(socket);
    flow.expect_silence(Duration::from_millis(50))?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED CLOSE")?;
    // The handshake was elsewhere.
    life.shook_hands(&json!({"role": "active"}))?
        .must_lack(&["handshake_us", "handshake_source"])?;
    // Nobody was told of the end: it may go on elsewhere.
    life.ended(&json!({
        "role": "active", "segments_sent": 0, "segments_received": 0, "verdict": "checkpointed",
        "closed_by": "local",
    }))?;
    Ok(())
}

/// Only the subflow shows, for only it is TCP; it is closed by a worker of the kernel's.
fn mptcp(scenario: &Scenario) -> Check {
    let listener = scenario.namespace.run(mptcp::socket)?;
    listener.bind(&scenario.peer.here(HOME).into())?;
    listener.listen(1)?;
    let mut client = scenario.namespace.run(mptcp::socket)?;
    client.connect(&scenario.peer.here(HOME).into())?;
    let (mut server, _) = listener.accept()?;
    client.write_all(b"hello")?;
    server.read_exact(&mut [0; 5])?;
    drop(client);
    ensure!(server.read(&mut [0])? == 0, "there was data");
    drop(server);
    let [active, passive] = scenario.lives()?;
    active.began("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1")?;
    active.ended(&json!({"role": "active", "verdict": "graceful", "closed_by": "local"}))?;
    passive.began("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT")?;
    passive.ended(&json!({"role": "passive", "verdict": "graceful", "closed_by": "remote"}))?;
    Ok(())
}

fn mptcp_with_a_plain_peer(scenario: &Scenario) -> Check {
    let socket = scenario.namespace.run(mptcp::socket)?;
    let mut flow = scenario.begin(&socket)?;
    flow.open()?;
    drop(socket);
    flow.close()?;
    let life = scenario.went("CLOSE SYN_SENT ESTABLISHED FIN_WAIT1 FIN_WAIT2 CLOSE")?;
    life.ended(&json!({"role": "active", "verdict": "graceful", "closed_by": "local"}))?;
    Ok(())
}
