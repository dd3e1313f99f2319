//! Many connections: none is missed, none is shown twice, and lines come in order of time.

use std::{collections::BTreeMap, thread, time::Duration};

use anyhow::ensure;

use crate::support::{Check, namespace::Namespace, record::Record, tail::Tail, tests};

tests![two_hundred_connections_a_second_are_all_shown_once_and_in_order];

const A_SECOND: usize = 200;
const SECONDS: usize = 5;
const EVERY: Duration = Duration::from_millis(1_000 / A_SECOND as u64);

fn two_hundred_connections_a_second_are_all_shown_once_and_in_order() -> Check {
    let namespace = Namespace::new()?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let show = ["--show", "transitions,handshakes,connections"];
    let tail = Tail::start(&namespace, &show)?;
    let ports = namespace.run(|| {
        let mut ports = Vec::new();
        for _ in 0..A_SECOND * SECONDS {
            let client = std::net::TcpStream::connect(address)?;
            let (server, _) = listener.accept()?;
            ports.push(u64::from(client.local_addr()?.port()));
            // Either side may be the one that closes first.
            if ports.len() % 2 == 0 {
                drop(client);
                drop(server);
            } else {
                drop(server);
                drop(client);
            }
            thread::sleep(EVERY);
        }
        Ok(ports)
    })?;
    let records = tail.finish_after(2 * ports.len())?;
    // Sockets' addresses are used again at once, and a record waits for what may still be said of
    // it.
    let times: Vec<_> = records.0.iter().map(|record| record.text("time")).collect();
    ensure!(times.is_sorted(), "lines are older than those before them");
    let server = Some(u64::from(address.port()));
    // How often each side of each connection was shown, by the client's port.
    let mut shown: BTreeMap<(&str, &str, u64), usize> = BTreeMap::new();
    for record in records.0.iter().filter(|record| !record.is("transition")) {
        let kind = record.text("type").unwrap_or_default();
        let role = record.text("role").unwrap_or_default();
        let (client, other) = match role {
            "active" => (record.number("local_port"), record.number("remote_port")),
            _ => (record.number("remote_port"), record.number("local_port")),
        };
        ensure!(other == server, "another server's: {record}");
        ensure!(is_whole(record), "not whole: {record}");
        *shown.entry((kind, role, client.unwrap_or(0))).or_default() += 1;
    }
    // A port whose connection the server closed is free at once, and may be chosen again.
    let mut made: BTreeMap<u64, usize> = BTreeMap::new();
    for port in ports {
        *made.entry(port).or_default() += 1;
    }
    for kind in ["handshake", "connection"] {
        for role in ["active", "passive"] {
            for (port, times) in &made {
                let count = shown.remove(&(kind, role, *port)).unwrap_or(0);
                ensure!(
                    count == *times,
                    "the {kind} of the {role} side of {port}: {count} times, not {times}"
                );
            }
        }
    }
    ensure!(shown.is_empty(), "what never was: {shown:?}");
    Ok(())
}

fn is_whole(record: &Record) -> bool {
    record.is("handshake")
        || (record.text("completeness") == Some("full")
            && record.text("verdict") == Some("graceful"))
}
