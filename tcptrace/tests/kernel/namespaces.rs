//! The same addresses and ports in two network namespaces at once are two connections.

use std::{
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::ensure;
use serde_json::json;

use crate::support::{
    Check, namespace::Namespace, program::tcptrace, sockets::bound, tail::Tail, tests,
};

tests![equal_connections_in_two_namespaces_are_kept_apart];

const SERVER: &str = "127.0.0.1:4100";
const CLIENT: &str = "127.0.0.1:4200";

fn equal_connections_in_two_namespaces_are_kept_apart() -> Check {
    let namespaces = [Namespace::new()?, Namespace::new()?];
    let inodes = namespaces.each_ref().map(|it| it.inode().to_string());
    let filter = inodes.join(",");
    let mut command = tcptrace(&["tail", "--format", "json", "--netns", &filter]);
    command.args(["--show", "transitions,handshakes,connections"]);
    // The sentinels of the first are enough: everything is attached at once.
    let tail = Tail::start_as(&namespaces[0], &mut command)?;
    let server: SocketAddr = SERVER.parse()?;
    let mut listeners = Vec::new();
    let mut pairs: Vec<(socket2::Socket, TcpStream)> = Vec::new();
    for namespace in &namespaces {
        let (listener, client) = namespace.run(|| {
            let listener = TcpListener::bind(server)?;
            let client = bound(CLIENT)?;
            client.connect(&server.into())?;
            Ok((listener, client))
        })?;
        pairs.push((client, listener.accept()?.0));
        listeners.push(listener);
    }
    // One is closed by its client, the other by its server; the listeners stay.
    let [(client, mut server), (mut other_client, other_server)] =
        <[_; 2]>::try_from(pairs).map_err(|_| anyhow::anyhow!("not two pairs"))?;
    drop(client);
    server.read_to_end(&mut Vec::new())?;
    drop(other_server);
    other_client.read_to_end(&mut Vec::new())?;
    drop(server);
    drop(other_client);
    let records = tail.finish_after(4)?;
    for (namespace, active_closes) in namespaces.iter().zip([true, false]) {
        for role in ["active", "passive"] {
            let side = json!({"role": role, "netns": namespace.inode()});
            let closed_by = if (role == "active") == active_closes {
                "local"
            } else {
                "remote"
            };
            let record = records.only("connection", &side)?;
            record.must_have(&json!({
                "verdict": "graceful", "completeness": "full", "closed_by": closed_by,
            }))?;
            records.only("handshake", &side)?;
            let steps = records.steps(&side)?;
            ensure!(steps.len() == 5, "the path was {steps:?}");
        }
    }
    ensure!(records.of("connection").len() == 4, "more:\n{records}");
    Ok(())
}
