//! What the kernel's own tables hold, in every network namespace that can be found: sockets by
//! state, how full the queues and port ranges are, and the counters of dropped packets.
//!
//! Polled on a thread of its own and never by a scrape. A walk over many sockets takes time: the
//! thread then rests longer, up to a few intervals, so that it uses at most a twentieth of a
//! processor.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use hashbrown::HashMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use tcptrace_common::TcpState;

use crate::{
    clock::{self, ClockReading, WallClock},
    feed::event::NetnsId,
    host::netns::{self, Namespace},
    privileges,
    sock_diag::{Diag, DiagFamily, DiagSocket},
    warnings::Warnings,
};

/// Every state that a socket is listed in: from ESTABLISHED (1) to NEW_SYN_RECV (12).
const STATES: u32 = 0x1ffe;
/// The thread rests this many times as long as it ran on a processor,
const REST: u32 = 19;
/// but at most this many intervals: a result is shown until the next one.
const LONGEST_REST: u32 = 4;

/// Counters of `/proc/net/netstat`, `TcpExt`.
pub const COUNTERS: [&str; 5] = [
    "TCPTimeWaitOverflow",
    "ListenOverflows",
    "ListenDrops",
    "TCPReqQFullDrop",
    "SyncookiesSent",
];

#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    pub time: Timestamp,
    /// SocketCounts by state; full ones if there are both kinds.
    pub sockets: BTreeMap<TcpState, u64>,
    /// Timewait sockets in FIN_WAIT2, which wait for the peer's FIN.
    pub fin_wait2_minisockets: u64,
    /// The smallest `tcp_max_tw_buckets`.
    pub time_wait_limit: Option<u64>,
    /// The fewest ports in any `ip_local_port_range`.
    pub ephemeral_ports: Option<u64>,
    /// The most of those in use between one local address and one destination.
    pub ephemeral_in_use: u64,
    /// The fullest listener of each port.
    pub queues: BTreeMap<u16, Queue>,
    /// [`COUNTERS`], summed since the namespaces were made or, for the first poll, found.
    pub counters: [u64; COUNTERS.len()],
}

/// A listener's accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait for accept().
    pub length: u32,
    /// `sk_max_ack_backlog`: how many connections may wait.
    pub limit: u32,
}

impl Queue {
    /// Whether it is fuller than the other one.
    pub fn is_fuller(&self, other: &Self) -> bool {
        let full = |one: &Self, other: &Self| u64::from(one.length) * u64::from(other.limit.max(1));
        (full(self, other), self.length) > (full(other, self), other.length)
    }
}

/// The polling thread, which ends when this is dropped.
pub struct Poll {
    last: Arc<Mutex<Option<Arc<Levels>>>>,
    _stop: Sender<()>,
}

impl Poll {
    /// Starts the thread, which polls once now and then every interval.
    pub fn start(interval: Duration) -> io::Result<Self> {
        let last = Arc::new(Mutex::new(None));
        let (stop, stopped) = channel::<()>();
        let shared = Arc::clone(&last);
        privileges::spawn("levels", move || {
            let mut poller = Poller::default();
            loop {
                let began = clock::monotonic_ns();
                let (levels, worked) = poller.poll();
                if let Some(levels) = levels {
                    *shared.lock() = Some(Arc::new(levels));
                }
                let took = Duration::from_nanos(clock::monotonic_ns() - began);
                let resting = stopped.recv_timeout(rest(interval, took, worked));
                if resting != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { last, _stop: stop })
    }

    /// Returns the result of the last poll; `None` before the first one.
    pub fn last(&self) -> Option<Arc<Levels>> {
        self.last.lock().clone()
    }
}

/// Returns how long to rest after a poll that took `took`, of which `worked` on a processor.
fn rest(interval: Duration, took: Duration, worked: Duration) -> Duration {
    let share = (worked * REST).min(interval * LONGEST_REST);
    interval.saturating_sub(took).max(share)
}

#[derive(Default)]
struct Poller {
    /// The previous counters of each namespace.
    counted: HashMap<NetnsId, [u64; COUNTERS.len()]>,
    sums: [u64; COUNTERS.len()],
    warnings: Warnings,
}

/// The result for one namespace.
#[derive(Default)]
struct NamespaceLevels {
    counters: Option<[u64; COUNTERS.len()]>,
    time_wait_limit: Option<u64>,
    ports: Option<(u16, u16)>,
    sockets: SocketCounts,
    error: Option<String>,
    /// The time on a processor.
    worked: Duration,
}

/// What is counted over the sockets of a namespace.
#[derive(Default)]
struct SocketCounts {
    by_state: BTreeMap<TcpState, u64>,
    fin_wait2_minisockets: u64,
    queues: BTreeMap<u16, Queue>,
    /// By local address and destination.
    ephemeral: HashMap<(IpAddr, IpAddr, u16), u64>,
}

impl Poller {
    /// Returns the result, and the time on processors.
    fn poll(&mut self) -> (Option<Levels>, Duration) {
        let before = clock::thread_cpu();
        let mut inside = Duration::ZERO;
        let levels = self.read_namespaces(&mut inside);
        (levels, inside + clock::thread_cpu().saturating_sub(before))
    }

    fn read_namespaces(&mut self, worked: &mut Duration) -> Option<Levels> {
        let now = ClockReading::now();
        let mut levels = Levels {
            time: WallClock::new(now).wall(now.monotonic_ns),
            sockets: BTreeMap::new(),
            fin_wait2_minisockets: 0,
            time_wait_limit: None,
            ephemeral_ports: None,
            ephemeral_in_use: 0,
            queues: BTreeMap::new(),
            counters: [0; COUNTERS.len()],
        };
        let mut counted = HashMap::new();
        let found = netns::find(|namespace| {
            let before = self.counted.get(&namespace.id).copied();
            let here = match namespace.enter(|| read_namespace(&namespace)) {
                Ok(here) => here,
                Err(error) => {
                    self.warn(&format!("entering a network namespace: {error}"));
                    counted.extend(before.map(|before| (namespace.id, before)));
                    return;
                }
            };
            *worked += here.worked;
            if let Some(why) = &here.error {
                self.warn(why);
            }
            if let Some(now) = here.counters {
                for (sum, new) in self.sums.iter_mut().zip(increase(before, now)) {
                    *sum += new;
                }
            }
            counted.extend(here.counters.or(before).map(|last| (namespace.id, last)));
            levels.add(here);
        });
        if let Err(error) = found {
            self.warn(&format!("looking for network namespaces: {error}"));
            return None;
        }
        self.counted = counted;
        levels.counters = self.sums;
        Some(levels)
    }

    fn warn(&mut self, why: &str) {
        self.warnings.warn(format!(
            "not all of the kernel's socket tables could be read: {why}"
        ));
    }
}

impl Levels {
    fn add(&mut self, here: NamespaceLevels) {
        let smaller = |one: Option<u64>, other: Option<u64>| match (one, other) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let size = here.ports.map(|(first, last)| u64::from(last - first) + 1);
        self.time_wait_limit = smaller(self.time_wait_limit, here.time_wait_limit);
        self.ephemeral_ports = smaller(self.ephemeral_ports, size);
        let most = here.sockets.ephemeral.values().max().copied();
        self.ephemeral_in_use = self.ephemeral_in_use.max(most.unwrap_or(0));
        self.fin_wait2_minisockets += here.sockets.fin_wait2_minisockets;
        for (state, count) in here.sockets.by_state {
            *self.sockets.entry(state).or_default() += count;
        }
        for (port, queue) in here.sockets.queues {
            fuller(&mut self.queues, port, queue);
        }
    }
}

/// Returns how much the counters of a namespace grew since `before`. If one is lower, it is another
/// namespace with a reused number (before Linux 5.14), which counts from 0.
fn increase(
    before: Option<[u64; COUNTERS.len()]>,
    now: [u64; COUNTERS.len()],
) -> [u64; COUNTERS.len()] {
    let before = before
        .filter(|before| before.iter().zip(&now).all(|(before, now)| before <= now))
        .unwrap_or_default();
    std::array::from_fn(|n| now[n] - before[n])
}

/// Keeps the fullest queue of a port.
fn fuller(queues: &mut BTreeMap<u16, Queue>, port: u16, queue: Queue) {
    let held = queues.entry(port).or_insert(queue);
    if queue.is_fuller(held) {
        *held = queue;
    }
}

/// Returns the first and the last port of `ip_local_port_range` in the calling thread's namespace.
pub fn port_range() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range(&text)
}

/// Reads everything in the calling thread's namespace.
fn read_namespace(namespace: &Namespace) -> NamespaceLevels {
    let mut here = NamespaceLevels {
        counters: std::fs::read_to_string("/proc/thread-self/net/netstat")
            .ok()
            .and_then(|text| counters(&text)),
        time_wait_limit: number("/proc/sys/net/ipv4/tcp_max_tw_buckets"),
        ports: port_range(),
        ..NamespaceLevels::default()
    };
    if let Err(why) = here.sockets.walk(here.ports) {
        here.error = Some(format!("namespace {}: {why}", namespace.id.inode));
    }
    // The thread was made for this.
    here.worked = clock::thread_cpu();
    here
}

impl SocketCounts {
    fn walk(&mut self, ports: Option<(u16, u16)>) -> Result<(), String> {
        let mut diag = Diag::here().map_err(|error| error.to_string())?;
        let mut complete = true;
        for family in [DiagFamily::V4, DiagFamily::V6] {
            let outcome = diag
                .dump(family, STATES, |socket| self.count(&socket, ports))
                .map_err(|error| error.to_string())?;
            complete &= outcome.is_complete();
        }
        if complete {
            Ok(())
        } else {
            Err("the kernel's list of sockets came in pieces".to_owned())
        }
    }

    fn count(&mut self, socket: &DiagSocket, ports: Option<(u16, u16)>) {
        if socket.is_minisocket() && socket.state == TcpState::FinWait2 {
            self.fin_wait2_minisockets += 1;
        } else {
            *self.by_state.entry(socket.state).or_default() += 1;
        }
        let tuple = &socket.tuple;
        if socket.state == TcpState::Listen {
            let queue = Queue {
                length: socket.receive_queue,
                limit: socket.send_queue,
            };
            fuller(&mut self.queues, tuple.local_port, queue);
        } else if ports.is_some_and(|(first, last)| (first..=last).contains(&tuple.local_port)) {
            let pair = (tuple.local_address, tuple.remote_address, tuple.remote_port);
            *self.ephemeral.entry(pair).or_default() += 1;
        }
    }
}

fn number(path: &str) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Parses two numbers.
pub fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let range = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Parses [`COUNTERS`] from `/proc/net/netstat`: a line of names, and one of numbers. Missing ones
/// are 0.
pub fn counters(text: &str) -> Option<[u64; COUNTERS.len()]> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("TcpExt:"))
        .map(str::split_whitespace);
    let (names, numbers) = (lines.next()?, lines.next()?);
    let by_name: HashMap<&str, u64> = names
        .zip(numbers)
        .filter_map(|(name, number)| Some((name, number.parse().ok()?)))
        .collect();
    Some(COUNTERS.map(|name| by_name.get(name).copied().unwrap_or(0)))
}

#[cfg(test)]
#[path = "levels_tests.rs"]
mod tests;
