//! Filters on the real thing. Each tail's filter lets the sentinels through as well.

use std::net::SocketAddr;

use anyhow::ensure;
use serde_json::json;

use crate::support::{
    Check, ignored,
    namespace::Namespace,
    puppet::Puppet,
    record::{Record, Records},
    sentinel,
    tail::Tail,
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

/// Opens and closes a connection to each address, the client's side first.
fn visit(namespace: &Namespace, listen: &[&str]) -> anyhow::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for address in listen {
        let (listener, address) = namespace.listen(address)?;
        let (client, server) = namespace.pair(&listener)?;
        drop(client);
        drop(server);
        addresses.push(address);
    }
    Ok(addresses)
}

/// The connections shown: role and the service's port.
fn services(records: &Records) -> Vec<(String, u64)> {
    let mut services: Vec<_> = records
        .of("connection")
        .into_iter()
        .filter_map(|record| {
            let role = record.text("role")?;
            let port = match role {
                "passive" => record.number("local_port"),
                _ => record.number("remote_port"),
            };
            Some((role.to_owned(), port?))
        })
        .collect();
    services.sort();
    services
}

fn both_sides(port: u16) -> Vec<(String, u64)> {
    ["active", "passive"]
        .map(|role| (role.to_owned(), port.into()))
        .into()
}

fn must_show(records: &Records, expected: &[(String, u64)]) -> Check {
    let shown = services(records);
    ensure!(shown == expected, "shown: {shown:?}, meant: {expected:?}");
    Ok(())
}

fn a_local_port_shows_the_first_transition_too() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let ephemeral = namespace.free_port()?;
    let filter = format!("{ephemeral},{}", sentinel::PORT);
    let mut tail = Tail::start(
        &namespace,
        &["--show", "transitions", "--local-port", &filter],
    )?;
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
    let namespace = Namespace::new()?;
    let ports = [namespace.free_port()?, namespace.free_port()?];
    let filter = format!("{},{}", ports[0], sentinel::PORT);
    let tail = Tail::start(&namespace, &["--remote-port", &filter])?;
    visit_ports(&namespace, &ports)?;
    let records = tail.finish_after(1)?;
    must_show(&records, &both_sides(ports[0])[..1])
}

fn a_port_shows_both_sides() -> Check {
    let namespace = Namespace::new()?;
    let ports = [namespace.free_port()?, namespace.free_port()?];
    let filter = format!("{},{}", ports[1], sentinel::PORT);
    let tail = Tail::start(&namespace, &["--port", &filter])?;
    visit_ports(&namespace, &ports)?;
    let records = tail.finish_after(2)?;
    must_show(&records, &both_sides(ports[1]))
}

fn a_port_with_an_exclamation_mark_is_left_out() -> Check {
    let namespace = Namespace::new()?;
    let ports = [namespace.free_port()?, namespace.free_port()?];
    let filter = format!("!{}", ports[0]);
    let tail = Tail::start(&namespace, &["--port", &filter])?;
    visit_ports(&namespace, &ports)?;
    let records = tail.finish_after(2)?;
    must_show(&records, &both_sides(ports[1]))
}

fn visit_ports(namespace: &Namespace, ports: &[u16]) -> Check {
    for port in ports {
        visit(namespace, &[&format!("127.0.0.1:{port}")])?;
    }
    Ok(())
}

fn a_network_is_either_address() -> Check {
    let namespace = Namespace::new()?;
    let filter = format!("127.5.0.0/16,{},::1", sentinel::NET);
    let tail = Tail::start(&namespace, &["--cidr", &filter])?;
    let visited = visit(&namespace, &["127.6.0.1:0", "127.5.0.1:0"])?;
    let records = tail.finish_after(2)?;
    must_show(&records, &both_sides(visited[1].port()))
}

fn a_network_with_an_exclamation_mark_is_left_out() -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, &["--cidr", "!127.6.0.1"])?;
    let visited = visit(&namespace, &["127.6.0.1:0", "127.5.0.1:0"])?;
    let records = tail.finish_after(2)?;
    must_show(&records, &both_sides(visited[1].port()))
}

fn the_families_are_told_apart() -> Check {
    let namespace = Namespace::new()?;
    if !namespace.sentinel().has_ipv6() {
        return Err(ignored("no IPv6 here"));
    }
    for (flag, shown) in [("-4", [0, 2].as_slice()), ("-6", &[1])] {
        let tail = Tail::start(&namespace, &[flag])?;
        let visited = visit(
            &namespace,
            &["127.0.0.1:0", "[::1]:0", "[::ffff:127.0.0.1]:0"],
        )?;
        let records = tail.finish_after(2 * shown.len())?;
        let mut expected: Vec<_> = shown
            .iter()
            .flat_map(|&index| both_sides(visited[index].port()))
            .collect();
        expected.sort();
        must_show(&records, &expected)?;
    }
    Ok(())
}

fn a_role_is_one_side() -> Check {
    let namespace = Namespace::new()?;
    for (index, role) in ["active", "passive"].into_iter().enumerate() {
        let tail = Tail::start(&namespace, &["--role", role])?;
        let visited = visit(&namespace, &["127.0.0.1:0"])?;
        let records = tail.finish_after(1)?;
        must_show(&records, &both_sides(visited[0].port())[index..=index])?;
    }
    Ok(())
}

/// Two clients visit a server, all of them processes of their own.
struct Visit {
    namespace: Namespace,
    server: Puppet,
    clients: [Puppet; 2],
}

impl Visit {
    fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        Ok(Self {
            server: Puppet::start(&namespace, "tt-server")?,
            clients: [
                Puppet::start(&namespace, "tt-one")?,
                Puppet::start(&namespace, "tt-two")?,
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
    visit(&other, &["127.0.0.1:0"])?;
    let visited = visit(&namespace, &["127.0.0.1:0"])?;
    let records = tail.finish_after(2)?;
    must_show(&records, &both_sides(visited[0].port()))
}

fn several_filters_must_all_pass() -> Check {
    let namespace = Namespace::new()?;
    let ports = [namespace.free_port()?, namespace.free_port()?];
    let filter = format!("{},{}", ports[0], sentinel::PORT);
    let tail = Tail::start(&namespace, &["--port", &filter, "--role", "active", "-4"])?;
    visit_ports(&namespace, &ports)?;
    let records = tail.finish_after(1)?;
    must_show(&records, &both_sides(ports[0])[..1])
}
