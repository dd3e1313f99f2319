//! A program that everybody knows, against a server in this process.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use anyhow::ensure;
use serde_json::json;

use crate::support::{Check, hooks::accepted_by, ignored, namespace::Namespace, tail::Tail, tests};

tests![curl_is_one_active_and_one_passive_side];

/// Without its length: it ends with the connection, so this side closes first.
const ANSWER: &[u8] = b"HTTP/1.0 200 OK\r\n\r\nhello\n";

fn curl_is_one_active_and_one_passive_side() -> Check {
    let namespace = Namespace::new()?;
    let tail = Tail::start(&namespace, &[])?;
    let (listener, address) = namespace.listen("127.0.0.1:0")?;
    let curl = namespace.run(|| {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--noproxy", "*", &format!("http://{address}/")]);
        let curl = curl.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        curl.map_err(|error| ignored(format!("curl cannot be run: {error}")))
    })?;
    let pid = curl.id();
    let (mut stream, client) = listener.accept()?;
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    stream.write_all(ANSWER)?;
    drop(stream);
    let output = curl.wait_with_output()?;
    ensure!(
        output.status.success() && output.stdout == b"hello\n",
        "{output:?}"
    );
    let records = tail.finish_after(2)?;
    ensure!(records.len() == 4, "more than one connection:\n{records}");
    records
        .only("connection", &json!({"role": "active"}))?
        .must_have(&json!({
            "comm": "curl", "pid": pid, "pid_source": "connect", "verdict": "graceful",
            "local_port": client.port(), "remote_port": address.port(), "closed_by": "remote",
            "bytes_sent": request.len(), "bytes_received": ANSWER.len(),
        }))?;
    records
        .only("connection", &json!({"role": "passive"}))?
        .must_have(&json!({
            "pid": std::process::id(), "pid_source": accepted_by(), "verdict": "graceful",
            "local_port": address.port(), "remote_port": client.port(), "closed_by": "local",
            "bytes_sent": ANSWER.len(), "bytes_received": request.len(),
        }))
}
