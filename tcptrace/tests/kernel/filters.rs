//! Filters on the real thing. Each lets the sentinels through as well, which are at port 1.

use anyhow::ensure;
use serde_json::json;

use crate::support::{
    Check,
    namespace::Namespace,
    record::{Record, Records},
    sentinel,
    tail::Tail,
    test_process::TestProcess,
    tests,
};

tests![
    a_local_port_shows_the_first_transition_too,
    a_remote_port_shows_the_side_that_connects,
    a_port_shows_both_sides,
    a_port_with_an_exclamation_mark_is_left_out,
    a_network_is_either_address,
    a_network_with_an_exclamation_mark_is_left_out,
    the_families_are_told_apart,
    a_role_is_one_side,
    a_process_is_found_by_its_number,
    a_process_is_found_by_its_name,
    another_namespace_is_not_shown,
    several_filters_must_all_pass,
];

/// Two services, on two networks.
const FIRST: &str = "127.5.0.1:8001";
const SECOND: &str = "127.6.0.1:8002";

/// Who is shown: a role, and the service's port.
type Side = (&'static str, u64);
const ACTIVE_1: Side = ("active", 8001);
const PASSIVE_1: Side = ("passive", 8001);
const ACTIVE_2: Side = ("active", 8002);
const PASSIVE_2: Side = ("passive", 8002);

/// Opens and closes a connection to each address, the client's side first.
fn visit(namespace: &Namespace, listen: &[&str]) -> Check {
    for address in listen {
        let (listener, _) = namespace.listen(address)?;
        drop(namespace.pair(&listener)?);
    }
    Ok(())
}

/// With these filters, and connections to these services, just these sides are shown.
fn only(filters: &[&str], services: &[&str], expected: &[Side]) -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, filters)?;
    visit(&namespace, services)?;
    let records = tail.finish_after(expected.len())?;
    must_show(&records, expected)
}

fn must_show(records: &Records, expected: &[Side]) -> Check {
    let mut shown = Vec::new();
    for record in records.of("connection") {
        let role = record.text("role").unwrap_or_default();
        let port = match role {
            "passive" => record.number("local_port"),
            _ => record.number("remote_port"),
        };
        shown.push((role, port.unwrap_or_default()));
    }
    shown.sort_unstable();
    ensure!(shown == expected, "shown: {shown:?}, meant: {expected:?}");
    Ok(())
}

fn a_local_port_shows_the_first_transition_too() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let ephemeral = namespace.free_port()?;
    // No sentinel is to have it first, for it would leave it in TIME_WAIT.
    let reserved = "ipv4/ip_local_reserved_ports";
    namespace.sysctl(reserved, &ephemeral.to_string())?;
    let filter = format!("{ephemeral},{}", sentinel::PORT);
    let mut tail = Tail::start(
        &namespace,
        &["--show", "transitions", "--local-port", &filter],
    )?;
    namespace.sysctl(reserved, "\n")?;
    // From now on this is the only one that the kernel can choose.
    namespace.sysctl(
        "ipv4/ip_local_port_range",
        &format!("{ephemeral} {ephemeral}"),
    )?;
    let (client, server) = namespace.pair(&listener)?;
    drop(client);
    drop(server);
    tail.wait_closes(1)?;
    let records = tail.finish()?;
    let first = records.0.first().and_then(Record::step);
    ensure!(
        first.as_deref() == Some("CLOSE→SYN_SENT"),
        "the first row is {first:?}"
    );
    records.0[0].must_lack(&["local_port"])?;
    ensure!(records.len() == 5, "not just one side:\n{records}");
    for record in &records.0 {
        record.must_have(&json!({"role": "active", "remote_port": address.port()}))?;
    }
    Ok(())
}

fn a_remote_port_shows_the_side_that_connects() -> Check {
    only(&["--remote-port", "8001,1"], &[FIRST, SECOND], &[ACTIVE_1])
}

fn a_port_shows_both_sides() -> Check {
    only(
        &["--port", "8002,1"],
        &[FIRST, SECOND],
        &[ACTIVE_2, PASSIVE_2],
    )
}

fn a_port_with_an_exclamation_mark_is_left_out() -> Check {
    only(
        &["--port", "!8001"],
        &[FIRST, SECOND],
        &[ACTIVE_2, PASSIVE_2],
    )
}

fn a_network_is_either_address() -> Check {
    let networks = format!("127.5.0.0/16,{},::1", sentinel::NET);
    only(
        &["--cidr", &networks],
        &[FIRST, SECOND],
        &[ACTIVE_1, PASSIVE_1],
    )
}

fn a_network_with_an_exclamation_mark_is_left_out() -> Check {
    only(
        &["--cidr", "!127.6.0.1"],
        &[FIRST, SECOND],
        &[ACTIVE_1, PASSIVE_1],
    )
}

fn the_families_are_told_apart() -> Check {
    let all = [FIRST, "[::1]:8002", "[::ffff:127.0.0.1]:8003"];
    let mapped = [("active", 8003), ("passive", 8003)];
    let v4 = [ACTIVE_1, mapped[0], PASSIVE_1, mapped[1]];
    only(&["-4"], &all, &v4)?;
    only(&["-6"], &all, &[ACTIVE_2, PASSIVE_2])
}

fn a_role_is_one_side() -> Check {
    only(&["--role", "active"], &[FIRST], &[ACTIVE_1])?;
    only(&["--role", "passive"], &[FIRST], &[PASSIVE_1])
}

/// Two clients visit a server, all of them processes of their own.
struct Visit {
    namespace: Namespace,
    server: TestProcess,
    clients: [TestProcess; 2],
}

impl Visit {
    fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        Ok(Self {
            server: TestProcess::start(&namespace, "tt-server")?,
            clients: [
                TestProcess::start(&namespace, "tt-one")?,
                TestProcess::start(&namespace, "tt-two")?,
            ],
            namespace,
        })
    }

    /// Answers the clients' ports.
    fn visit(&mut self) -> anyhow::Result<[u16; 2]> {
        let address = self.server.listen("127.0.0.1:0")?;
        let mut ports = [0; 2];
        for (client, port) in self.clients.iter_mut().zip(&mut ports) {
            *port = client.connect(address)?.port();
            self.server.tell("accept")?;
            client.tell("close")?;
            self.server.tell_all(&["receive-end", "close"])?;
        }
        Ok(ports)
    }
}

fn a_process_is_found_by_its_number() -> Check {
    let mut it = Visit::new()?;
    // The sentinels' connects are this process's own.
    let own = std::process::id();
    let filter = format!("{},{own}", it.clients[0].pid());
    let tail = Tail::start(&it.namespace, &["--pid", &filter])?;
    let ports = it.visit()?;
    let records = tail.finish_after(1)?;
    ensure!(records.of("connection").len() == 1, "more:\n{records}");
    records
        .only("connection", &json!({"role": "active"}))?
        .must_have(&json!({"pid": it.clients[0].pid(), "local_port": ports[0]}))?;

    let filter = format!("{},{own}", it.server.pid());
    let tail = Tail::start(&it.namespace, &["--pid", &filter])?;
    let ports = it.visit()?;
    let records = tail.finish_after(2)?;
    ensure!(records.of("connection").len() == 2, "more:\n{records}");
    for port in ports {
        records
            .only(
                "connection",
                &json!({"role": "passive", "remote_port": port}),
            )?
            .must_have(&json!({"pid": it.server.pid()}))?;
    }
    Ok(())
}

fn a_process_is_found_by_its_name() -> Check {
    let mut it = Visit::new()?;
    let own = std::fs::read_to_string("/proc/self/comm")?;
    let filter = format!("tt-two,{}", own.trim_end());
    let tail = Tail::start(&it.namespace, &["--comm", &filter])?;
    let ports = it.visit()?;
    let records = tail.finish_after(1)?;
    ensure!(records.of("connection").len() == 1, "more:\n{records}");
    records
        .only("connection", &json!({"role": "active"}))?
        .must_have(&json!({"comm": "tt-two", "local_port": ports[1]}))?;

    let tail = Tail::start(&it.namespace, &["--comm", "!tt-two,tt-server"])?;
    let ports = it.visit()?;
    let records = tail.finish_after(1)?;
    ensure!(records.of("connection").len() == 1, "more:\n{records}");
    records
        .only("connection", &json!({"role": "active"}))?
        .must_have(&json!({"comm": "tt-one", "local_port": ports[0]}))
}

fn another_namespace_is_not_shown() -> Check {
    let (namespace, other) = (Namespace::new()?, Namespace::new()?);
    let tail = Tail::start(&namespace, &[])?;
    visit(&other, &[SECOND])?;
    visit(&namespace, &[FIRST])?;
    must_show(&tail.finish_after(2)?, &[ACTIVE_1, PASSIVE_1])
}

fn several_filters_must_all_pass() -> Check {
    let filters = ["--port", "8001,1", "--role", "active", "-4"];
    only(&filters, &[FIRST, SECOND], &[ACTIVE_1])
}
