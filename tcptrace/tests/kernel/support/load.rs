//! Connections as fast as two threads can make them: connect, accept, close, on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use anyhow::{Context, anyhow};

use super::{Deadline, namespace::Namespace};

/// Enough for two cores; more would only wait for each other.
const THREADS: usize = 2;
/// Destinations taken in turn: each has all the ephemeral ports for its TIME_WAITs.
const DESTINATIONS: u8 = 64;
/// Transitions of a connection's two ends.
pub(crate) const TRANSITIONS: i64 = 10;

/// Listeners that nobody but the load connects to.
pub(crate) struct Load {
    namespace: Namespace,
    listeners: Vec<TcpListener>,
}

impl Load {
    /// Listens, and makes nothing yet.
    pub(crate) fn new(namespace: &Namespace) -> anyhow::Result<Self> {
        // A small machine has room for few: the FINs of others would be answered with a RST.
        namespace.sysctl("ipv4/tcp_max_tw_buckets", "262144")?;
        let listeners = (0..THREADS)
            .map(|_| Ok(namespace.listen("0.0.0.0:0")?.0))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            namespace: namespace.clone(),
            listeners,
        })
    }

    /// The services' ports, as a comma list.
    pub(crate) fn ports(&self) -> anyhow::Result<String> {
        let ports = self
            .listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port().to_string()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(ports.join(","))
    }

    /// Makes connections for so long, or until there are so many, and answers how many there
    /// were. Both ends of each are closed, the client's first.
    pub(crate) fn run(&self, time: Duration, most: u64) -> anyhow::Result<u64> {
        let deadline = Deadline::after(time);
        let share = most.div_ceil(THREADS as u64);
        let counts: Vec<anyhow::Result<u64>> = thread::scope(|scope| {
            let threads: Vec<_> = self
                .listeners
                .iter()
                .map(|listener| {
                    let work = move || one_thread(listener, deadline, share);
                    scope.spawn(move || self.namespace.run(work))
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
                .collect()
        });
        counts.into_iter().sum()
    }
}

fn one_thread(listener: &TcpListener, deadline: Deadline, most: u64) -> anyhow::Result<u64> {
    let port = listener.local_addr()?.port();
    let destinations = (1..=DESTINATIONS).map(|last| Ipv4Addr::new(127, 0, 1, last));
    let mut made = 0;
    for address in destinations.cycle() {
        if made >= most || deadline.is_over() {
            break;
        }
        let client = TcpStream::connect(SocketAddr::from((address, port))).context("connecting")?;
        let (server, _) = listener.accept().context("accepting")?;
        drop(client);
        drop(server);
        made += 1;
    }
    Ok(made)
}
