//! The time of passive handshakes, from each source that there is, held against the peer's own
//! clock; and that watching SYNs disturbs nobody.

use std::{net::TcpListener, os::fd::OwnedFd, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tcptrace::testing::cgroup;

use crate::{
    peer::{Flow, Peer},
    scenarios::{kernel::Kernel, passive_opens::Took},
    support::{
        Check,
        bpf::{self, OfCgroup},
        daemon::Daemon,
        functions_can_be_traced, ignored,
        namespace::Namespace,
        record::{Record, between},
        sockets::set_tcp_option,
        tail::Tail,
        tests,
    },
};

tests![
    every_source_times_a_handshake_as_the_peer_does,
    no_source_times_the_wait_for_a_deferred_fin,
    another_sock_ops_program_keeps_working,
    a_syn_flood_is_counted_and_makes_no_time_wrong,
];

/// Where this host listens.
const HOME: u16 = 8080;
/// What leaves SYNs as the best source.
const WITHOUT_FENTRY: [&str; 2] = ["--without", "fentry"];

/// A host with a peer, to which it listens.
struct TestNetwork {
    namespace: Namespace,
    peer: Peer,
    listener: TcpListener,
}

impl TestNetwork {
    fn new() -> anyhow::Result<Self> {
        let namespace = Namespace::new()?;
        let peer = Peer::new(&namespace)?;
        let (listener, _) = namespace.listen(&peer.here(HOME).to_string())?;
        Ok(Self {
            namespace,
            peer,
            listener,
        })
    }

    /// A tail for each source that there is here, which it has as the best one.
    fn tails(&self) -> anyhow::Result<Vec<(&'static str, Tail)>> {
        let mut sources: Vec<(_, &[_])> = vec![
            ("sock_ops", &WITHOUT_FENTRY),
            ("srtt", &["--without", "fentry,sock_ops"]),
        ];
        if functions_can_be_traced().is_ok() {
            sources.push(("synack", &[]));
        }
        let tails = sources
            .into_iter()
            .map(|(source, arguments)| Ok((source, Tail::start(&self.namespace, arguments)?)));
        tails.collect()
    }

    /// A handshake of which the peer does not hear some SYN-ACKs, or does something else before it
    /// answers the first.
    fn shake(
        &self,
        lost: u32,
        meanwhile: impl FnOnce(&mut Flow) -> Check,
    ) -> anyhow::Result<Handshake> {
        let mut flow = self.peer.connect(HOME);
        let (took, socket) = Took::measure(&mut flow, &self.listener, |flow| {
            for _ in 0..lost {
                flow.expect_syn_ack()?;
            }
            meanwhile(flow)
        })?;
        flow.send_rst()?;
        drop(socket);
        let port = flow.peer().port();
        Ok(Handshake { port, lost, took })
    }
}

/// A handshake as the peer knows it.
struct Handshake {
    port: u16,
    lost: u32,
    took: Took,
}

impl Handshake {
    fn is_its(&self) -> Value {
        json!({"role": "passive", "remote_port": self.port})
    }

    fn must_be_told(&self, record: &Record, source: &str) -> Check {
        record.must_have(&json!({"syn_retransmits": self.lost}))?;
        let srtt_is_exact = self.lost == 0 && !Kernel::here().knows_the_peer_at_syn_recv();
        if source == "srtt" && !srtt_is_exact {
            // Which of the SYN-ACKs was answered cannot be known (RFC 6298, section 3), nor from
            // Linux 6.15 on whether TCP_DEFER_ACCEPT is on.
            return record.must_lack(&["handshake_us", "handshake_source"]);
        }
        record.must_have(&json!({"handshake_source": source}))?;
        between(
            record,
            "handshake_us",
            self.took.least_ns,
            self.took.most_ns,
        )
    }
}

fn every_source_times_a_handshake_as_the_peer_does() -> Check {
    let ground = TestNetwork::new()?;
    let tails = ground.tails()?;
    let handshakes = [
        ground.shake(0, |flow| flow.expect_silence(Duration::from_millis(300)))?,
        ground.shake(1, |_| Ok(()))?,
        ground.shake(2, |_| Ok(()))?,
    ];
    for (source, tail) in tails {
        let records = tail.finish_after(handshakes.len())?;
        for handshake in &handshakes {
            for kind in ["handshake", "connection"] {
                let record = records.only(kind, &handshake.is_its())?;
                handshake
                    .must_be_told(record, source)
                    .with_context(|| format!("by {source}"))?;
            }
        }
    }
    Ok(())
}

/// TCP_DEFER_ACCEPT waits for data or a FIN, and the handshake's own ACK is thrown away.
fn no_source_times_the_wait_for_a_deferred_fin() -> Check {
    let ground = TestNetwork::new()?;
    set_tcp_option(&ground.listener, libc::TCP_DEFER_ACCEPT, 10)?;
    let tails = ground.tails()?;
    let mut flow = ground.peer.connect(HOME);
    flow.send_syn()?;
    flow.expect_syn_ack()?;
    flow.send_ack()?;
    flow.expect_silence(Duration::from_millis(100))?;
    flow.send_fin()?;
    flow.expect_ack()?;
    let (socket, _) = ground.listener.accept().context("accepting")?;
    flow.send_rst()?;
    drop(socket);
    for (source, tail) in tails {
        let records = tail.finish_after(1)?;
        records
            .only("handshake", &json!({"role": "passive"}))?
            .must_lack(&["handshake_us", "handshake_source"])
            .with_context(|| format!("by {source}"))?;
    }
    Ok(())
}

/// Says that two segments of the peer's are as much as it wants to be sent at first.
///
/// ```c
/// if (ctx->op == BPF_SOCK_OPS_RWND_INIT && ctx->local_port == HOME)
///         ctx->reply = 2;
/// return 1;
/// ```
fn small_windows() -> anyhow::Result<OwnedFd> {
    let port = u64::from(HOME) << 32;
    let instructions = [
        0x0000_0000_0000_1261,        // r2 = *(u32 *)(r1 + 0), the op
        0x0000_0002_0004_0255,        // if r2 != 2 goto the end
        0x0000_0000_0044_1261,        // r2 = *(u32 *)(r1 + 68), the local port
        0x0000_0000_0002_0255 | port, // if r2 != HOME goto the end
        0x0000_0002_0000_03b7,        // r3 = 2
        0x0000_0000_0004_3163,        // *(u32 *)(r1 + 4) = r3, the reply
        0x0000_0001_0000_00b7,        // r0 = 1
        0x0000_0000_0000_0095,        // exit
    ];
    bpf::load(bpf::SOCK_OPS, &instructions).context("loading a sock_ops program")
}

/// Where the cgroup v2 hierarchy is.
fn root_cgroup() -> anyhow::Result<PathBuf> {
    cgroup::hierarchy().ok_or_else(|| ignored("the cgroup v2 hierarchy is not mounted"))
}

/// The window of the SYN-ACK is what the other program says, whoever came first, and the handshake
/// is timed all the same.
fn another_sock_ops_program_keeps_working() -> Check {
    let cgroup = root_cgroup()?;
    let ground = TestNetwork::new()?;
    let window = || -> anyhow::Result<u16> {
        let mut flow = ground.peer.connect(HOME);
        flow.send_syn()?;
        let window = flow.expect_syn_ack()?.window;
        flow.send_ack()?;
        ground.listener.accept().context("accepting")?;
        flow.send_rst()?;
        Ok(window)
    };
    let usual = window()?;
    let other = OfCgroup::attach(&cgroup, small_windows()?)?;
    let small = window()?;
    ensure!(small < usual, "the other program does nothing: {small}");

    let tail = Tail::start(&ground.namespace, &WITHOUT_FENTRY)?;
    let with_both = window()?;
    ensure!(
        with_both == small,
        "{with_both} with a tail, {small} without"
    );
    drop(other);
    let with_tail = window()?;
    ensure!(
        with_tail == usual,
        "{with_tail} with a tail, {usual} without"
    );
    let _other = OfCgroup::attach(&cgroup, small_windows()?)?;
    let with_both = window()?;
    ensure!(
        with_both == small,
        "{with_both} after a tail, {small} without"
    );

    let records = tail.finish_after(3)?;
    for record in records.of("connection") {
        record.must_have(&json!({"handshake_source": "sock_ops"}))?;
    }
    Ok(())
}

/// More than are remembered, each of a request that is gone at once.
fn a_syn_flood_is_counted_and_makes_no_time_wrong() -> Check {
    const FLOOD: u32 = 18_000;
    const REMEMBERED: i64 = 16_384;
    const ROOM: i64 = 8 << 20;
    root_cgroup()?;
    let ground = TestNetwork::new()?;
    ground.namespace.sysctl("ipv4/tcp_syncookies", "0")?;
    let mut daemon = Daemon::start(&WITHOUT_FENTRY)?;
    let tail = Tail::start(&ground.namespace, &WITHOUT_FENTRY)?;
    let before = daemon.scrape()?;

    let during = ground.shake(0, |_| ground.peer.flood(HOME, FLOOD))?;
    let after = ground.shake(0, |_| Ok(()))?;

    let (records, output) = {
        let mut tail = tail;
        tail.wait_count("connection", 2)?;
        tail.interrupt()?
    };
    output.must_end_with(0)?;
    ensure!(
        output.stderr.contains(" SYNs forgotten"),
        "not a word of it: {}",
        output.stderr
    );
    after.must_be_told(records.only("handshake", &after.is_its())?, "sock_ops")?;
    let record = records.only("handshake", &during.is_its())?;
    if record.get("handshake_us").is_some() {
        record.must_have(&json!({"handshake_source": "sock_ops"}))?;
        between(
            record,
            "handshake_us",
            during.took.least_ns,
            during.took.most_ns,
        )?;
    }

    let metrics = daemon.scrape_until("both connections", |metrics| {
        metrics.count(
            "tcptrace_connections_established_total",
            &[("port", "8080")],
        ) >= 2
    })?;
    let grown = |name, labels| metrics.count(name, labels) - before.count(name, labels);
    let syns = grown("tcptrace_syns_received_total", &[]);
    let sent = i64::from(FLOOD) + 2;
    // The daemon sees the host's other connections too.
    ensure!(syns >= sent, "{syns} SYNs, {sent} were sent");
    let evicted = grown("tcptrace_syns_evicted_total", &[]);
    ensure!(
        evicted >= sent - REMEMBERED && evicted <= syns,
        "{evicted} SYNs forgotten of {syns}"
    );
    let memory = grown("process_resident_memory_bytes", &[]);
    ensure!(memory < ROOM, "{memory} bytes more");
    let output = daemon.stop(Signal::SIGTERM)?;
    output.must_end_with(0)
}
