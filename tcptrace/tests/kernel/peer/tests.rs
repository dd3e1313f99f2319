//! The peer itself: what it says when something else comes than a test expects.

use std::time::Duration;

use anyhow::ensure;
use socket2::{Domain, Socket, Type};

use super::{Flow, Peer};
use crate::support::{
    Check,
    namespace::Namespace,
    sockets::{abort_at_close, begin_connect},
    tests,
};

tests![
    an_unexpected_segment_is_named,
    ignored_segments_are_named_too,
    silence_is_broken_by_what_is_new,
    flows_do_not_hear_each_other,
];

const PORT: u16 = 443;

fn connected(namespace: &Namespace, peer: &Peer) -> anyhow::Result<(Socket, Flow)> {
    let socket = namespace.run(|| Ok(Socket::new(Domain::IPV4, Type::STREAM, None)?))?;
    begin_connect(&socket, peer.address(PORT))?;
    let mut flow = peer.listen(PORT);
    flow.open()?;
    Ok((socket, flow))
}

fn must_say(result: anyhow::Result<impl Sized>, expected: &str) -> Check {
    let said = result.err().map(|error| error.to_string());
    ensure!(said.as_deref() == Some(expected), "it said {said:?}");
    Ok(())
}

fn an_unexpected_segment_is_named() -> Check {
    let namespace = Namespace::new()?;
    let peer = Peer::new(&namespace)?;
    let (socket, mut flow) = connected(&namespace, &peer)?;
    abort_at_close(&socket)?;
    drop(socket);
    must_say(
        flow.expect_fin(),
        "expected a FIN, and there came RST+ACK seq +1 ack +1",
    )
}

fn ignored_segments_are_named_too() -> Check {
    let namespace = Namespace::new()?;
    let peer = Peer::new(&namespace)?;
    let (socket, mut flow) = connected(&namespace, &peer)?;
    flow.send_data(b"unread")?;
    flow.expect_ack()?;
    // ReceivedSegment before: it is acknowledged again, and passed over.
    flow.send_again()?;
    flow.expect_ack()?;
    flow.send_again()?;
    drop(socket);
    let said = flow
        .expect_data(b"answer")
        .err()
        .map(|error| error.to_string());
    let said = said.unwrap_or_default();
    ensure!(
        said.starts_with("expected data \"answer\", and there came ACK seq +1 ack +7")
            && said.ends_with("then RST+ACK seq +1 ack +7"),
        "it said {said:?}"
    );
    Ok(())
}

fn silence_is_broken_by_what_is_new() -> Check {
    let namespace = Namespace::new()?;
    let peer = Peer::new(&namespace)?;
    let (socket, mut flow) = connected(&namespace, &peer)?;
    flow.expect_silence(Duration::from_millis(20))?;
    drop(socket);
    must_say(
        flow.expect_silence(Duration::from_secs(60)),
        "expected nothing, and there came FIN+ACK seq +1 ack +1",
    )
}

fn flows_do_not_hear_each_other() -> Check {
    let namespace = Namespace::new()?;
    let peer = Peer::new(&namespace)?;
    let (first, mut of_first) = connected(&namespace, &peer)?;
    let (second, mut of_second) = connected(&namespace, &peer)?;
    drop(second);
    drop(first);
    of_first.expect_fin()?;
    of_second.expect_fin()?;
    of_first.send_fin()?;
    of_first.expect_ack()?;
    of_second.send_rst()
}
