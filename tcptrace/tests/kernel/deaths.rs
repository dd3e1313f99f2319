//! How established connections end between two plain sockets: each side's verdict and error.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
};

use anyhow::ensure;
use serde_json::{Value, json};

use crate::support::{
    Check, ignored,
    namespace::Namespace,
    puppet::Puppet,
    record::{Record, Records},
    sockets::{
        CLOSE, CLOSE_WAIT, FIN_WAIT2, abort_at_close, disconnect, kill, set_tcp_option, state,
        wait_state,
    },
    tail::Tail,
    tests, wait_for,
};

tests![
    so_linger_0_is_a_reset_by_us,
    a_disconnect_is_a_reset_by_us,
    a_close_with_unread_data_says_so,
    a_reset_after_the_peers_fin_is_epipe,
    a_connection_that_nobody_accepts_says_so,
    data_after_both_ways_were_shut_down_says_so,
    data_after_close_resets_only_its_sender,
    a_negative_linger2_is_a_reset_by_us,
    an_orphan_that_runs_out_in_fin_wait2_says_so,
    an_exit_closes_like_a_close,
    a_connection_that_sock_diag_kills_is_killed,
];

/// A connection, and what both its ends must become.
struct Case {
    namespace: Namespace,
    listener: TcpListener,
    tail: Tail,
}

impl Case {
    fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        let (listener, _) = namespace.listen("127.0.0.1:0")?;
        Ok(Self {
            tail: Tail::start(
                &namespace,
                &["--show", "transitions,handshakes,connections"],
            )?,
            namespace,
            listener,
        })
    }

    fn pair(&self) -> anyhow::Result<(TcpStream, TcpStream)> {
        self.namespace.pair(&self.listener)
    }

    /// Once both have ended: the active side, then the passive one.
    fn check(self, active: &Value, passive: &Value) -> anyhow::Result<Records> {
        let records = self.tail.finish_after(2)?;
        for (role, expected) in [("active", active), ("passive", passive)] {
            let record = records.only("connection", &json!({"role": role}))?;
            record.must_have(&json!({"established": true, "completeness": "full"}))?;
            record.must_have(expected)?;
            if expected.get("errno").is_none() {
                record.must_lack(&["errno", "errno_number"])?;
            }
        }
        ensure!(
            records.of("connection").len() == 2,
            "more ended:\n{records}"
        );
        Ok(records)
    }
}

/// What a side says that got a RST while nothing was closed yet.
fn reset_received() -> Value {
    json!({
        "verdict": "reset_received", "closed_by": "remote", "last_state": "ESTABLISHED",
        "errno": "ECONNRESET", "errno_number": 104, "peer_fin": false,
    })
}

/// What a side says that got a RST after the peer's FIN.
fn reset_after_fin() -> Value {
    json!({
        "verdict": "reset_received", "closed_by": "remote", "last_state": "CLOSE_WAIT",
        "errno": "EPIPE", "errno_number": 32, "peer_fin": true,
    })
}

fn so_linger_0_is_a_reset_by_us() -> Check {
    let case = Case::new()?;
    let (active, _passive) = case.pair()?;
    abort_at_close(&active)?;
    drop(active);
    let ours = json!({
        "verdict": "reset_by_us", "closed_by": "local", "last_state": "ESTABLISHED",
    });
    case.check(&ours, &reset_received()).map(drop)
}

fn a_disconnect_is_a_reset_by_us() -> Check {
    let case = Case::new()?;
    let (_active, passive) = case.pair()?;
    disconnect(&passive)?;
    let ours = json!({
        "verdict": "reset_by_us", "closed_by": "local", "last_state": "ESTABLISHED",
    });
    case.check(&reset_received(), &ours).map(drop)
}

fn a_close_with_unread_data_says_so() -> Check {
    let case = Case::new()?;
    let (mut active, passive) = case.pair()?;
    active.write_all(b"unread")?;
    passive.peek(&mut [0])?;
    drop(passive);
    let ours = json!({
        "verdict": "unread_data", "closed_by": "local", "last_state": "ESTABLISHED",
        "bytes_received": 6,
    });
    case.check(&reset_received(), &ours).map(drop)
}

fn a_reset_after_the_peers_fin_is_epipe() -> Check {
    let case = Case::new()?;
    let (active, passive) = case.pair()?;
    passive.shutdown(Shutdown::Write)?;
    wait_state(&active, CLOSE_WAIT)?;
    wait_state(&passive, FIN_WAIT2)?;
    abort_at_close(&passive)?;
    drop(passive);
    let ours = json!({
        "verdict": "reset_by_us", "closed_by": "local", "last_state": "FIN_WAIT2",
        "peer_fin": false,
    });
    case.check(&reset_after_fin(), &ours).map(drop)
}

fn a_connection_that_nobody_accepts_says_so() -> Check {
    let case = Case::new()?;
    let address = case.listener.local_addr()?;
    let client = case.namespace.connect(address)?;
    let half = case.namespace.connect(address)?;
    half.shutdown(Shutdown::Write)?;
    wait_state(&half, FIN_WAIT2)?;
    let Case {
        listener, mut tail, ..
    } = case;
    tail.wait("the children", |records| {
        let of_child =
            |record: &&Record| record.is("handshake") && record.text("role") == Some("passive");
        records.0.iter().filter(of_child).count() == 2
    })?;
    drop(listener);
    let records = tail.finish_after(4)?;
    let (port, half_port) = (client.local_addr()?.port(), half.local_addr()?.port());
    for (port, last_state, closed_by, peer_fin) in [
        (port, "ESTABLISHED", "local", false),
        (half_port, "CLOSE_WAIT", "remote", true),
    ] {
        let side = json!({"role": "passive", "remote_port": port});
        let record = records.only("connection", &side)?;
        record.must_have(&json!({
            "verdict": "not_accepted", "last_state": last_state, "closed_by": closed_by,
            "peer_fin": peer_fin, "established": true,
        }))?;
        record.must_lack(&["errno"])?;
    }
    records
        .only("connection", &json!({"role": "active", "local_port": port}))?
        .must_have(&reset_received())?;
    records
        .only(
            "connection",
            &json!({"role": "active", "local_port": half_port}),
        )?
        .must_have(&json!({
            "verdict": "reset_received", "last_state": "FIN_WAIT2", "closed_by": "local",
            "errno": "ECONNRESET",
        }))
}

fn data_after_both_ways_were_shut_down_says_so() -> Check {
    let case = Case::new()?;
    let (active, mut passive) = case.pair()?;
    active.shutdown(Shutdown::Both)?;
    wait_state(&active, FIN_WAIT2)?;
    passive.write_all(b"too late")?;
    wait_for("both to be closed", || {
        Ok((state(&active)? == CLOSE && state(&passive)? == CLOSE).then_some(()))
    })?;
    let ours = json!({
        "verdict": "data_after_close", "closed_by": "local", "last_state": "FIN_WAIT2",
        "errno": "ECONNRESET", "errno_number": 104, "peer_fin": false,
    });
    case.check(&ours, &reset_after_fin()).map(drop)
}

fn data_after_close_resets_only_its_sender() -> Check {
    let case = Case::new()?;
    let (active, mut passive) = case.pair()?;
    drop(active);
    ensure!(passive.read(&mut [0])? == 0, "data came");
    // Once the first one has ended, a FIN_WAIT2 minisocket has taken its place.
    let Case {
        namespace,
        listener,
        mut tail,
    } = case;
    tail.wait_count("connection", 1)?;
    passive.write_all(b"too late")?;
    let case = Case {
        namespace,
        listener,
        tail,
    };
    let first = json!({
        "verdict": "graceful", "closed_by": "local", "last_state": "FIN_WAIT2",
    });
    let records = case.check(&first, &reset_after_fin())?;
    records
        .only("connection", &json!({"role": "active"}))?
        .must_lack(&["peer_fin"])
}

fn a_negative_linger2_is_a_reset_by_us() -> Check {
    let case = Case::new()?;
    let (active, _passive) = case.pair()?;
    set_tcp_option(&active, libc::TCP_LINGER2, -1)?;
    drop(active);
    let ours = json!({
        "verdict": "reset_by_us", "closed_by": "local", "last_state": "FIN_WAIT2",
    });
    case.check(&ours, &reset_after_fin()).map(drop)
}

/// `tcp_keepalive_timer` ends an orphan only when its time is not left for a minisocket: when
/// `tcp_fin_timeout` has meanwhile come down.
fn an_orphan_that_runs_out_in_fin_wait2_says_so() -> Check {
    let case = Case::new()?;
    let (active, _passive) = case.pair()?;
    // A few seconds more than a minisocket's 60.
    case.namespace.sysctl("ipv4/tcp_fin_timeout", "64")?;
    active.shutdown(Shutdown::Write)?;
    wait_state(&active, FIN_WAIT2)?;
    drop(active);
    case.namespace.sysctl("ipv4/tcp_fin_timeout", "30")?;
    let ours = json!({
        "verdict": "fin_wait_timeout", "closed_by": "local", "last_state": "FIN_WAIT2",
    });
    case.check(&ours, &reset_after_fin()).map(drop)
}

fn an_exit_closes_like_a_close() -> Check {
    let case = Case::new()?;
    let address = case.listener.local_addr()?;
    let mut puppet = Puppet::start(&case.namespace, "tt-mortal")?;
    let pid = puppet.pid();
    puppet.connect(address)?;
    let (mut passive, _) = case.listener.accept()?;
    drop(puppet);
    ensure!(passive.read(&mut [0])? == 0, "data came");
    drop(passive);
    let ours = json!({
        "verdict": "graceful", "closed_by": "local", "comm": "tt-mortal", "pid": pid,
    });
    let theirs = json!({"verdict": "graceful", "closed_by": "remote"});
    case.check(&ours, &theirs).map(drop)
}

fn a_connection_that_sock_diag_kills_is_killed() -> Check {
    let case = Case::new()?;
    let (active, _passive) = case.pair()?;
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (active.local_addr()?, active.peer_addr()?)
    else {
        anyhow::bail!("no IPv4 connection");
    };
    match case.namespace.run(|| Ok(kill(from, to)))? {
        Ok(None) => {}
        Ok(Some(why)) | Err(why) => {
            return Err(ignored(format!("sock_diag does not kill sockets: {why}")));
        }
    }
    let killed = json!({
        "verdict": "killed", "closed_by": "local", "last_state": "ESTABLISHED",
        "errno": "ECONNABORTED", "errno_number": 103,
    });
    case.check(&killed, &reset_received()).map(drop)
}
