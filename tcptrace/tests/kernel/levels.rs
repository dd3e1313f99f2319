//! The levels that the daemon reads from the kernel's own tables.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::Context;
use nix::sys::signal::Signal;

use crate::support::{
    Check,
    daemon::Daemon,
    sockets::{bound, local},
    tests,
};

tests![
    queues_and_states_are_read_from_the_kernels_tables,
    a_leak_is_counted_at_its_port_though_its_listener_is_gone,
    with_the_poll_interval_off_nothing_is_polled,
];

const CLIENTS: i64 = 3;
const BACKLOG: i64 = 7;

fn queues_and_states_are_read_from_the_kernels_tables() -> Check {
    let listener = bound("127.0.0.1:0")?;
    let address: SocketAddr = local(&listener)?;
    let port = address.port().to_string();
    let mut daemon = Daemon::start(&["--poll-interval", "1s", "--metrics.ports", &port])?;
    listener.listen(i32::try_from(BACKLOG)?)?;
    let listener = TcpListener::from(listener);
    let port = [("port", port.as_str())];
    let states = |name| [("state", name)];
    let sockets = "tcptrace_kernel_sockets";

    let clients = (0..CLIENTS)
        .map(|_| TcpStream::connect(address).context("connecting"))
        .collect::<anyhow::Result<Vec<_>>>()?;
    daemon.scrape_until("connections that wait for accept()", |metrics| {
        metrics.count("tcptrace_listener_accept_queue_length", &port) == CLIENTS
            && metrics.count("tcptrace_listener_accept_queue_limit", &port) == BACKLOG
            && metrics.count(sockets, &states("ESTABLISHED")) >= 2 * CLIENTS
            && metrics.count("tcptrace_ephemeral_ports_in_use_max", &[]) >= CLIENTS
    })?;

    // This side closes first, and waits for the other's FINs.
    for _ in 0..CLIENTS {
        drop(listener.accept()?);
    }
    daemon.scrape_until("minisockets in FIN_WAIT2", |metrics| {
        metrics.count("tcptrace_listener_accept_queue_length", &port) == 0
            && metrics.count(sockets, &states("FIN_WAIT2_MINISOCKET")) >= CLIENTS
            && metrics.count(sockets, &states("CLOSE_WAIT")) >= CLIENTS
            && metrics.count("tcptrace_close_wait_connections", &port) == CLIENTS
    })?;
    drop(clients);
    let metrics = daemon.scrape_until("TIME_WAIT", |metrics| {
        metrics.count(sockets, &states("TIME_WAIT")) >= CLIENTS
    })?;
    for name in [
        "tcptrace_time_wait_limit",
        "tcptrace_ephemeral_ports",
        "tcptrace_kernel_poll_timestamp_seconds",
    ] {
        anyhow::ensure!(metrics.count(name, &[]) > 0, "{name}:\n{metrics}");
    }
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn a_leak_is_counted_at_its_port_though_its_listener_is_gone() -> Check {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let port = address.port().to_string();
    let port = [("port", port.as_str())];
    let options = ["--poll-interval", "off", "--metrics.ports", port[0].1];
    let mut daemon = Daemon::start(&options)?;
    let mut leaked = Vec::new();
    for _ in 0..CLIENTS {
        drop(TcpStream::connect(address)?);
        leaked.push(listener.accept()?);
    }
    drop(listener);
    let gauge = "tcptrace_close_wait_connections";
    daemon.scrape_until("connections that nobody closes", |metrics| {
        metrics.count(gauge, &port) == CLIENTS
    })?;
    drop(leaked);
    daemon.scrape_until("the last of them", |metrics| {
        metrics.count(gauge, &port) == 0
    })?;
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}

fn with_the_poll_interval_off_nothing_is_polled() -> Check {
    let mut daemon = Daemon::start(&["--poll-interval", "off"])?;
    let metrics = daemon.scrape()?;
    anyhow::ensure!(
        !metrics.has("tcptrace_kernel_poll_timestamp_seconds", &[]),
        "{metrics}"
    );
    daemon.stop(Signal::SIGTERM)?.must_end_with(0)
}
