//! What becomes of a connection whose peer keeps silent or says what no decent kernel would.

use std::{io::Write, time::Duration};

use anyhow::ensure;
use serde_json::{Value, json};
use socket2::TcpKeepalive;

use crate::support::{
    Check,
    namespace::Namespace,
    packet::{ACK, FIN, PSH, SYN},
    record::{Records, path},
    sockets::{CLOSE, ESTABLISHED, wait_state},
    tail::Tail,
    tests,
    wire::Wire,
};

tests![
    an_idle_peer_that_answers_no_probe_is_a_keepalive_timeout,
    a_peer_that_acknowledges_nothing_is_a_retransmission_timeout,
    a_peer_without_room_is_a_zero_window_timeout,
    fins_that_cross_close_both_at_once,
    a_fin_with_the_acknowledgement_of_ours_goes_through_fin_wait2,
    data_while_our_fin_is_on_its_way_is_data_after_close,
    data_with_the_acknowledgement_of_our_fin_is_data_after_close,
    a_reset_after_our_close_is_a_reset_received,
];

/// The one connection's record; the path it took must end so.
fn check(records: &Records, end_of_path: &[&str], expected: &Value) -> Check {
    let steps = records.steps(&json!({"role": "active"}))?;
    let start = ["CLOSE", "SYN_SENT", "ESTABLISHED"];
    ensure!(
        steps == path(&[&start, end_of_path].concat()),
        "the path was {steps:?}"
    );
    let record = records.only("connection", &json!({"established": true}))?;
    record.must_have(expected)?;
    if expected.get("errno").is_none() {
        record.must_lack(&["errno", "errno_number"])?;
    }
    Ok(())
}

fn start() -> anyhow::Result<(Wire, Tail)> {
    let namespace = Namespace::new()?;
    let wire = Wire::lay(&namespace)?;
    let tail = Tail::start(&namespace, &["--show", "transitions,connections"])?;
    Ok((wire, tail))
}

fn an_idle_peer_that_answers_no_probe_is_a_keepalive_timeout() -> Check {
    let (wire, tail) = start()?;
    let (socket, _peer) = wire.establish()?;
    let second = Duration::from_secs(1);
    let keepalive = TcpKeepalive::new()
        .with_time(second)
        .with_interval(second)
        .with_retries(1);
    socket.set_tcp_keepalive(&keepalive)?;
    let records = tail.finish_after(1)?;
    let expected = json!({
        "verdict": "keepalive_timeout", "errno": "ETIMEDOUT", "errno_number": 110,
        "last_state": "ESTABLISHED",
    });
    check(&records, &["CLOSE"], &expected)
}

fn a_peer_that_acknowledges_nothing_is_a_retransmission_timeout() -> Check {
    let (wire, tail) = start()?;
    let (mut socket, peer) = wire.establish()?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(500)))?;
    socket.write_all(b"is anybody there?")?;
    let data = peer.hear(|segment| !segment.payload.is_empty())?;
    let again = peer.hear(|segment| !segment.payload.is_empty())?;
    ensure!(data.sequence == again.sequence, "not the same again");
    let records = tail.finish_after(1)?;
    let expected = json!({
        "verdict": "retransmission_timeout", "errno": "ETIMEDOUT", "errno_number": 110,
        "last_state": "ESTABLISHED", "bytes_sent": 17,
    });
    check(&records, &["CLOSE"], &expected)?;
    let record = records.only("connection", &json!({}))?;
    ensure!(
        record.number("retransmits").is_some_and(|count| count >= 1),
        "{record}"
    );
    Ok(())
}

fn a_peer_without_room_is_a_zero_window_timeout() -> Check {
    let (wire, tail) = start()?;
    let mut socket = wire.socket()?;
    let (mut peer, _) = wire.begin(&socket)?;
    peer.window = 0;
    peer.say(SYN | ACK, &[])?;
    wait_state(&socket, ESTABLISHED)?;
    socket.set_tcp_user_timeout(Some(Duration::from_millis(500)))?;
    socket.write_all(b"no room")?;
    let records = tail.finish_after(1)?;
    let expected = json!({
        "verdict": "zero_window_timeout", "errno": "ETIMEDOUT", "errno_number": 110,
        "last_state": "ESTABLISHED",
    });
    check(&records, &["CLOSE"], &expected)
}

fn fins_that_cross_close_both_at_once() -> Check {
    let (wire, tail) = start()?;
    let (socket, mut peer) = wire.establish()?;
    drop(socket);
    let fin = peer.hear(|segment| segment.flags & FIN != 0)?;
    peer.say(FIN | ACK, &[])?;
    peer.hear(|segment| segment.acknowledged == peer.sequence)?;
    peer.acknowledged = fin.sequence.wrapping_add(1);
    peer.say(ACK, &[])?;
    let records = tail.finish_after(1)?;
    let expected = json!({
        "verdict": "graceful", "closed_by": "simultaneous", "last_state": "CLOSING",
        "peer_fin": true,
    });
    check(&records, &["FIN_WAIT1", "CLOSING", "CLOSE"], &expected)
}

fn a_fin_with_the_acknowledgement_of_ours_goes_through_fin_wait2() -> Check {
    let (wire, tail) = start()?;
    let (socket, mut peer) = wire.establish()?;
    drop(socket);
    peer.take(|segment| segment.flags & FIN != 0)?;
    peer.say(FIN | ACK, &[])?;
    let records = tail.finish_after(1)?;
    let expected = json!({
        "verdict": "graceful", "closed_by": "local", "last_state": "FIN_WAIT2", "peer_fin": true,
    });
    check(&records, &["FIN_WAIT1", "FIN_WAIT2", "CLOSE"], &expected)
}

fn data_while_our_fin_is_on_its_way_is_data_after_close() -> Check {
    let (wire, tail) = start()?;
    let (socket, mut peer) = wire.establish()?;
    drop(socket);
    // The FIN is not acknowledged: the full socket is still there.
    peer.hear(|segment| segment.flags & FIN != 0)?;
    peer.say(ACK | PSH, b"too late")?;
    let records = tail.finish_after(1)?;
    let expected = json!({
        "verdict": "data_after_close", "closed_by": "local", "last_state": "FIN_WAIT1",
        "errno": "ECONNRESET", "errno_number": 104,
    });
    check(&records, &["FIN_WAIT1", "CLOSE"], &expected)
}

fn data_with_the_acknowledgement_of_our_fin_is_data_after_close() -> Check {
    let (wire, tail) = start()?;
    let (socket, mut peer) = wire.establish()?;
    drop(socket);
    peer.take(|segment| segment.flags & FIN != 0)?;
    peer.say(ACK | PSH, b"too late")?;
    let records = tail.finish_after(1)?;
    let expected = json!({
        "verdict": "data_after_close", "closed_by": "local", "last_state": "FIN_WAIT2",
    });
    check(&records, &["FIN_WAIT1", "FIN_WAIT2", "CLOSE"], &expected)
}

fn a_reset_after_our_close_is_a_reset_received() -> Check {
    let (wire, tail) = start()?;
    let (socket, mut peer) = wire.establish()?;
    socket.shutdown(std::net::Shutdown::Write)?;
    peer.take(|segment| segment.flags & FIN != 0)?;
    peer.say_reset()?;
    wait_state(&socket, CLOSE)?;
    let records = tail.finish_after(1)?;
    let steps = records.steps(&json!({"role": "active"}))?;
    ensure!(
        steps.contains(&"ESTABLISHED→FIN_WAIT1".to_owned()),
        "{steps:?}"
    );
    records.only("connection", &json!({}))?.must_have(&json!({
        "verdict": "reset_received", "closed_by": "local",
        "errno": "ECONNRESET", "errno_number": 104,
    }))
}
