//! One connection between two processes: each side's records, in all that a record says.

use anyhow::ensure;
use serde_json::json;

use crate::support::{
    Check,
    namespace::Namespace,
    program::tcptrace,
    puppet::Puppet,
    record::Record,
    sockets::bound,
    tail::Tail,
    talk::{IPV4, IPV6, MAPPED, Over, Talk},
    tests,
};

tests![
    an_ipv4_connection_is_told_by_both_sides,
    an_ipv6_connection_is_told_by_both_sides,
    an_ipv4_mapped_connection_is_ipv4,
    a_process_is_named_by_its_first_thread,
    a_connection_is_seen_without_any_filter,
    a_connect_without_a_route_leaves_no_trace,
    a_port_without_traffic_leaves_no_record,
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
    let mut client = Puppet::start(&namespace, "tt-leader")?;
    client.tell(&format!("connect-as tt-worker {address}"))?;
    let (server, _) = listener.accept()?;
    client.tell("close")?;
    drop(server);
    let records = tail.finish_after(2)?;
    let active = records.only("connection", &json!({"role": "active"}))?;
    active.must_have(&json!({"comm": "tt-leader", "pid": client.pid()}))
}

fn a_connection_is_seen_without_any_filter() -> Check {
    let namespace = Namespace::new()?;
    let mut tail = Tail::start_as(&namespace, &mut tcptrace(&["tail", "--format", "json"]))?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let (client, server) = namespace.pair(&listener)?;
    let from = client.local_addr()?;
    drop(client);
    drop(server);
    let mine = |record: &&Record| {
        record.number("netns") == Some(namespace.inode().into()) && record.is("connection")
    };
    tail.wait("both sides", |records| {
        records.0.iter().filter(mine).count() == 2
    })?;
    let (records, output) = tail.interrupt()?;
    output.must_end_with(0)?;
    let ends = |record: &Record| {
        let local = record.number("local_port");
        (local, record.number("remote_port"))
    };
    let (from, to) = (Some(from.port().into()), Some(address.port().into()));
    let found: Vec<_> = records.0.iter().filter(mine).map(ends).collect();
    ensure!(
        found.contains(&(from, to)) && found.contains(&(to, from)) && found.len() == 2,
        "{found:?}"
    );
    Ok(())
}

fn a_connect_without_a_route_leaves_no_trace() -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(
        &namespace,
        &["--show", "transitions,handshakes,connections"],
    )?;
    ensure!(
        namespace.connect("203.0.113.1:80".parse()?).is_err(),
        "connected without a route"
    );
    ensure!(tail.finish()?.len() == 0, "something was shown");
    Ok(())
}

fn a_port_without_traffic_leaves_no_record() -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(
        &namespace,
        &["--show", "transitions,handshakes,connections"],
    )?;
    // bind() alone is no transition.
    let _bound = bound("127.0.0.1:0")?;
    let records = tail.finish()?;
    ensure!(records.len() == 0, "something was shown:\n{records}");
    Ok(())
}
