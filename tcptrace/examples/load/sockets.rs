//! Load on the kernel's TCP over loopback.

#![expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures elapsed time, which comes in no event"
)]

use std::{
    env,
    io::{self, BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail, ensure};
use nix::{
    errno::Errno,
    sched::{CloneFlags, CpuSet, sched_setaffinity, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
    sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, connect, socket},
    unistd::Pid,
};
use serde_json::json;

/// A port below the ephemeral range where nobody is expected to listen.
const NOBODY: u16 = 1;

const PARTS: u32 = 10;

fn tcp() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
}

/// A listener that the kernel gives a port, closed at once: CLOSE→LISTEN→CLOSE.
pub(crate) fn listen() -> anyhow::Result<()> {
    let socket = tcp()?;
    nix::sys::socket::listen(&socket, Backlog::new(1)?)?;
    Ok(())
}

/// A connect that loopback refuses: CLOSE→SYN_SENT→CLOSE and two RSTs.
pub(crate) fn refused() -> anyhow::Result<()> {
    let socket = tcp()?;
    match connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, NOBODY)) {
        Err(Errno::ECONNREFUSED) => Ok(()),
        other => bail!("a connect to port {NOBODY} should be refused: {other:?}"),
    }
}

/// Runs `operation` so many times on the first CPU and reports nanoseconds for each, in the
/// quickest tenth.
pub(crate) fn repeat(count: u32, operation: fn() -> anyhow::Result<()>) -> anyhow::Result<()> {
    ensure!(count > 0, "the count must not be 0");
    enter_namespace()?;
    let mut cpus = CpuSet::new();
    cpus.set(0)?;
    sched_setaffinity(Pid::this(), &cpus).context("keeping to the first CPU")?;
    // The quickest of several parts: what disturbs one of them is not the tracer's.
    let part = count.div_ceil(PARTS);
    let mut least = f64::INFINITY;
    for _ in 0..PARTS {
        let start = Instant::now();
        for _ in 0..part {
            operation()?;
        }
        least = least.min(start.elapsed().as_nanos() as f64 / f64::from(part));
    }
    println!("{}", json!({ "each_ns": least }));
    Ok(())
}

/// Enters a network namespace of our own, whose TIME_WAIT sockets nobody else meets.
fn enter_namespace() -> anyhow::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace (are you root?)")?;
    // SAFETY: zeros are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    let socket = tcp()?;
    // SAFETY: the request outlives the call.
    let answer = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Errno::result(answer).context("bringing lo up")?;
    Ok(())
}

/// Connects, accepts and closes for so many seconds, on every processor; the client closes first.
pub(crate) fn connections(seconds: f64) -> anyhow::Result<()> {
    enter_namespace()?;
    let length = Duration::try_from_secs_f64(seconds)?;
    let start = Instant::now();
    let threads: Vec<_> = (0..thread::available_parallelism()?.get())
        .map(|_| thread::spawn(move || connections_of_one(start, length)))
        .collect();
    let mut count = 0;
    for thread in threads {
        count += thread.join().map_err(|_| anyhow!("a thread panicked"))??;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    println!("{}", json!({ "connections": count, "rate": rate }));
    Ok(())
}

/// Both ends in one thread: over loopback, connect() returns when the handshake is done.
fn connections_of_one(start: Instant, length: Duration) -> anyhow::Result<u32> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let mut count = 0_u32;
    while start.elapsed() < length {
        // Another address for each, so that TIME_WAIT leaves enough ports.
        let [_, second, third, fourth] = (count % (1 << 16)).to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + second, third, fourth.max(1));
        let client = TcpStream::connect(SocketAddrV4::new(address, port))?;
        let server = listener.accept()?;
        drop(client);
        drop(server);
        count += 1;
    }
    Ok(count)
}

/// Connections of one process: two descriptors each, and 20,000 is a usual limit.
const HELD: u32 = 8_000;

/// Holds established connections, both ends here, in as many processes as it takes.
pub(crate) fn hold(count: u32) -> anyhow::Result<()> {
    enter_namespace()?;
    let mut children = Vec::new();
    let mut held = 0;
    while held < count {
        let part = HELD.min(count - held);
        let mut child = Command::new(env::current_exe()?)
            .args(["hold-here", &part.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        let output = child.stdout.as_mut().context("no output")?;
        ensure!(
            BufReader::new(output).read_line(&mut line)? > 0,
            "it could not hold {part}"
        );
        children.push(child);
        held += part;
    }
    println!("{}", json!({ "held": held }));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    for mut child in children {
        drop(child.stdin.take());
        child.wait()?;
    }
    Ok(())
}

/// Holds established connections in this process and namespace.
pub(crate) fn hold_here(count: u32) -> anyhow::Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let port = listener.local_addr()?.port();
    let mut held = Vec::new();
    for index in 0..count {
        let [_, second, third, _] = index.to_be_bytes();
        let address = Ipv4Addr::new(127, 1 + second, third, 1);
        let client = TcpStream::connect(SocketAddrV4::new(address, port))
            .with_context(|| format!("connection {index}"))?;
        held.push((client, listener.accept()?.0));
    }
    println!("{}", json!({ "held": held.len() }));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    Ok(())
}
