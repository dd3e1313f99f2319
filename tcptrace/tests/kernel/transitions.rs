//! `--show transitions`: the exact path of a socket through its states, for the lives that plain
//! sockets can lead.

use std::{
    io::{Read, Write},
    net::Shutdown,
};

use anyhow::ensure;
use serde_json::json;

use crate::support::{
    Check,
    namespace::Namespace,
    record::{Record, path},
    sockets::{CLOSE_WAIT, FIN_WAIT2, abort_at_close, bound, local, wait_state},
    tail::Tail,
    tests,
};

tests![
    both_closers_take_their_path,
    a_listener_begins_and_ends,
    a_listener_on_an_unbound_socket_has_no_port_yet,
    a_listen_that_fails_begins_and_ends_at_once,
    close_after_shutdown_enters_the_same_state_again,
    a_half_close_by_the_active_side_lets_data_come_back,
    a_half_close_by_the_passive_side_lets_data_come_back,
    a_connect_to_itself_is_a_simultaneous_open_and_close,
    a_refused_connect_goes_back_to_close,
    an_abort_skips_the_release,
    a_socket_that_connects_again_is_another_connection,
];

const ONLY_TRANSITIONS: [&str; 2] = ["--show", "transitions"];
const ACTIVE: [&str; 6] = [
    "CLOSE",
    "SYN_SENT",
    "ESTABLISHED",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "CLOSE",
];
const PASSIVE: [&str; 6] = [
    "LISTEN",
    "SYN_RECV",
    "ESTABLISHED",
    "CLOSE_WAIT",
    "LAST_ACK",
    "CLOSE",
];

fn must_be(steps: &[String], expected: &[&str]) -> Check {
    ensure!(steps == path(expected), "the path was {steps:?}");
    Ok(())
}

fn both_closers_take_their_path() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &ONLY_TRANSITIONS)?;
    let (client, mut server) = namespace.pair(&listener)?;
    let from = client.local_addr()?;
    drop(client);
    ensure!(server.read(&mut [0])? == 0, "data came");
    drop(server);
    tail.wait_closes(2)?;
    let records = tail.finish()?;
    must_be(&records.steps(&json!({"role": "active"}))?, &ACTIVE)?;
    must_be(&records.steps(&json!({"role": "passive"}))?, &PASSIVE)?;
    ensure!(
        records.len() == 10,
        "more than their transitions:\n{records}"
    );
    let (opens, others): (Vec<&Record>, Vec<&Record>) = records
        .0
        .iter()
        .partition(|record| matches!(record.text("from"), Some("CLOSE" | "LISTEN")));
    for record in opens {
        record.must_lack(&["in_state_us"])?;
    }
    for record in others {
        ensure!(record.number("in_state_us").is_some(), "{record}");
    }
    // The port is chosen after the first transition.
    let first = records.only("transition", &json!({"to": "SYN_SENT"}))?;
    first.must_lack(&["local_port"])?;
    first.must_have(&json!({"remote_port": address.port()}))?;
    records
        .only("transition", &json!({"to": "FIN_WAIT1"}))?
        .must_have(&json!({"local_port": from.port()}))
}

fn a_listener_begins_and_ends() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &ONLY_TRANSITIONS)?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    drop(listener);
    tail.wait_closes(1)?;
    let records = tail.finish()?;
    must_be(
        &records.steps(&json!({"local_port": address.port()}))?,
        &["CLOSE", "LISTEN", "CLOSE"],
    )?;
    ensure!(records.len() == 2, "more than the listener's:\n{records}");
    for record in &records.0 {
        record.must_lack(&["role", "remote_address", "remote_port"])?;
        record.must_have(&json!({
            "local_address": "127.0.0.1",
            "pid": std::process::id(),
            "pid_source": "listen",
        }))?;
    }
    records.0[0].must_lack(&["in_state_us"])?;
    ensure!(records.0[1].number("in_state_us").is_some(), "{records}");
    Ok(())
}

fn a_listener_on_an_unbound_socket_has_no_port_yet() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &ONLY_TRANSITIONS)?;
    let port = namespace.run(|| {
        use socket2::{Domain, Socket, Type};
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.listen(1)?;
        Ok(local(&socket)?.port())
    })?;
    tail.wait_closes(1)?;
    let records = tail.finish()?;
    let begins = records.only("transition", &json!({"to": "LISTEN"}))?;
    begins.must_lack(&["local_port"])?;
    begins.must_have(&json!({"local_address": "0.0.0.0"}))?;
    let ends = records.only("transition", &json!({"from": "LISTEN"}))?;
    ensure!(begins.text("id") == ends.text("id"), "two ids:\n{records}");
    ensure!(
        ends.number("local_port")
            .is_none_or(|own| own == u64::from(port)),
        "{ends}"
    );
    Ok(())
}

fn a_listen_that_fails_begins_and_ends_at_once() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &ONLY_TRANSITIONS)?;
    namespace.run(|| {
        // Two sockets may be bound to one port while neither listens.
        let first = bound("127.0.0.1:0")?;
        let second = bound(&local(&first)?.to_string())?;
        first.listen(1)?;
        ensure!(second.listen(1).is_err(), "both listen");
        Ok(())
    })?;
    tail.wait_closes(2)?;
    let records = tail.finish()?;
    let steps: Vec<_> = records.0.iter().filter_map(Record::step).collect();
    ensure!(
        steps
            == [
                "CLOSE→LISTEN",
                "CLOSE→LISTEN",
                "LISTEN→CLOSE",
                "LISTEN→CLOSE"
            ],
        "{steps:?}"
    );
    ensure!(
        records.0[1].text("id") == records.0[2].text("id"),
        "the second one ends first:\n{records}"
    );
    Ok(())
}

fn close_after_shutdown_enters_the_same_state_again() -> Check {
    let namespace = Namespace::new()?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &ONLY_TRANSITIONS)?;
    let (client, mut server) = namespace.pair(&listener)?;
    client.shutdown(Shutdown::Write)?;
    ensure!(server.read(&mut [0])? == 0, "data came");
    wait_state(&client, FIN_WAIT2)?;
    drop(client);
    drop(server);
    tail.wait_closes(2)?;
    let records = tail.finish()?;
    must_be(
        &records.steps(&json!({"role": "active"}))?,
        &[
            "CLOSE",
            "SYN_SENT",
            "ESTABLISHED",
            "FIN_WAIT1",
            "FIN_WAIT2",
            "FIN_WAIT2",
            "CLOSE",
        ],
    )?;
    must_be(&records.steps(&json!({"role": "passive"}))?, &PASSIVE)
}

fn a_half_close_by_the_active_side_lets_data_come_back() -> Check {
    half_close(true)
}

fn a_half_close_by_the_passive_side_lets_data_come_back() -> Check {
    half_close(false)
}

fn half_close(active_first: bool) -> Check {
    let namespace = Namespace::new()?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &["--show", "transitions,connections"])?;
    let (active, passive) = namespace.pair(&listener)?;
    let (mut first, mut second) = if active_first {
        (active, passive)
    } else {
        (passive, active)
    };
    first.write_all(b"question")?;
    first.shutdown(Shutdown::Write)?;
    let mut question = String::new();
    second.read_to_string(&mut question)?;
    wait_state(&first, FIN_WAIT2)?;
    second.write_all(b"a longer answer")?;
    drop(second);
    let mut answer = String::new();
    first.read_to_string(&mut answer)?;
    drop(first);
    tail.wait_count("connection", 2)?;
    let records = tail.finish()?;
    let (first, second) = if active_first {
        ("active", "passive")
    } else {
        ("passive", "active")
    };
    let path_of = |role: &str, tail: &'static [&str]| {
        let head = if role == "active" { ACTIVE } else { PASSIVE };
        [&head[..3], tail].concat()
    };
    // The peer's FIN came to the full socket: it did not wait in TIME_WAIT's minisocket for it.
    let closes_first = path_of(first, &["FIN_WAIT1", "FIN_WAIT2", "CLOSE"]);
    let closes_second = path_of(second, &["CLOSE_WAIT", "LAST_ACK", "CLOSE"]);
    must_be(&records.steps(&json!({"role": first}))?, &closes_first)?;
    must_be(&records.steps(&json!({"role": second}))?, &closes_second)?;
    records
        .only("connection", &json!({"role": first}))?
        .must_have(&json!({
            "verdict": "graceful", "closed_by": "local", "peer_fin": true,
            "bytes_sent": question.len(), "bytes_received": answer.len(),
        }))?;
    records
        .only("connection", &json!({"role": second}))?
        .must_have(&json!({
            "verdict": "graceful", "closed_by": "remote", "peer_fin": true,
            "bytes_sent": answer.len(), "bytes_received": question.len(),
        }))?;
    for record in records.of("connection") {
        ensure!(record.number("half_closed_us").is_some(), "{record}");
    }
    Ok(())
}

fn a_connect_to_itself_is_a_simultaneous_open_and_close() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &["--show", "transitions,connections"])?;
    let port = namespace.run(|| {
        let socket = bound("127.0.0.1:0")?;
        let own = local(&socket)?;
        socket.connect(&own.into())?;
        Ok(own.port())
    })?;
    tail.wait_count("connection", 1)?;
    let records = tail.finish()?;
    let own = json!({"local_port": port, "remote_port": port});
    must_be(
        &records.steps(&own)?,
        &[
            "CLOSE",
            "SYN_SENT",
            "SYN_RECV",
            "ESTABLISHED",
            "FIN_WAIT1",
            "CLOSING",
            "CLOSE",
        ],
    )?;
    let record = records.only("connection", &own)?;
    record.must_have(&json!({
        "role": "simultaneous", "verdict": "graceful", "closed_by": "simultaneous",
        "handshake_source": "syn_sent", "pid_source": "connect", "peer_fin": true,
    }))
}

fn a_refused_connect_goes_back_to_close() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start(&namespace, &ONLY_TRANSITIONS)?;
    let to = format!("127.0.0.1:{}", namespace.free_port()?).parse()?;
    ensure!(namespace.connect(to).is_err(), "somebody listens");
    // The port was found by listening.
    tail.wait_closes(2)?;
    let records = tail.finish()?;
    must_be(
        &records.steps(&json!({"role": "active"}))?,
        &["CLOSE", "SYN_SENT", "CLOSE"],
    )
}

fn an_abort_skips_the_release() -> Check {
    let namespace = Namespace::new()?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let mut tail = Tail::start(&namespace, &ONLY_TRANSITIONS)?;
    let (client, server) = namespace.pair(&listener)?;
    abort_at_close(&client)?;
    drop(client);
    tail.wait_closes(2)?;
    drop(server);
    let records = tail.finish()?;
    for (role, start) in [("active", ACTIVE), ("passive", PASSIVE)] {
        let steps = records.steps(&json!({"role": role}))?;
        must_be(&steps, &[&start[..3], &["CLOSE"]].concat())?;
    }
    ensure!(records.len() == 6, "more than that:\n{records}");
    Ok(())
}

fn a_socket_that_connects_again_is_another_connection() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let nobody = format!("127.0.0.1:{}", namespace.free_port()?).parse()?;
    let mut tail = Tail::start(&namespace, &["--show", "transitions,connections"])?;
    let (client, server) = namespace.run(|| {
        let socket = bound("127.0.0.1:0")?;
        must_be_refused(&socket, nobody)?;
        socket.set_nonblocking(false)?;
        socket.connect(&address.into())?;
        Ok((socket, listener.accept()?.0))
    })?;
    drop(client);
    wait_state(&server, CLOSE_WAIT)?;
    drop(server);
    tail.wait_count("connection", 3)?;
    let records = tail.finish()?;
    let again = json!({"role": "active", "remote_port": address.port()});
    must_be(&records.steps(&again)?, &ACTIVE)?;
    records
        .only("connection", &again)?
        .must_have(&json!({"verdict": "graceful", "completeness": "full"}))?;
    records
        .only("connection", &json!({"verdict": "refused"}))?
        .must_have(&json!({"remote_port": nobody.port(), "completeness": "full"}))
}

fn must_be_refused(socket: &socket2::Socket, to: std::net::SocketAddr) -> Check {
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNREFUSED) => Ok(()),
        other => anyhow::bail!("not refused: {other:?}"),
    }
}
