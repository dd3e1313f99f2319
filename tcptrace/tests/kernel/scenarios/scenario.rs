//! What a scenario plays on: a namespace of its own, the peer in it, and what the tail sees there.

use std::{
    cell::RefCell,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context, anyhow, ensure};
use socket2::{Domain, Socket, Type};

use super::{connection_records::ConnectionRecords, watch::Watch};
use crate::{
    peer::{Flow, Peer},
    support::{
        Check,
        namespace::Namespace,
        record::{Record, Records},
        sockets::{CLOSE_WAIT, ESTABLISHED, FIN_WAIT2, begin_connect, wait_state},
    },
};

/// Where the peer listens.
pub(crate) const SERVICE: u16 = 443;
/// Where this host listens.
pub(crate) const HOME: u16 = 8080;

/// What a scenario plays on.
pub(crate) struct Scenario {
    pub(crate) namespace: Namespace,
    pub(crate) peer: Peer,
    watch: RefCell<Watch>,
}

impl Scenario {
    pub(super) fn new(namespace: Namespace, watch: Watch) -> anyhow::Result<Self> {
        Ok(Self {
            peer: Peer::new(&namespace)?,
            namespace,
            watch: RefCell::new(watch),
        })
    }

    /// Sets `/proc/sys/net/ipv4/NAME`.
    pub(crate) fn sysctl(&self, name: &str, value: &str) -> Check {
        self.namespace.sysctl(&format!("ipv4/{name}"), value)
    }

    /// As [`Scenario::sysctl`], where the kernel has it.
    pub(crate) fn sysctl_if_any(&self, name: &str, value: &str) -> Check {
        if !std::path::Path::new("/proc/sys/net/ipv4")
            .join(name)
            .exists()
        {
            return Ok(());
        }
        self.sysctl(name, value)
    }

    /// An unconnected socket.
    pub(crate) fn socket(&self) -> anyhow::Result<Socket> {
        self.socket_of(Domain::IPV4)
    }

    /// An unconnected socket of a family.
    pub(crate) fn socket_of(&self, family: Domain) -> anyhow::Result<Socket> {
        self.namespace
            .run(|| Ok(Socket::new(family, Type::STREAM, None)?))
    }

    /// Begins to connect to the peer, which has not heard of it yet.
    pub(crate) fn begin(&self, socket: &Socket) -> anyhow::Result<Flow> {
        begin_connect(socket, self.peer.address(SERVICE))?;
        Ok(self.peer.listen(SERVICE))
    }

    /// A connection to the peer.
    pub(crate) fn connected(&self) -> anyhow::Result<(Socket, Flow)> {
        let socket = self.socket()?;
        let flow = self.connect(&socket)?;
        Ok((socket, flow))
    }

    /// Connects a socket to the peer.
    pub(crate) fn connect(&self, socket: &Socket) -> anyhow::Result<Flow> {
        let mut flow = self.begin(socket)?;
        flow.open()?;
        wait_state(socket, ESTABLISHED)?;
        socket.set_nonblocking(false)?;
        Ok(flow)
    }

    /// Listens for the peer.
    pub(crate) fn listen(&self) -> anyhow::Result<TcpListener> {
        Ok(self.namespace.listen(&self.peer.here(HOME).to_string())?.0)
    }

    /// A connection that the peer opened and this host accepted; the listener goes on listening.
    pub(crate) fn accepted(&self) -> anyhow::Result<(TcpListener, TcpStream, Flow)> {
        let listener = self.listen()?;
        let mut flow = self.peer.connect(HOME);
        flow.open()?;
        let socket = accept(&listener, &flow)?;
        Ok((listener, socket, flow))
    }

    /// A connection to the peer that is shut down here, in FIN_WAIT2.
    pub(crate) fn half_closed(&self) -> anyhow::Result<(Socket, Flow)> {
        let (socket, mut flow) = self.connected()?;
        socket.shutdown(Shutdown::Write)?;
        flow.expect_fin()?;
        flow.send_ack()?;
        wait_state(&socket, FIN_WAIT2)?;
        Ok((socket, flow))
    }

    /// A connection to the peer that both have closed, the peer first, in LAST_ACK.
    pub(crate) fn closed_by_the_peer(&self) -> anyhow::Result<Flow> {
        let (socket, mut flow) = self.connected()?;
        flow.send_fin()?;
        wait_state(&socket, CLOSE_WAIT)?;
        drop(socket);
        flow.expect_fin()?;
        Ok(flow)
    }

    /// A connection to the peer that is closed here and has lost its full socket: a minisocket
    /// waits for the peer's FIN.
    pub(crate) fn orphaned(&self) -> anyhow::Result<Flow> {
        let (socket, mut flow) = self.connected()?;
        drop(socket);
        flow.expect_fin()?;
        flow.send_ack()?;
        self.wait_step("FIN_WAIT2→CLOSE")?;
        Ok(flow)
    }

    /// The connections seen until now.
    pub(crate) fn so_far(&self) -> anyhow::Result<Vec<ConnectionRecords>> {
        let records = self.settled()?;
        ConnectionRecords::all(&records, &self.namespace)
    }

    /// Everything seen until now, listeners included.
    pub(crate) fn settled(&self) -> anyhow::Result<Records> {
        self.watch.borrow_mut().settled()
    }

    /// The connections that there were, once as many have ended. There were no others.
    pub(crate) fn lives<const N: usize>(&self) -> anyhow::Result<[ConnectionRecords; N]> {
        let ended = |records: &Records| records.of("connection").len() >= N;
        self.watch
            .borrow()
            .wait_own(&format!("the end of {N}"), ended)?;
        let lives = self.so_far()?;
        let count = lives.len();
        lives.try_into().map_err(|lives: Vec<ConnectionRecords>| {
            let told: Vec<_> = lives.iter().map(ConnectionRecords::to_string).collect();
            anyhow!("{count} connections, and not {N}:\n{}", told.join("\n"))
        })
    }

    /// The only connection that there was, once it has ended; it went through exactly these states.
    pub(crate) fn went(&self, states: &str) -> anyhow::Result<ConnectionRecords> {
        let [life] = self.lives()?;
        life.went(states)?;
        Ok(life)
    }

    /// Waits until the tail has shown a transition.
    pub(crate) fn wait_step(&self, step: &str) -> Check {
        let is_step = |record: &Record| record.step().as_deref() == Some(step);
        self.watch
            .borrow()
            .wait_own(step, |records| records.0.iter().any(is_step))
    }

    /// Waits until the tail has shown a record of this type.
    pub(crate) fn wait_record(&self, kind: &str) -> Check {
        self.watch
            .borrow()
            .wait_own(kind, |records| !records.of(kind).is_empty())
    }

    /// There is nothing to be seen but listeners.
    pub(crate) fn nothing_yet(&self) -> Check {
        let lives = self.so_far()?;
        match &lives[..] {
            [] => Ok(()),
            [first, ..] => Err(anyhow!("something is seen:\n{first}")),
        }
    }
}

/// Accepts the peer's connection.
pub(crate) fn accept(listener: &TcpListener, flow: &Flow) -> anyhow::Result<TcpStream> {
    let (socket, peer): (_, SocketAddr) = listener.accept().context("accepting")?;
    ensure!(peer == flow.peer(), "somebody else connected: {peer}");
    Ok(socket)
}
