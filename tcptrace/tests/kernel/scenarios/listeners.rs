//! What listeners show: themselves, and children that nobody took.

use anyhow::ensure;
use serde_json::json;

use super::{
    scenario::{HOME, Scenario},
    suite::scenarios,
};
use crate::support::{
    Check,
    hooks::listened_by,
    record::Record,
    sockets::{bound, local},
};

scenarios![
    bind_only,
    listen_unbound,
    listen_fails,
    listener_closed_with_pending_children,
];

/// bind() alone shows nothing.
fn bind_only(scenario: &Scenario) -> Check {
    let here = scenario.peer.here(HOME).to_string();
    let _bound = scenario.namespace.run(|| bound(&here))?;
    let records = scenario.settled()?;
    ensure!(records.len() == 0, "something is seen:\n{records}");
    Ok(())
}

/// Every transition of listeners: what it was, and the port.
fn listened(scenario: &Scenario) -> anyhow::Result<Vec<(String, Option<u64>)>> {
    let records = scenario.settled()?;
    let listeners = records
        .0
        .iter()
        .filter(|record| record.text("role").is_none());
    Ok(listeners
        .filter_map(|record| Some((record.step()?, record.number("local_port"))))
        .collect())
}

fn must_be(seen: &[(String, Option<u64>)], expected: &[(&str, Option<u16>)]) -> Check {
    let expected: Vec<_> = expected
        .iter()
        .map(|(step, port)| ((*step).to_owned(), port.map(u64::from)))
        .collect();
    ensure!(
        seen == expected,
        "it should be {expected:?}, and is {seen:?}"
    );
    Ok(())
}

/// listen() chooses a port after the transition.
fn listen_unbound(scenario: &Scenario) -> Check {
    let socket = scenario.socket()?;
    socket.listen(1)?;
    let port = local(&socket)?.port();
    ensure!(port != 0, "no port was chosen");
    drop(socket);
    let seen = listened(scenario)?;
    // At its end the port is known, or what was known at its beginning is all.
    must_be(&seen[..1], &[("CLOSE→LISTEN", None)])?;
    ensure!(seen.len() == 2 && seen[1].0 == "LISTEN→CLOSE", "{seen:?}");
    Ok(())
}

/// Two sockets may be bound to one port while neither listens; listen() of the second begins and
/// ends at once.
fn listen_fails(scenario: &Scenario) -> Check {
    let here = scenario.peer.here(HOME).to_string();
    let (first, second) = scenario
        .namespace
        .run(|| Ok((bound(&here)?, bound(&here)?)))?;
    first.listen(1)?;
    ensure!(second.listen(1).is_err(), "both listen");
    must_be(
        &listened(scenario)?,
        &[
            ("CLOSE→LISTEN", Some(HOME)),
            ("CLOSE→LISTEN", Some(HOME)),
            ("LISTEN→CLOSE", Some(HOME)),
        ],
    )
}

fn listener_closed_with_pending_children(scenario: &Scenario) -> Check {
    let listener = scenario.listen()?;
    let mut open = scenario.peer.connect(HOME);
    open.open()?;
    let mut half = scenario.peer.connect(HOME);
    half.open()?;
    half.send_fin()?;
    half.expect_ack()?;
    scenario.wait_step("ESTABLISHED→CLOSE_WAIT")?;
    drop(listener);
    open.expect_rst()?;
    half.expect_rst()?;
    let [first, second] = scenario.lives()?;
    let both = json!({"role": "passive", "verdict": "not_accepted", "pid_source": listened_by()});
    first.went("LISTEN SYN_RECV ESTABLISHED CLOSE")?;
    first.ended(&both)?;
    first.ended(&json!({"closed_by": "local", "peer_fin": false}))?;
    second.went("LISTEN SYN_RECV ESTABLISHED CLOSE_WAIT CLOSE")?;
    second.ended(&both)?;
    second.ended(&json!({"closed_by": "remote", "peer_fin": true}))?;
    // The listener goes first.
    let records = scenario.settled()?;
    let ends: Vec<_> = records.0.iter().filter_map(Record::step).collect();
    let at = |step: &str| ends.iter().position(|end| end == step);
    ensure!(at("LISTEN→CLOSE") < at("ESTABLISHED→CLOSE"), "{ends:?}");
    ensure!(at("LISTEN→CLOSE") < at("CLOSE_WAIT→CLOSE"), "{ends:?}");
    Ok(())
}
