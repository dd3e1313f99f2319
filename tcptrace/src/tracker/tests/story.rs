//! What happens to one socket, event by event.

use tcptrace_common::{
    KIND_CLOSE, KIND_ESTABLISHED, KIND_OPEN, KIND_PASSIVE_OPEN, KIND_RELEASE, kind_of_transition,
};

use super::*;
use crate::feed::event::{Bind, HandshakeRequest, SocketOwner};

/// A millisecond: events of a story are that far apart.
pub(super) const MS: u64 = 1_000_000;
/// When stories begin.
pub(super) const START: u64 = 1_000 * MS;
/// The address of the socket that stories are about, unless they say otherwise.
pub(super) const SOCKET: u64 = 0xffff_8880_0000_1000;
/// Who connects.
pub(super) const CLIENT: Task = task(100, *b"client\0\0\0\0\0\0\0\0\0\0");
/// Who listens.
pub(super) const SERVER: Task = task(200, *b"server\0\0\0\0\0\0\0\0\0\0");

const fn task(pid: u32, comm: [u8; 16]) -> Task {
    Task {
        pid,
        comm,
        kernel: false,
    }
}

/// 10.0.0.1 port `local` to 192.0.2.7 port `remote`.
pub(super) fn ends(local: u16, remote: u16) -> Endpoints {
    Endpoints {
        local_address: [10, 0, 0, 1].into(),
        remote_address: [192, 0, 2, 7].into(),
        local_port: local,
        remote_port: remote,
        netns: Some(NetnsId::without_cookie(4_026_531_840)),
        interface: None,
    }
}

/// What a socket says at →CLOSE when nothing went wrong and close() was not called.
pub(super) fn closing() -> CloseFields {
    CloseFields {
        bytes_sent: 100,
        bytes_acked: 101,
        bytes_received: 200,
        segments_sent: 6,
        segments_received: 5,
        srtt_us: 300,
        send_window: 65_535,
        has_socket: true,
        ..CloseFields::default()
    }
}

/// As `closing`, but there never was data.
pub(super) fn unserved() -> CloseFields {
    CloseFields {
        bytes_sent: 0,
        bytes_acked: 0,
        bytes_received: 0,
        ..closing()
    }
}

/// As `closing`, after close(): the application is done with the socket.
pub(super) fn orphan() -> CloseFields {
    CloseFields {
        receive_shut: true,
        send_shut: true,
        dead: true,
        has_socket: false,
        ..closing()
    }
}

/// As `orphan`, and the peer's FIN was received.
pub(super) fn released() -> CloseFields {
    CloseFields {
        peer_fin: true,
        ..orphan()
    }
}

/// A socket and what happened to it so far. Which state it is in is kept here, so that a story
/// without a jump cannot be told wrong.
#[derive(Clone, Debug)]
pub(super) struct Story {
    socket: u64,
    now_ns: u64,
    state: TcpState,
    ends: Endpoints,
    task: Task,
    request: HandshakeRequest,
    bind: Bind,
    /// Our FIN waits behind data, until told otherwise.
    fin_waits: bool,
    events: Vec<Event>,
}

impl Story {
    /// A socket that is about to connect.
    pub(super) fn client() -> Self {
        Self {
            socket: SOCKET,
            now_ns: START,
            state: Close,
            ends: ends(40_000, 443),
            task: CLIENT,
            request: HandshakeRequest::default(),
            bind: Bind::default(),
            fin_waits: false,
            events: Vec::new(),
        }
    }

    /// A child of a listener, not yet made.
    pub(super) fn child() -> Self {
        Self {
            state: Listen,
            ends: ends(443, 50_000),
            task: SERVER,
            ..Self::client()
        }
    }

    /// What its request said.
    pub(super) fn asked(self, request: HandshakeRequest) -> Self {
        Self { request, ..self }
    }

    /// Its request names its listener.
    pub(super) fn has_listener(&self) -> bool {
        self.request.listener.is_some()
    }

    /// Who else may listen where it does, or its listener.
    pub(super) fn bound(self, bind: Bind) -> Self {
        Self { bind, ..self }
    }

    /// A socket that is about to listen on the port that `child` came in by.
    pub(super) fn listener() -> Self {
        let nobody = [0, 0, 0, 0].into();
        Self {
            socket: SOCKET + 0x10_0000,
            state: Close,
            ends: Endpoints {
                local_address: nobody,
                remote_address: nobody,
                ..ends(443, 0)
            },
            task: SERVER,
            ..Self::client()
        }
    }

    pub(super) fn on(self, socket: u64) -> Self {
        Self { socket, ..self }
    }

    pub(super) fn between(self, ends: Endpoints) -> Self {
        Self { ends, ..self }
    }

    /// Who is current from here on.
    pub(super) fn by(self, task: Task) -> Self {
        Self { task, ..self }
    }

    /// In `state`, though no event said so.
    pub(super) fn already(self, state: TcpState) -> Self {
        Self { state, ..self }
    }

    /// From here on our FIN waits behind data that cannot leave.
    pub(super) fn fin_waits(self) -> Self {
        Self {
            fin_waits: true,
            ..self
        }
    }

    /// From here on it does not.
    pub(super) fn fin_leaves(self) -> Self {
        Self {
            fin_waits: false,
            ..self
        }
    }

    /// Nothing happens for a while.
    pub(super) fn wait(self, ns: u64) -> Self {
        let now_ns = self.now_ns + ns;
        Self { now_ns, ..self }
    }

    /// What happens next, `MS` after what happened last.
    pub(super) fn happens(mut self, body: Body) -> Self {
        self.events.push(Event {
            time_ns: self.now_ns,
            socket: self.socket,
            cookie: None,
            recovered: false,
            body,
        });
        self.wait(MS)
    }

    /// Goes to a state, with what the kernel side sends along; →CLOSE as `released` where both
    /// FINs may be done by then, else as `closing`.
    pub(super) fn goes(self, new: TcpState) -> Self {
        let fields = match self.state {
            FinWait2 | Closing | LastAck => released(),
            SynRecv => unserved(),
            Established | SynSent | FinWait1 | TimeWait | Close | CloseWait | Listen
            | NewSynRecv => closing(),
        };
        self.goes_with(new, fields)
    }

    /// Goes from state to state.
    pub(super) fn through(self, states: &[TcpState]) -> Self {
        states.iter().fold(self, |story, &state| story.goes(state))
    }

    /// →CLOSE with the socket's last word.
    pub(super) fn closes(self, fields: CloseFields) -> Self {
        self.goes_with(Close, fields)
    }

    pub(super) fn goes_with(mut self, new: TcpState, fields: CloseFields) -> Self {
        let old = std::mem::replace(&mut self.state, new);
        let details = self.details(old, new, fields);
        let tells = matches!(new, FinWait1 | FinWait2 | LastAck | Closing);
        let fin_left = tells.then_some(!self.fin_waits);
        self.happens(Body::Transition(Transition {
            old,
            new,
            details,
            fin_left,
        }))
    }

    fn details(&self, old: TcpState, new: TcpState, fields: CloseFields) -> Details {
        let owner = SocketOwner {
            uid: Some(1000),
            cgroup: Some(7777),
        };
        let endpoints = self.ends;
        match kind_of_transition(old.raw(), new.raw()) {
            KIND_OPEN => Details::Open {
                endpoints: Endpoints {
                    // Bound by connect() itself only after the event.
                    local_port: if new == SynSent {
                        0
                    } else {
                        endpoints.local_port
                    },
                    ..endpoints
                },
                owner,
                task: self.task,
                bind: Some(self.bind),
            },
            KIND_PASSIVE_OPEN => Details::PassiveOpen {
                endpoints,
                owner,
                request: self.request,
                bind: Some(self.bind),
            },
            KIND_ESTABLISHED => Details::Established {
                endpoints,
                handshake: Some(HandshakeFields {
                    srtt_us: 250,
                    retransmits: 1,
                    ..HandshakeFields::default()
                }),
            },
            KIND_RELEASE => Details::Release { task: self.task },
            KIND_CLOSE => Details::Close {
                endpoints,
                fields: Some(fields),
            },
            _ => Details::Step,
        }
    }

    pub(super) fn receives_reset(self) -> Self {
        let ends = self.ends;
        self.happens(Body::ResetReceived(ends))
    }

    pub(super) fn sends_reset(self) -> Self {
        let ends = self.ends;
        self.happens(Body::ResetSent {
            endpoints: ends,
            reason: Some(11),
        })
    }

    /// Changes the details of the last transition.
    pub(super) fn but(mut self, change: impl FnOnce(&mut Details)) -> Self {
        let Some(Event {
            body: Body::Transition(transition),
            ..
        }) = self.events.last_mut()
        else {
            panic!("the last event is no transition");
        };
        change(&mut transition.details);
        self
    }

    /// The next generation of the same address: another socket, `ns` later, from `state`.
    pub(super) fn again(self, state: TcpState, ns: u64) -> Self {
        self.already(state).wait(ns)
    }

    pub(super) fn events(self) -> Vec<Event> {
        self.events
    }
}
