//! One connection between two processes: each side's records, in all that a record says.

use std::{io::Read, net::Shutdown};

use anyhow::{Context, ensure};
use serde_json::json;

use crate::support::{
    Check,
    namespace::Namespace,
    sockets::{bound, local},
    tail::Tail,
    talk::{IPV4, IPV6, MAPPED, Over, Talk},
    test_process::TestProcess,
    tests, wait_for,
};

tests![
    an_ipv4_connection_is_told_by_both_sides,
    an_ipv6_connection_is_told_by_both_sides,
    an_ipv4_mapped_connection_is_ipv4,
    a_process_is_named_by_its_first_thread,
    a_connect_takes_the_place_of_one_in_time_wait,
];

fn an_ipv4_connection_is_told_by_both_sides() -> Check {
    check_talk(&IPV4)
}

fn an_ipv6_connection_is_told_by_both_sides() -> Check {
    check_talk(&IPV6)
}

fn an_ipv4_mapped_connection_is_ipv4() -> Check {
    check_talk(&MAPPED)
}

fn check_talk(over: &Over) -> Check {
    let mut talk = Talk::new()?;
    let tail = Tail::start(talk.namespace(), &[])?;
    let said = talk.talk(over, 0)?;
    talk.check_records(&tail.finish_after(2)?, &said, over)
}

fn a_process_is_named_by_its_first_thread() -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, &[])?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut client = TestProcess::start(&namespace, "tt-leader")?;
    client.tell(&format!("connect-as tt-worker {address}"))?;
    let (server, _) = listener.accept()?;
    client.tell("close")?;
    drop(server);
    let records = tail.finish_after(2)?;
    let active = records.only("connection", &json!({"role": "active"}))?;
    active.must_have(&json!({"comm": "tt-leader", "pid": client.pid()}))
}

/// `tcp_tw_reuse`: the kernel gives the place away once a second has passed.
fn a_connect_takes_the_place_of_one_in_time_wait() -> Check {
    let namespace = Namespace::new()?;
    namespace.sysctl("ipv4/tcp_tw_reuse", "1")?;
    let show = ["--show", "connections,release"];
    let tail = Tail::start(&namespace, &show)?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let mut client = namespace.run(|| bound("127.0.0.1:0"))?;
    client.connect(&address.into())?;
    let place = local(&client)?;
    let (mut server, _) = listener.accept()?;
    client.shutdown(Shutdown::Write)?;
    ensure!(server.read(&mut [0])? == 0, "there was data");
    drop(server);
    ensure!(client.read(&mut [0])? == 0, "there was data");
    drop(client);

    let client = wait_for("the place to be given away", || {
        let client = namespace.run(|| bound(&place.to_string()))?;
        match client.connect(&address.into()) {
            Ok(()) => Ok(Some(client)),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(None),
            Err(error) => Err(error).context("connecting again"),
        }
    })?;
    drop(listener.accept()?);
    drop(client);
    let mut tail = tail;
    tail.wait_count("connection", 4)?;
    let records = tail.finish()?;
    let first = records
        .of("connection")
        .into_iter()
        .find(|record| record.text("role") == Some("active"))
        .context("no connection of the client's")?;
    first.must_have(&json!({"time_wait": true, "local_port": place.port()}))?;
    records
        .only("release", &json!({"outcome": "reused"}))?
        .must_have(&json!({"id": first.text("id"), "role": "active"}))
}
