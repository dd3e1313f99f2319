//! A host whose sockets do what a test says.

use std::net::{IpAddr, Ipv4Addr};

use tcptrace_common::TcpState::{self, *};

use crate::{
    feed::event::{
        Bind, Body, CloseFields, ConnectFailure, Details, Endpoints, Event, HandshakeFields,
        HandshakeRequest, SocketOwner, Task, Transition,
    },
    metrics::{Metrics, MetricsConfig, Scrape, ScrapeContext},
    probe::{Hook, HookStatus, Source},
    tracker::{GRACE_NS, Item, ResetHooks, Sources, Tracker, TrackerConfig},
};

pub(super) const MS: u64 = 1_000_000;

pub(super) struct Host {
    pub(super) tracker: Tracker,
    pub(super) metrics: Metrics,
    pub(super) now_ns: u64,
    /// Of the sockets that begin from here on.
    pub(super) cgroup: Option<u64>,
    sockets: u64,
}

/// One socket of the host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Socket {
    pub(super) address: u64,
    pub(super) state: TcpState,
    pub(super) ends: Endpoints,
}

/// A peer on the network.
pub(super) const NETWORK: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
/// A peer on this host.
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const EPHEMERAL: u16 = 40_000;
const TASK: Task = Task {
    pid: 4711,
    comm: *b"curl\0\0\0\0\0\0\0\0\0\0\0\0",
    kernel: false,
};

pub(super) fn source(hook: Hook, attached: Result<Source, &str>) -> HookStatus {
    let attached = attached.map_err(str::to_owned);
    HookStatus {
        hook,
        attached,
        better: None,
    }
}

impl Host {
    pub(super) fn new() -> Self {
        Self::with(16, 1 << 18)
    }

    pub(super) fn with(max_ports: usize, max_connections: usize) -> Self {
        let sources = Sources {
            resets: ResetHooks {
                received: true,
                sent: true,
            },
            ..Sources::default()
        };
        Self {
            tracker: Tracker::new(TrackerConfig {
                max_connections,
                sources,
                ..TrackerConfig::default()
            }),
            metrics: Metrics::new(&MetricsConfig {
                max_ports,
                ..MetricsConfig::default()
            }),
            now_ns: 1_000 * MS,
            cgroup: None,
            sockets: 0,
        }
    }

    /// A socket that connects to `port` of `peer`.
    pub(super) fn active(&mut self, peer: IpAddr, port: u16) -> Socket {
        let mut socket = self.socket(Close, peer, EPHEMERAL, port);
        self.go(&mut socket, SynSent);
        socket
    }

    /// A child of the listener at `port`, for `peer`.
    pub(super) fn passive(&mut self, peer: IpAddr, port: u16) -> Socket {
        let mut socket = self.socket(Listen, peer, port, EPHEMERAL);
        self.go(&mut socket, SynRecv);
        socket
    }

    /// A socket that has been in `state` since before we looked.
    pub(super) fn socket(
        &mut self,
        state: TcpState,
        peer: IpAddr,
        local_port: u16,
        remote_port: u16,
    ) -> Socket {
        self.sockets += 1;
        let local_address = if peer.is_loopback() {
            peer
        } else {
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))
        };
        Socket {
            address: 0xffff_8880_0000_0000 + self.sockets * 0x800,
            state,
            ends: Endpoints {
                local_address,
                remote_address: peer,
                local_port,
                remote_port,
                netns: Some(crate::feed::event::NetnsId::without_cookie(4_026_531_840)),
                interface: None,
            },
        }
    }

    /// The next transition, a microsecond later.
    pub(super) fn go(&mut self, socket: &mut Socket, new: TcpState) {
        self.transition(socket, new, CloseFields::default(), 0);
    }

    /// →ESTABLISHED after `retransmits`.
    pub(super) fn establish(&mut self, socket: &mut Socket, retransmits: u32) {
        self.transition(socket, Established, CloseFields::default(), retransmits);
    }

    /// →CLOSE.
    pub(super) fn close(&mut self, socket: &mut Socket, fields: CloseFields) {
        self.transition(socket, Close, fields, 0);
    }

    fn transition(
        &mut self,
        socket: &mut Socket,
        new: TcpState,
        fields: CloseFields,
        retransmits: u32,
    ) {
        let endpoints = socket.ends;
        let old = socket.state;
        let owner = SocketOwner {
            cgroup: self.cgroup,
            ..SocketOwner::default()
        };
        let details = match (old, new) {
            (Close, SynSent | Listen) => Details::Open {
                endpoints,
                owner,
                task: TASK,
                bind: Some(Bind::default()),
            },
            (Listen, SynRecv) => Details::PassiveOpen {
                endpoints,
                owner,
                request: HandshakeRequest::default(),
                bind: Some(Bind::default()),
            },
            (_, Established) => Details::Established {
                endpoints,
                handshake: Some(HandshakeFields {
                    srtt_us: 900,
                    retransmits,
                    ..HandshakeFields::default()
                }),
            },
            (_, Close) => Details::Close {
                endpoints,
                fields: Some(fields),
            },
            (_, FinWait1 | LastAck) => Details::Release { task: TASK },
            (_, _) => Details::Step,
        };
        socket.state = new;
        self.event(
            socket.address,
            Body::Transition(Transition {
                old,
                new,
                details,
                fin_left: Some(true),
            }),
        );
    }

    /// accept() returns a child.
    pub(super) fn accept(&mut self, child: &Socket) {
        let body = Body::Accept {
            state: child.state,
            endpoints: child.ends,
            task: TASK,
            listener: None,
        };
        self.event(child.address, body);
    }

    /// A policy forbids connect() to `port` of `peer`.
    pub(super) fn forbid(&mut self, peer: IpAddr, port: u16) {
        let socket = self.socket(Close, peer, 0, port);
        let body = Body::ConnectFailed(ConnectFailure {
            endpoints: socket.ends,
            owner: SocketOwner::default(),
            task: TASK,
            error: 1,
            policy: true,
        });
        self.event(socket.address, body);
    }

    /// The listener of a child sends a SYN-ACK again.
    pub(super) fn synack_retransmit(&mut self, child: &Socket) {
        self.event(0x1000, Body::SynackRetransmit(child.ends));
    }

    pub(super) fn reset(&mut self, socket: &Socket, sent: bool) {
        let body = if sent {
            Body::ResetSent {
                endpoints: socket.ends,
                reason: Some(8),
            }
        } else {
            Body::ResetReceived(socket.ends)
        };
        self.event(socket.address, body);
    }

    fn feed(&mut self, item: &Item) {
        for update in self.tracker.apply(item) {
            self.metrics.update(&update);
        }
    }

    fn event(&mut self, socket: u64, body: Body) {
        self.now_ns += 1_000;
        let event = Event {
            time_ns: self.now_ns,
            socket,
            cookie: None,
            recovered: false,
            body,
        };
        self.feed(&Item::Time(event.time_ns));
        self.feed(&Item::Event(event));
    }

    /// Time passes.
    pub(super) fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
        self.feed(&Item::Time(self.now_ns));
    }

    /// Every record that waits is written.
    pub(super) fn settle(&mut self) {
        self.wait(GRACE_NS);
    }

    /// What is around the metrics when every hook is attached.
    pub(super) fn context(&self) -> ScrapeContext {
        ScrapeContext {
            tracker: self.tracker.snapshot(),
            hooks: Hook::ALL
                .iter()
                .map(|&hook| source(hook, Ok(Source::TpBtf)))
                .collect(),
            ..ScrapeContext::default()
        }
    }

    pub(super) fn scrape(&mut self) -> Scrape {
        let context = self.context();
        self.metrics.scrape(context)
    }
}
