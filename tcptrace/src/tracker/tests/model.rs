//! A simple model of sockets beside the tracker: only what the kernel does, nothing lost.

use proptest::prelude::*;

use super::*;
use crate::tracker::errno;

/// What a connection's record should say.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Life {
    role: Role,
    opened: u64,
    established: Option<u64>,
    handshake: Option<u64>,
    fins: (Option<u64>, Option<u64>),
    closed_by: Option<ClosedBy>,
    process: Option<(u32, ProcessSource)>,
    remote_port: u16,
    end: Option<(u64, TcpState, Verdict)>,
}

impl Life {
    fn of(ended: &Ended) -> Self {
        let connection = &ended.connection;
        let ns = |moment: Option<Moment>| moment.map(Moment::get);
        Self {
            role: connection.role,
            opened: ns(connection.handshake.opened).unwrap(),
            established: ns(connection.handshake.established_at),
            handshake: connection.handshake.took.map(|(ns, _)| ns),
            fins: (
                ns(connection.closing.first_fin),
                ns(connection.closing.second_fin),
            ),
            closed_by: connection.closing.first_fin_by,
            process: connection
                .process
                .map(|process| (process.pid, process.source)),
            remote_port: connection.endpoints.unwrap().remote_port,
            end: Some((ended.closed_at.get(), connection.state, ended.verdict)),
        }
    }
}

/// A socket of the model.
#[derive(Clone, Debug)]
struct Socket {
    address: u64,
    state: TcpState,
    /// The id that the tracker gives to what the socket is, and its life if it is a connection.
    id: u64,
    life: Option<Life>,
}

/// The ways in which a connection ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Natural,
    Killed,
    Reset,
}

/// Everything the model knows.
struct Model {
    sockets: Vec<Socket>,
    ids: u64,
    now_ns: u64,
    ports: u16,
    /// Lives that are over, by id.
    over: Vec<(u64, Life)>,
    events: Vec<Event>,
}

/// What the kernel can do next, written by hand from what kernels emit; `Listen` from CLOSE stands
/// for both listen() and a child of a listener.
fn moves(state: TcpState) -> &'static [TcpState] {
    match state {
        Close => &[SynSent, SynRecv, Listen],
        Listen => &[Close],
        SynSent => &[Established, Established, SynRecv, Close],
        SynRecv => &[Established, Established, FinWait1, Close],
        Established => &[FinWait1, CloseWait, Close],
        FinWait1 => &[FinWait2, Closing, Close, FinWait1],
        FinWait2 => &[Close, Close, FinWait2],
        CloseWait => &[LastAck, Close],
        LastAck => &[Close, LastAck],
        Closing => &[Close, Closing],
        TimeWait | NewSynRecv => panic!("no socket is ever in {state:?}"),
    }
}

/// The socket's last word, and what should be made of it.
fn last_word(state: TcpState, end: End) -> (CloseFields, Verdict) {
    let without = if state == SynRecv {
        unserved()
    } else {
        closing()
    };
    let with = |error| CloseFields { error, ..without };
    match (end, state) {
        (End::Killed, _) => (with(errno::ECONNABORTED), Verdict::Killed),
        (_, SynRecv) => (with(0), Verdict::HandshakeFailed),
        (End::Natural, SynSent) => (with(errno::ETIMEDOUT), Verdict::HandshakeTimeout),
        (End::Natural, Established | CloseWait) => (with(0), Verdict::ResetByUs),
        (End::Natural, FinWait1) => {
            let fields = CloseFields {
                unacknowledged: 1,
                ..with(errno::ETIMEDOUT)
            };
            (fields, Verdict::RetransmissionTimeout)
        }
        (End::Natural, _) => (released(), Verdict::Graceful),
        (End::Reset, SynSent) => (with(errno::ECONNREFUSED), Verdict::Refused),
        (End::Reset, CloseWait) => (with(errno::EPIPE), Verdict::ResetReceived),
        (End::Reset, _) => (with(errno::ECONNRESET), Verdict::ResetReceived),
    }
}

impl Model {
    fn new(sockets: u64) -> Self {
        let socket = |n| Socket {
            address: SOCKET + n * 0x800,
            state: Close,
            id: 0,
            life: None,
        };
        Self {
            sockets: (0..sockets).map(socket).collect(),
            ids: 0,
            now_ns: START,
            ports: 50_000,
            over: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Somebody listens on the port that every child comes in by.
    fn listening(&self) -> bool {
        self.sockets.iter().any(|socket| socket.state == Listen)
    }

    fn open(&mut self, n: usize, role: Role) {
        self.ids += 1;
        self.ports += 1;
        let process = if role == Role::Active {
            Some((CLIENT.pid, ProcessSource::Connect))
        } else {
            self.listening()
                .then_some((SERVER.pid, ProcessSource::Address))
        };
        let life = Life {
            role,
            opened: self.now_ns,
            established: None,
            handshake: None,
            fins: (None, None),
            closed_by: None,
            process,
            remote_port: self.ports,
            end: None,
        };
        (self.sockets[n].id, self.sockets[n].life) = (self.ids, Some(life));
    }

    /// What a transition means for a connection's life.
    fn live(&mut self, n: usize, old: TcpState, new: TcpState) {
        let now = self.now_ns;
        let Some(life) = &mut self.sockets[n].life else {
            return;
        };
        match (old, new) {
            (_, Established) => {
                life.established = Some(now);
                if life.role != Role::Passive {
                    life.handshake = Some(now - life.opened);
                }
            }
            (SynSent, SynRecv) => life.role = Role::Simultaneous,
            (Established | SynRecv, FinWait1) => {
                life.fins.0 = Some(now);
                life.closed_by = Some(ClosedBy::Local);
                if life.role == Role::Passive {
                    life.process = Some((CLIENT.pid, ProcessSource::Close));
                }
            }
            (Established, CloseWait) => {
                life.fins.0 = Some(now);
                life.closed_by = Some(ClosedBy::Remote);
            }
            (FinWait1, Closing) => {
                life.fins.1 = Some(now);
                life.closed_by = Some(ClosedBy::Simultaneous);
            }
            (CloseWait, LastAck) => {
                life.fins.1 = Some(now);
                if life.role == Role::Passive {
                    life.process = Some((CLIENT.pid, ProcessSource::Close));
                }
            }
            _ => {}
        }
    }

    /// One socket does one thing that it can do.
    fn act(&mut self, n: usize, choice: usize, end: End, ns: u64) {
        self.now_ns += ns;
        let old = self.sockets[n].state;
        let moves = moves(old);
        let new = moves[choice % moves.len()];
        let mut from = old;
        match (old, new) {
            (Close, SynSent) => self.open(n, Role::Active),
            (Close, SynRecv) => {
                from = Listen;
                self.open(n, Role::Passive);
            }
            (Close, Listen) => {
                self.ids += 1;
                self.sockets[n].id = self.ids;
            }
            _ => self.live(n, old, new),
        }
        let socket = &mut self.sockets[n];
        socket.state = new;
        let ends = socket.life.as_ref().map_or(ends(443, 0), |life| {
            let passive = life.role == Role::Passive;
            ends(if passive { 443 } else { 40_000 }, life.remote_port)
        });
        let listens = new == Listen || old == Listen;
        let mut story = Story::client()
            .on(socket.address)
            .between(ends)
            .already(from)
            .by(if listens { SERVER } else { CLIENT })
            .wait(self.now_ns - START);
        let (fields, verdict) = last_word(old, end);
        if new == Close {
            if let Some(mut life) = socket.life.take() {
                if matches!(end, End::Reset) {
                    story = story.receives_reset();
                    self.now_ns += MS;
                }
                life.end = Some((self.now_ns, old, verdict));
                self.over.push((socket.id, life));
            }
            story = story.closes(fields);
        } else {
            story = story.goes(new);
        }
        self.events.extend(story.events());
    }
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![3 => Just(End::Natural), 1 => Just(End::Killed), 1 => Just(End::Reset)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_tracker_agrees_with_the_model_of_the_kernel(
        sockets in 1..6_u64,
        acts in prop::collection::vec((0..6_usize, 0..12_usize, end(), 1..80 * MS), 1..150),
    ) {
        let mut model = Model::new(sockets);
        let mut tracker = tracker();
        let mut recording = Recording::default();
        for (n, choice, end, ns) in acts {
            model.act(n % model.sockets.len(), choice, end, ns);
            for event in model.events.drain(..) {
                recording.event(&mut tracker, &event);
            }
            let mut live = 0;
            for socket in &model.sockets {
                let held = tracker.sockets.store.get_mut(socket.address);
                let held = held.map(|held| (held.id, held.role, held.state));
                let life = socket.life.as_ref();
                prop_assert_eq!(held, life.map(|life| (socket.id, life.role, socket.state)));
                live += usize::from(life.is_some());
            }
            prop_assert_eq!(tracker.sockets.store.len(), live);
            let listening = model.sockets.iter().filter(|socket| socket.state == Listen);
            prop_assert_eq!(tracker.sockets.listeners.len(), listening.count());
        }
        recording.finish(&mut tracker);
        prop_assert_eq!((tracker.stats().gaps, tracker.stats().anomalies), (0, 0));
        let mut told: Vec<(u64, Life)> = Vec::new();
        for ended in recording.ended() {
            prop_assert_eq!(ended.connection.completeness, Completeness::Full);
            told.push((ended.connection.id, Life::of(ended)));
        }
        told.sort_by_key(|&(id, _)| id);
        model.over.sort_by_key(|&(id, _)| id);
        prop_assert_eq!(told, model.over);
    }
}
