//! One connection and what is known of it.

use std::net::IpAddr;

use tcptrace_common::TcpState;

use super::{
    evidence::CoverageStart,
    lifecycle::{Step, is_synchronized},
    listeners::Listeners,
};
use crate::feed::event::{Details, Endpoints, HandshakeRequest, SocketOwner, Task, Transition};
use crate::tracker::name_table::{NameTable, SocketNames};
use crate::tracker::vocabulary::{
    ClosedBy, Completeness, HandshakeSource, Moment, Origin, Process, ProcessSource, Role,
};

/// The allocation of a timewait socket (`inet_twsk_alloc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allocation {
    /// The timewait socket's address; `None` when there was no room for it.
    pub(super) timewait: Option<u64>,
    /// It begins in FIN_WAIT2.
    pub(super) awaits_fin: bool,
}

/// How a connection was opened.
#[derive(Clone, Debug, Default)]
pub struct Handshake {
    /// The first transition.
    pub opened: Option<Moment>,
    /// →ESTABLISHED.
    pub established_at: Option<Moment>,
    /// How long the handshake took, nanoseconds, and where the value comes from.
    pub took: Option<(u64, HandshakeSource)>,
    /// Retransmits of the SYN or SYN-ACK, once established.
    pub syn_retransmits: Option<u32>,
    /// How a passive handshake began, as far as it is known.
    pub request: HandshakeRequest,
    /// Whether the SYN carried data that was accepted (TCP Fast Open, RFC 7413); `None` if unknown.
    pub fast_open: Option<bool>,
    /// accept() returned the connection.
    pub accepted_at: Option<Moment>,
    /// The smoothed round-trip time at ESTABLISHED, microseconds.
    pub srtt_us: Option<u32>,
    /// TCP_REPAIR restored the connection: it never sent a SYN.
    pub(super) repaired: bool,
}

/// How a connection is closed, as far as its full socket tells.
#[derive(Clone, Debug, Default)]
pub struct Closing {
    /// The first FIN, ours or the peer's.
    pub first_fin: Option<Moment>,
    /// The second FIN, if it was seen.
    pub second_fin: Option<Moment>,
    pub first_fin_by: Option<ClosedBy>,
    /// The peer acknowledged our FIN: FIN_WAIT2 began.
    pub fin_acked: Option<Moment>,
    /// The timewait socket that was to take over.
    pub(super) timewait: Option<Allocation>,
}

/// The resets of a connection while it lived.
#[derive(Clone, Debug, Default)]
pub struct Resets {
    /// The kernel acted on a RST from the peer.
    pub received: bool,
    /// The kernel sent a RST.
    pub sent: bool,
    /// Why it sent the first RST: `enum sk_rst_reason` of the running kernel.
    pub reason: Option<u32>,
}

/// How the tracker follows a connection.
#[derive(Clone, Debug)]
pub(super) struct Followed {
    /// The state before the current one; the current one if the transition was not seen.
    pub(super) before: TcpState,
    /// The connection's last event.
    pub(super) touched: Moment,
    /// The last walk over the kernel's sockets that found it.
    pub(super) walk: u64,
    /// The connection was first seen after its handshake, by an event of its own.
    pub(super) met: bool,
    /// How many times the tracker had settled when the connection was first seen, after its
    /// handshake.
    pub(super) met_in: u64,
    /// How many events were lost when its state last changed. If no more events of a hook have been
    /// lost since, the hook's silence is evidence. `None` when what came before its end was not
    /// seen.
    pub(super) heard: Option<CoverageStart>,
}

/// What is known of a connection while it lives.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Unique within a run of the tracker.
    pub id: u64,
    /// The kernel's address of its socket.
    pub socket: u64,
    /// Which side opened it.
    pub role: Role,
    pub state: TcpState,
    /// When the state was entered; `None` if that was not seen. Entering it again does not count.
    pub state_since: Option<Moment>,
    /// How much of it was seen.
    pub completeness: Completeness,
    /// It reached a synchronized state.
    pub established: bool,
    pub endpoints: Option<Endpoints>,
    /// Its user and its cgroup.
    pub owner: SocketOwner,
    /// The names of its cgroup and interface.
    pub named: SocketNames,
    pub process: Option<Process>,
    pub handshake: Handshake,
    pub closing: Closing,
    pub resets: Resets,
    pub(super) followed: Followed,
}

impl Connection {
    pub(super) fn new(id: u64, socket: u64, role: Role, state: TcpState) -> Self {
        Self {
            id,
            socket,
            role,
            state,
            state_since: None,
            completeness: Completeness::Full,
            established: false,
            endpoints: None,
            owner: SocketOwner::default(),
            named: SocketNames::default(),
            process: None,
            handshake: Handshake::default(),
            closing: Closing::default(),
            resets: Resets::default(),
            followed: Followed {
                before: state,
                touched: Moment::MIN,
                walk: 0,
                met: false,
                met_in: 0,
                heard: None,
            },
        }
    }

    /// Returns how long the connection waited for accept() after ESTABLISHED, nanoseconds: 0 when
    /// accept() came first, `None` when either was not seen.
    pub fn accept_wait_ns(&self) -> Option<u64> {
        let (established, accepted) = (self.handshake.established_at?, self.handshake.accepted_at?);
        Some(accepted.get().saturating_sub(established.get()))
    }

    /// Whether the handshake is known to have used a SYN cookie: the kernel kept no request.
    pub fn is_syn_cookie(&self) -> bool {
        self.handshake
            .request
            .seen
            .is_some_and(|seen| seen.synack_us.is_none() && !seen.fast_open)
    }

    /// Whether TCP_DEFER_ACCEPT is set: then the handshake ends only when data arrives, and has no
    /// time.
    pub const fn deferred(&self) -> Option<bool> {
        self.handshake.request.deferred
    }

    /// Whether every address and port is known.
    pub fn is_identified(&self) -> bool {
        self.endpoints
            .is_some_and(|ends| ends.local_port != 0 && ends.remote_port != 0)
    }

    /// Returns the service's port: the local one for a passive open, the peer's for an active one.
    pub fn service_port(&self) -> Option<u16> {
        self.role.service_port(self.endpoints.as_ref())
    }

    /// Whether both ends are on this host's loopback.
    pub fn is_loopback(&self) -> bool {
        self.endpoints.is_some_and(|ends| {
            ends.local_address.is_loopback() && ends.remote_address.is_loopback()
        })
    }

    /// Whether the remote end is known to differ from `new`. The local end may differ: a
    /// transparent proxy's child first has its listener's address.
    pub(super) fn has_another_peer_than(&self, new: &Endpoints) -> bool {
        self.endpoints.is_some_and(|known| {
            let ports = [known.remote_port, new.remote_port];
            let addresses = [known.remote_address, new.remote_address];
            (!ports.contains(&0) && ports[0] != ports[1])
                || (!addresses.iter().any(IpAddr::is_unspecified) && addresses[0] != addresses[1])
        })
    }

    /// Learns the names of the cgroup and the interface, if they were not known.
    pub(super) fn learn_names(&mut self, names: &NameTable) {
        if self.named.cgroup.is_none() && self.owner.cgroup.is_some() {
            self.named.cgroup = names.cgroup(&self.owner);
        }
        if let (None, Some(ends)) = (&self.named.interface, &self.endpoints) {
            self.named.interface = names.interface(ends);
        }
    }

    /// Learns the ports and addresses that were missing.
    pub(super) fn learn_endpoints(&mut self, new: &Endpoints) {
        let Some(known) = &mut self.endpoints else {
            self.endpoints = Some(*new);
            return;
        };
        let unknown = |address: IpAddr| address.is_unspecified();
        if new.local_port != 0 {
            known.local_port = new.local_port;
        }
        if new.remote_port != 0 {
            known.remote_port = new.remote_port;
        }
        if !unknown(new.local_address) {
            known.local_address = new.local_address;
        }
        if !unknown(new.remote_address) {
            known.remote_address = new.remote_address;
        }
        known.netns = new.netns.or(known.netns);
        known.interface = new.interface.or(known.interface);
    }

    /// Learns from a state whose FIN was first on the wire. `fin_left` tells whether our FIN had
    /// left when the state was entered. The first answer is kept, except that a simultaneous close
    /// begins like one of ours.
    pub(super) fn learn_closer(&mut self, state: TcpState, fin_left: Option<bool>) {
        match state {
            // close() comes long before the FIN when data waits to be sent.
            TcpState::FinWait1 if fin_left != Some(true) => {}
            TcpState::FinWait1 | TcpState::FinWait2 => {
                self.closing.first_fin_by.get_or_insert(ClosedBy::Local);
            }
            TcpState::CloseWait | TcpState::LastAck => {
                self.closing.first_fin_by.get_or_insert(ClosedBy::Remote);
            }
            // The peer's FIN came before ours left, or before the peer had ours.
            TcpState::Closing => match (fin_left, self.closing.first_fin_by) {
                (Some(false), _) => self.closing.first_fin_by = Some(ClosedBy::Remote),
                (Some(true), _) | (None, Some(ClosedBy::Local)) => {
                    self.closing.first_fin_by = Some(ClosedBy::Simultaneous);
                }
                (None, _) => {}
            },
            TcpState::Established
            | TcpState::SynSent
            | TcpState::SynRecv
            | TcpState::TimeWait
            | TcpState::Close
            | TcpState::Listen
            | TcpState::NewSynRecv => {}
        }
    }

    /// Marks the connection `gap`. Returns 1 when that is new, for the count.
    pub(super) fn mark_gap(&mut self) -> u64 {
        let new = self.completeness != Completeness::Gap;
        self.completeness = Completeness::Gap;
        new.into()
    }

    /// Learns when a phase of the connection began.
    pub(super) fn learn_step(&mut self, step: Step, time: Moment, fin_left: Option<bool>) {
        let left = fin_left == Some(true);
        match step {
            Step::SynsCrossed => self.role = Role::Simultaneous,
            Step::Established => self.handshake.established_at = Some(time),
            Step::FinAcknowledged => self.closing.fin_acked = Some(time),
            Step::RemoteFin => self.closing.first_fin = Some(time),
            // Data waits to be sent: when the FIN leaves is not known.
            Step::LocalFin => self.closing.first_fin = left.then_some(time),
            Step::SecondFin => self.closing.second_fin = left.then_some(time),
            Step::FinsCrossed if left => self.closing.second_fin = Some(time),
            Step::FinsCrossed => self.closing.first_fin = fin_left.map(|_| time),
            Step::ActiveOpen
            | Step::PassiveOpen
            | Step::Listen
            | Step::StopListening
            | Step::Close
            | Step::Again
            | Step::Impossible => {}
        }
    }

    /// Events were lost: the next one finds the connection in `state`.
    pub(super) fn resume_in(&mut self, state: TcpState) {
        self.state_since = None;
        self.followed.heard = None;
        self.learn_closer(state, None);
        if state == TcpState::SynRecv && self.role == Role::Active {
            // Either the SYNs crossed, or it is another connection, a listener's child.
            self.role = Role::Unknown;
        }
    }

    /// Learns from a transition whose FIN came first.
    pub(super) fn learn_closers(&mut self, transition: &Transition) {
        self.learn_closer(transition.new, transition.fin_left);
        if let (TcpState::FinWait1, Some(fields)) = (transition.old, transition.details.close()) {
            self.learn_closer(transition.old, Some(fields.all_left()));
        }
    }

    /// Returns whether a transition shows for the first time that the connection was established.
    pub(super) fn learn_established(&mut self, transition: &Transition) -> bool {
        let (old, new) = (transition.old, transition.new);
        let served = old == TcpState::SynRecv
            && new != TcpState::Established
            && self.was_served_in_syn_recv(transition);
        if served {
            self.handshake.fast_open = Some(true);
        }
        let established = served || is_synchronized(old) || is_synchronized(new);
        let is_new = established && !self.established;
        self.established |= established;
        is_new
    }

    /// Whether the connection was served in SYN_RECV, as a child of Fast Open is (RFC 7413), though
    /// its last ACK never came: its SYN tells, or that it was accepted, closed or had data there
    /// (`tcp_fastopen_add_skb`).
    fn was_served_in_syn_recv(&self, transition: &Transition) -> bool {
        let data = match &transition.details {
            Details::Close { fields, .. } => fields.is_some_and(|fields| fields.bytes_received > 0),
            Details::Release { .. } => true,
            Details::Open { .. }
            | Details::PassiveOpen { .. }
            | Details::Established { .. }
            | Details::Step => false,
        };
        self.role == Role::Passive
            && (self.handshake.fast_open == Some(true)
                || self.handshake.accepted_at.is_some()
                || data)
    }

    /// Takes the listener's process, until the connection is accepted.
    fn add_listener(&mut self, listeners: &Listeners) {
        if let (None, Some(listener)) =
            (self.handshake.accepted_at, self.handshake.request.listener)
        {
            self.process = listeners.process_of(listener).or(self.process);
        }
    }

    /// Takes the process that closed the connection, if it is better known than the previous one: a
    /// listener at the same address need not have had the socket, nor a process that has exited.
    fn add_closer(&mut self, task: &Task) {
        let is_better = self
            .process
            .is_none_or(|known| known.source == ProcessSource::Address || known.gone);
        if is_better {
            self.process = Process::new(task, ProcessSource::Close).or(self.process);
        }
    }

    /// Learns what came with a transition: endpoints, owner, process, handshake.
    pub(super) fn add_details(&mut self, at: Origin, details: &Details, listeners: &Listeners) {
        match details {
            Details::Open {
                endpoints,
                owner,
                task,
                ..
            } => {
                self.endpoints = Some(*endpoints);
                self.owner = *owner;
                self.process = Process::new(task, ProcessSource::Connect);
            }
            Details::PassiveOpen {
                endpoints,
                owner,
                request,
                bind,
            } => {
                self.endpoints = Some(*endpoints);
                self.owner = *owner;
                self.handshake.request = *request;
                self.handshake.fast_open = request.seen.map(|seen| seen.fast_open);
                let request = &mut self.handshake.request;
                request.listener = request
                    .listener
                    .or_else(|| at.cookie.and_then(|cookie| listeners.with_cookie(cookie)));
                self.add_listener(listeners);
                if self.handshake.request.listener.is_none() {
                    self.process = listeners.process_at(endpoints, bind.as_ref());
                }
            }
            Details::Established {
                endpoints,
                handshake,
            } => {
                self.learn_endpoints(endpoints);
                self.handshake.syn_retransmits = handshake.map(|fields| fields.retransmits);
                self.handshake.repaired = handshake.is_some_and(|fields| fields.repair);
                self.handshake.srtt_us = handshake
                    .map(|fields| fields.srtt_us)
                    .filter(|&srtt| srtt != 0);
                match self.role {
                    Role::Passive => {
                        // A child without data in its SYN is not one of Fast Open, except on
                        // listeners that accept those too.
                        if handshake.is_some_and(|fields| fields.syn_data) {
                            self.handshake.fast_open = Some(true);
                        }
                        // A walk may have found the listener since.
                        self.add_listener(listeners);
                    }
                    Role::Active | Role::Simultaneous => {
                        self.handshake.fast_open = handshake.map(|fields| fields.syn_data);
                    }
                    Role::Unknown => {}
                }
            }
            Details::Step => {}
            Details::Release { task } => self.add_closer(task),
            Details::Close { endpoints, .. } => self.learn_endpoints(endpoints),
        }
    }
}
