//! What the kernel's own tables hold, in every network namespace that can be found: how many sockets
//! in each state, how full the queues and port ranges are, and the counters of what it dropped.
//!
//! Polled on a thread of its own and never by a scrape. A walk over many sockets takes its time: the
//! thread then rests longer, so that it takes no more than a twentieth of a processor, up to some intervals.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use hashbrown::HashMap;
use jiff::Timestamp;
use tcptrace_common::TcpState;

use crate::{
    clock::{self, ClockReading, WallClock},
    feed::event::NetnsId,
    host::netns::{self, Namespace},
    sock_diag::{Diag, DiagSocket, Family},
};

/// Every state that a socket is listed in: from ESTABLISHED (1) to NEW_SYN_RECV (12).
const STATES: u32 = 0x1ffe;
/// The thread rests so many times as long as it ran on a processor.
const REST: u32 = 19;
/// But no longer than so many intervals: what is found is shown until the next time.
const LONGEST_REST: u32 = 4;

/// Counters of `/proc/net/netstat`, `TcpExt`.
pub const COUNTERS: [&str; 5] = [
    "TCPTimeWaitOverflow",
    "ListenOverflows",
    "ListenDrops",
    "TCPReqQFullDrop",
    "SyncookiesSent",
];

/// What a poll found, over all namespaces.
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    /// When.
    pub time: Timestamp,
    /// Sockets by state; full ones where there are both kinds.
    pub sockets: BTreeMap<TcpState, u64>,
    /// Timewait sockets that wait for the peer's FIN, in FIN_WAIT2.
    pub fin_wait2_minisockets: u64,
    /// `tcp_max_tw_buckets`, the smallest.
    pub time_wait_limit: Option<u64>,
    /// How many ports `ip_local_port_range` has, the smallest.
    pub ephemeral_ports: Option<u64>,
    /// Of those, in use between one local address and one destination, the most.
    pub ephemeral_in_use: u64,
    /// The fullest listener of each port.
    pub queues: BTreeMap<u16, Queue>,
    /// [`COUNTERS`], summed up since the namespaces were made or, for the first poll, found.
    pub counters: [u64; COUNTERS.len()],
}

/// A listener's accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Connections that wait for accept().
    pub length: u32,
    /// `sk_max_ack_backlog`: how many may.
    pub limit: u32,
}

impl Queue {
    /// It is fuller than the other one.
    pub fn is_fuller(&self, other: &Self) -> bool {
        let full = |one: &Self, other: &Self| u64::from(one.length) * u64::from(other.limit.max(1));
        (full(self, other), self.length) > (full(other, self), other.length)
    }
}

/// The thread that polls. It ends with this.
pub struct Poll {
    last: Arc<Mutex<Option<Arc<Levels>>>>,
    _stop: Sender<()>,
}

impl Poll {
    /// Polls now and then once in an interval.
    pub fn start(interval: Duration) -> io::Result<Self> {
        let last = Arc::new(Mutex::new(None));
        let (stop, stopped) = channel::<()>();
        let shared = Arc::clone(&last);
        thread::Builder::new()
            .name("levels".to_owned())
            .spawn(move || {
                let mut poller = Poller::default();
                loop {
                    let began = clock::monotonic_ns();
                    let (levels, worked) = poller.poll();
                    if let Some(levels) = levels {
                        *shared.lock().unwrap_or_else(PoisonError::into_inner) =
                            Some(Arc::new(levels));
                    }
                    let took = Duration::from_nanos(clock::monotonic_ns() - began);
                    if stopped.recv_timeout(rest(interval, took, worked))
                        != Err(RecvTimeoutError::Timeout)
                    {
                        return;
                    }
                }
            })?;
        Ok(Self { last, _stop: stop })
    }

    /// What the last poll found; `None` before the first one.
    pub fn last(&self) -> Option<Arc<Levels>> {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How long to rest after a poll that took `took`, of which `worked` on a processor.
fn rest(interval: Duration, took: Duration, worked: Duration) -> Duration {
    let share = (worked * REST).min(interval * LONGEST_REST);
    interval.saturating_sub(took).max(share)
}

/// One poll after the other.
#[derive(Default)]
struct Poller {
    /// By namespace: what its counters were.
    counted: HashMap<NetnsId, [u64; COUNTERS.len()]>,
    sums: [u64; COUNTERS.len()],
    said: BTreeSet<String>,
}

/// What one namespace has.
#[derive(Default)]
struct Here {
    counters: Option<[u64; COUNTERS.len()]>,
    time_wait_limit: Option<u64>,
    ports: Option<(u16, u16)>,
    sockets: Sockets,
    error: Option<String>,
    /// How long it took on a processor.
    worked: Duration,
}

/// What a walk over the sockets of a namespace counts.
#[derive(Default)]
struct Sockets {
    by_state: BTreeMap<TcpState, u64>,
    fin_wait2_minisockets: u64,
    queues: BTreeMap<u16, Queue>,
    /// By local address and destination.
    ephemeral: HashMap<(IpAddr, IpAddr, u16), u64>,
}

impl Poller {
    /// What is found, and how long it took on processors.
    fn poll(&mut self) -> (Option<Levels>, Duration) {
        let before = clock::thread_cpu();
        let mut inside = Duration::ZERO;
        let levels = self.look_everywhere(&mut inside);
        (levels, inside + clock::thread_cpu().saturating_sub(before))
    }

    fn look_everywhere(&mut self, worked: &mut Duration) -> Option<Levels> {
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
            let here = match namespace.enter(|| look(&namespace)) {
                Ok(here) => here,
                Err(error) => {
                    self.complain(&format!("entering a network namespace: {error}"));
                    counted.extend(before.map(|before| (namespace.id, before)));
                    return;
                }
            };
            *worked += here.worked;
            if let Some(why) = &here.error {
                self.complain(why);
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
            self.complain(&format!("looking for network namespaces: {error}"));
            return None;
        }
        self.counted = counted;
        levels.counters = self.sums;
        Some(levels)
    }

    fn complain(&mut self, why: &str) {
        if self.said.len() < 16 && self.said.insert(why.to_owned()) {
            tracing::warn!("the kernel's levels are not complete: {why}");
        }
    }
}

impl Levels {
    fn add(&mut self, here: Here) {
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

/// What counters of a namespace have counted since they were `before`. If one is lower than it was, it is
/// another namespace, which has the number of one that is gone (before Linux 5.14): that counts from 0.
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

/// The first and the last port of `ip_local_port_range`, in the thread's own namespace.
pub fn port_range() -> Option<(u16, u16)> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    range(&text)
}

/// All that is read in the thread's own namespace.
fn look(namespace: &Namespace) -> Here {
    let mut here = Here {
        counters: std::fs::read_to_string("/proc/thread-self/net/netstat")
            .ok()
            .and_then(|text| counters(&text)),
        time_wait_limit: number("/proc/sys/net/ipv4/tcp_max_tw_buckets"),
        ports: port_range(),
        ..Here::default()
    };
    if let Err(why) = here.sockets.walk(here.ports) {
        here.error = Some(format!("namespace {}: {why}", namespace.id.inode));
    }
    // The thread was made for this.
    here.worked = clock::thread_cpu();
    here
}

impl Sockets {
    fn walk(&mut self, ports: Option<(u16, u16)>) -> Result<(), String> {
        let mut diag = Diag::here().map_err(|error| error.to_string())?;
        let mut complete = true;
        for family in [Family::V4, Family::V6] {
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

/// Two numbers and white space.
fn range(text: &str) -> Option<(u16, u16)> {
    let mut numbers = text.split_whitespace().map(str::parse);
    let range = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (range.0 <= range.1).then_some(range)
}

/// [`COUNTERS`] out of `/proc/net/netstat`: a line of names, and one of numbers. One that this
/// kernel does not have is 0.
fn counters(text: &str) -> Option<[u64; COUNTERS.len()]> {
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
