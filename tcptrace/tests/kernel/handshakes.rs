//! Handshakes: how they fail, each with its verdict and error, and what is counted in them.

use std::net::{Shutdown, SocketAddr};

use anyhow::ensure;
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{
    Check,
    namespace::Namespace,
    packet::{ACK, FIN, RST, SYN},
    record::{Record, Records, path},
    sockets::{ESTABLISHED, bound, disconnect, local, set_tcp_option, wait_state},
    tail::Tail,
    tests,
    wire::{PEER, PORT, Peer, Wire},
};

tests![
    a_rst_to_a_syn_is_refused,
    a_connect_that_is_closed_is_cancelled,
    a_connect_that_is_shut_down_is_cancelled,
    a_connect_that_is_disconnected_is_cancelled,
    a_syn_that_nobody_answers_times_out,
    an_unreachable_host_is_unreachable,
    an_unreachable_port_is_unreachable_though_its_error_says_refused,
    a_connect_without_a_free_port_says_so,
    a_connect_that_fails_locally_is_a_failed_handshake,
    a_crossed_open_that_is_reset_is_a_failed_handshake,
    a_crossed_open_is_simultaneous,
    a_retransmitted_syn_is_counted,
    a_retransmitted_syn_ack_is_counted,
    a_syn_that_is_never_acknowledged_leaves_no_record,
    a_fast_open_is_a_passive_open,
];

const EVERYTHING: [&str; 2] = ["--show", "transitions,handshakes,connections"];

/// The one connection that never was: its record, after CLOSE→SYN_SENT→CLOSE and nothing else.
fn failed(records: &Records) -> anyhow::Result<&Record> {
    let steps = records.steps(&json!({"role": "active"}))?;
    ensure!(
        steps == path(&["CLOSE", "SYN_SENT", "CLOSE"]),
        "the path was {steps:?}"
    );
    ensure!(
        records.of("handshake").is_empty(),
        "a handshake:\n{records}"
    );
    let record = records.only("connection", &json!({"role": "active"}))?;
    record.must_have(&json!({
        "established": false, "last_state": "SYN_SENT", "completeness": "full",
        "pid": std::process::id(), "pid_source": "connect", "uid": 0,
        "bytes_sent": 0, "bytes_received": 0,
    }))?;
    record.must_lack(&["established_at", "handshake_us", "established_us"])?;
    Ok(record)
}

fn a_rst_to_a_syn_is_refused() -> Check {
    let namespace = Namespace::new()?;
    let port = namespace.free_port()?;
    let tail = Tail::start(&namespace, &EVERYTHING)?;
    let to = SocketAddr::from(([127, 0, 0, 1], port));
    ensure!(namespace.connect(to).is_err(), "somebody listens");
    let records = tail.finish_after(1)?;
    let record = failed(&records)?;
    record.must_have(&json!({
        "verdict": "refused", "errno": "ECONNREFUSED", "errno_number": 111,
        "remote_address": "127.0.0.1", "remote_port": port, "retransmits": 0,
    }))?;
    ensure!(record.number("local_port").is_some(), "{record}");
    Ok(())
}

fn a_connect_that_is_closed_is_cancelled() -> Check {
    cancelled(|socket| {
        drop(socket);
        Ok(())
    })
}

fn a_connect_that_is_shut_down_is_cancelled() -> Check {
    cancelled(|socket| Ok(socket.shutdown(Shutdown::Both)?))
}

fn a_connect_that_is_disconnected_is_cancelled() -> Check {
    cancelled(|socket| Ok(disconnect(&socket)?))
}

fn cancelled(give_up: impl FnOnce(Socket) -> Check) -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let tail = Tail::start(&namespace, &EVERYTHING)?;
    let socket = wire.socket()?;
    wire.begin(&socket)?;
    give_up(socket)?;
    let records = tail.finish_after(1)?;
    let record = failed(&records)?;
    record.must_have(&json!({
        "verdict": "cancelled", "closed_by": "local",
        "remote_address": PEER, "remote_port": PORT,
    }))?;
    record.must_lack(&["errno", "errno_number"])
}

fn a_syn_that_nobody_answers_times_out() -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let tail = Tail::start(&namespace, &EVERYTHING)?;
    let socket = wire.socket()?;
    set_tcp_option(&socket, libc::TCP_SYNCNT, 1)?;
    wire.begin(&socket)?;
    let records = tail.finish_after(1)?;
    // TCP_SYNCNT is not all that decides how often it is tried (tcp_syn_linear_timeouts).
    let again = wire.unheard()?.len();
    ensure!(again > 0, "the SYN was sent once");
    failed(&records)?.must_have(&json!({
        "verdict": "handshake_timeout", "errno": "ETIMEDOUT", "errno_number": 110,
        "retransmits": again, "segments_sent": 1 + again, "segments_received": 0,
    }))
}

fn an_unreachable_host_is_unreachable() -> Check {
    const HOST_UNREACHABLE: u8 = 1;
    unreachable(HOST_UNREACHABLE, "EHOSTUNREACH", 113)
}

fn an_unreachable_port_is_unreachable_though_its_error_says_refused() -> Check {
    const PORT_UNREACHABLE: u8 = 3;
    unreachable(PORT_UNREACHABLE, "ECONNREFUSED", 111)
}

fn unreachable(code: u8, errno: &str, number: u16) -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let tail = Tail::start(&namespace, &EVERYTHING)?;
    let socket = wire.socket()?;
    let (peer, syn) = wire.begin(&socket)?;
    peer.say_unreachable(&syn, code)?;
    let records = tail.finish_after(1)?;
    failed(&records)?.must_have(&json!({
        "verdict": "unreachable", "errno": errno, "errno_number": number,
    }))
}

fn a_connect_without_a_free_port_says_so() -> Check {
    let namespace = Namespace::new()?;
    let (_listener, address) = namespace.listen("127.0.0.1:0")?;
    let only = namespace.free_port()?;
    let tail = Tail::start(&namespace, &["--show", "transitions,connections"])?;
    namespace.sysctl("ipv4/ip_local_port_range", &format!("{only} {only}"))?;
    let first = namespace.connect(address)?;
    ensure!(first.local_addr()?.port() == only, "another port");
    ensure!(
        namespace.connect(address).is_err(),
        "a second port was free"
    );
    let records = tail.finish_after(1)?;
    let record = records.only("connection", &json!({"verdict": "no_local_port"}))?;
    record.must_have(&json!({
        "established": false, "last_state": "SYN_SENT", "remote_port": address.port(),
        "segments_sent": 0,
    }))?;
    record.must_lack(&["local_port", "errno"])?;
    ensure!(
        records.of("connection").len() == 1,
        "more than one ended:\n{records}"
    );
    Ok(())
}

fn a_connect_that_fails_locally_is_a_failed_handshake() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &["--show", "transitions,connections"])?;
    // Two sockets may be bound to one port; only one of them can have the peer.
    let from = namespace.run(|| {
        let first = bound("127.0.0.1:0")?;
        let second = bound(&local(&first)?.to_string())?;
        first.connect(&address.into())?;
        ensure!(second.connect(&address.into()).is_err(), "both connected");
        drop(second);
        listener.accept()?;
        local(&first)
    })?;
    tail.wait_count("connection", 3)?;
    let records = tail.finish()?;
    let record = records.only("connection", &json!({"established": false}))?;
    record.must_have(&json!({
        "verdict": "handshake_failed", "last_state": "SYN_SENT",
        "local_port": from.port(), "remote_port": address.port(), "segments_sent": 0,
    }))?;
    record.must_lack(&["errno"])
}

fn a_crossed_open_that_is_reset_is_a_failed_handshake() -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let tail = Tail::start(&namespace, &EVERYTHING)?;
    let socket = wire.socket()?;
    let (mut peer, _) = wire.begin(&socket)?;
    peer.say(SYN, &[])?;
    peer.hear(|segment| segment.flags & (SYN | ACK) == SYN | ACK)?;
    peer.say_reset()?;
    let records = tail.finish_after(1)?;
    let steps = records.steps(&json!({"role": "simultaneous"}))?;
    ensure!(
        steps == path(&["CLOSE", "SYN_SENT", "SYN_RECV", "CLOSE"]),
        "the path was {steps:?}"
    );
    records.only("connection", &json!({}))?.must_have(&json!({
        "verdict": "handshake_failed", "role": "simultaneous",
        "established": false, "last_state": "SYN_RECV",
    }))
}

fn a_crossed_open_is_simultaneous() -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let tail = Tail::start(&namespace, &EVERYTHING)?;
    let socket = wire.socket()?;
    let (mut peer, _) = wire.begin(&socket)?;
    peer.say(SYN, &[])?;
    peer.hear(|segment| segment.flags & (SYN | ACK) == SYN | ACK)?;
    peer.say(ACK, &[])?;
    wait_state(&socket, ESTABLISHED)?;
    drop(socket);
    peer.take(|segment| segment.flags & FIN != 0)?;
    peer.say(FIN | ACK, &[])?;
    let records = tail.finish_after(1)?;
    let steps = records.steps(&json!({"role": "simultaneous"}))?;
    ensure!(
        steps.starts_with(&path(&["CLOSE", "SYN_SENT", "SYN_RECV", "ESTABLISHED"])),
        "the path was {steps:?}"
    );
    let handshake = records.only("handshake", &json!({"role": "simultaneous"}))?;
    handshake.must_have(&json!({"handshake_source": "syn_sent"}))?;
    records
        .only("connection", &json!({"role": "simultaneous"}))?
        .must_have(&json!({"verdict": "graceful", "closed_by": "local", "pid_source": "connect"}))
}

fn a_retransmitted_syn_is_counted() -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let tail = Tail::start(&namespace, &[])?;
    let socket = wire.socket()?;
    let (mut peer, _) = wire.begin(&socket)?;
    peer.hear(|segment| segment.flags & SYN != 0)?;
    peer.say(SYN | ACK, &[])?;
    peer.hear(|segment| segment.flags & SYN == 0)?;
    peer.say_reset()?;
    let records = tail.finish_after(1)?;
    for kind in ["handshake", "connection"] {
        let record = records.only(kind, &json!({"role": "active"}))?;
        record.must_have(&json!({"syn_retransmits": 1, "handshake_source": "syn_sent"}))?;
        // The wait for the retransmit, a second (TCP_TIMEOUT_INIT), is part of it.
        ensure!(
            record.number("handshake_us").is_some_and(|us| us > 500_000),
            "{record}"
        );
    }
    Ok(())
}

fn a_retransmitted_syn_ack_is_counted() -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let tail = Tail::start(&namespace, &[])?;
    let SocketAddr::V4(here) = address else {
        anyhow::bail!("an IPv6 address: {address}");
    };
    let mut peer = Peer::connecting(&wire, (*here.ip(), here.port()));
    peer.say(SYN, &[])?;
    peer.hear(|segment| segment.flags & SYN != 0)?;
    peer.take(|segment| segment.flags & SYN != 0)?;
    peer.say(ACK, &[])?;
    let (server, _) = listener.accept()?;
    peer.say_reset()?;
    let records = tail.finish_after(1)?;
    drop(server);
    for kind in ["handshake", "connection"] {
        let record = records.only(kind, &json!({"role": "passive"}))?;
        record.must_have(&json!({"syn_retransmits": 1, "remote_address": PEER}))?;
    }
    Ok(())
}

fn a_syn_that_is_never_acknowledged_leaves_no_record() -> Check {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let (_listener, address) = namespace.listen("127.0.0.1:0")?;
    let tail = Tail::start(&namespace, &EVERYTHING)?;
    let SocketAddr::V4(here) = address else {
        anyhow::bail!("an IPv6 address: {address}");
    };
    let mut peer = Peer::connecting(&wire, (*here.ip(), here.port()));
    peer.say(SYN, &[])?;
    peer.take(|segment| segment.flags & SYN != 0)?;
    peer.say(RST, &[])?;
    let records = tail.finish()?;
    ensure!(records.len() == 0, "something was shown:\n{records}");
    Ok(())
}

fn a_fast_open_is_a_passive_open() -> Check {
    let namespace = Namespace::new()?;
    // Both sides, without cookies and without the listener's asking for it.
    namespace.sysctl("ipv4/tcp_fastopen", "1543")?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &EVERYTHING)?;
    let client = namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        let sent = socket.send_to_with_flags(b"hello", &address.into(), libc::MSG_FASTOPEN)?;
        ensure!(sent == 5, "{sent} bytes were sent");
        Ok(socket)
    })?;
    let (mut server, _) = listener.accept()?;
    std::io::Read::read_exact(&mut server, &mut [0; 5])?;
    drop(client);
    ensure!(
        std::io::Read::read(&mut server, &mut [0])? == 0,
        "more data"
    );
    drop(server);
    tail.wait_count("connection", 2)?;
    let records = tail.finish()?;
    let steps = records.steps(&json!({"role": "passive"}))?;
    ensure!(
        steps.starts_with(&path(&["LISTEN", "SYN_RECV", "ESTABLISHED"])),
        "the path was {steps:?}"
    );
    for role in ["active", "passive"] {
        records
            .only("connection", &json!({"role": role}))?
            .must_have(&json!({"verdict": "graceful", "established": true}))?;
    }
    let both = |name: &str, role: &str| -> anyhow::Result<Option<u64>> {
        let record = records.only("connection", &json!({"role": role}))?;
        Ok(record.number(name))
    };
    ensure!(both("bytes_received", "passive")? == Some(5), "{records}");
    ensure!(both("bytes_sent", "active")? == Some(5), "{records}");
    Ok(())
}
