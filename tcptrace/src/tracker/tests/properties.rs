//! Whatever comes, sense or nonsense: nothing panics, nothing is counted twice or lost.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// What is done to the tracker.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// A transition; with `follows` from the state that the socket was last in.
    Transition {
        socket: u64,
        old: TcpState,
        new: TcpState,
        follows: bool,
        /// The last word of a close, and details that the kind does not have.
        word: Word,
    },
    Reset {
        socket: u64,
        sent: bool,
    },
    Tick,
    Loss(u64),
}

/// Something of everything that details can hold.
#[derive(Clone, Copy, Debug)]
struct Word {
    error: u16,
    flags: u8,
    number: u32,
    nonsense: Option<u8>,
}

fn state() -> impl Strategy<Value = TcpState> {
    prop::sample::select(TcpState::ALL.to_vec())
}

fn word() -> impl Strategy<Value = Word> {
    let nonsense = prop::option::weighted(0.1, any::<u8>());
    let error = prop::sample::select(vec![0, 32, 103, 104, 110, 111, 113, 4095]);
    (error, any::<u8>(), any::<u32>(), nonsense).prop_map(|(error, flags, number, nonsense)| Word {
        error,
        flags,
        number,
        nonsense,
    })
}

fn operation() -> impl Strategy<Value = Operation> {
    let socket = 0..4_u64;
    let transition = (socket.clone(), state(), state(), any::<bool>(), word());
    prop_oneof![
        12 => transition.prop_map(|(socket, old, new, follows, word)| Operation::Transition {
            socket, old, new, follows, word,
        }),
        2 => (socket, any::<bool>()).prop_map(|(socket, sent)| Operation::Reset { socket, sent }),
        1 => Just(Operation::Tick),
        1 => (0..3_u64).prop_map(Operation::Loss),
    ]
}

impl Word {
    fn fields(self) -> CloseFields {
        let bit = |n: u8| self.flags >> n & 1 != 0;
        CloseFields {
            error: self.error,
            unread: self.number,
            unacknowledged: self.number % 2,
            send_window: self.number % 3,
            segments_sent: self.number % 5,
            receive_shut: bit(0),
            send_shut: bit(1),
            dead: bit(2),
            peer_fin: bit(3),
            has_socket: bit(4),
            linger2_negative: bit(5),
            probes_out: self.flags >> 6,
            ..CloseFields::default()
        }
    }

    /// Details of any kind at all.
    fn nonsense(self, which: u8) -> Details {
        let low = (self.number & 0xffff) as u16;
        let endpoints = ends(low, low / 2);
        let task = Task {
            pid: self.number % 3,
            comm: [self.flags; 16],
            kernel: self.flags & 1 != 0,
        };
        let owner = SocketOwner::default();
        match which % 6 {
            0 => Details::Open {
                endpoints,
                owner,
                task,
                bind: None,
            },
            1 => Details::PassiveOpen {
                endpoints,
                owner,
                request: crate::feed::event::HandshakeRequest::default(),
                bind: None,
            },
            2 => Details::Established {
                endpoints,
                handshake: None,
            },
            3 => Details::Release { task },
            4 => Details::Close {
                endpoints,
                fields: None,
            },
            _ => Details::Step,
        }
    }
}

/// The tracker, what it said, and what happened to each socket last.
struct Run {
    tracker: Tracker,
    recording: Recording,
    states: BTreeMap<u64, TcpState>,
    now_ns: u64,
}

impl Run {
    fn new(max_connections: usize) -> Self {
        Self {
            tracker: Tracker::new(TrackerConfig {
                max_connections,
                max_listeners: 2,
                max_releases: 3,
                max_time_waits: 2,
                sources: recording::sources(),
                transitions: true,
            }),
            recording: Recording::default(),
            states: BTreeMap::new(),
            now_ns: 0,
        }
    }

    fn take(&mut self, event: Event) {
        self.recording.event(&mut self.tracker, &event);
    }

    fn does(&mut self, operation: Operation) {
        let body = |story: Story| story.events().remove(0).body;
        match operation {
            Operation::Transition {
                socket,
                old,
                new,
                follows,
                word,
            } => {
                let last = self.states.insert(socket, new);
                let old = last.filter(|_| follows).unwrap_or(old);
                let story = Story::client().between(ends(443, 50_000)).already(old);
                let mut body = body(if new == Close {
                    story.closes(word.fields())
                } else {
                    story.goes(new)
                });
                if let (Some(which), Body::Transition(transition)) = (word.nonsense, &mut body) {
                    transition.details = word.nonsense(which);
                }
                self.take(Event {
                    time_ns: self.now_ns,
                    socket,
                    cookie: None,
                    recovered: false,
                    body,
                });
            }
            Operation::Reset { socket, sent } => {
                let story = Story::client();
                let story = if sent {
                    story.sends_reset()
                } else {
                    story.receives_reset()
                };
                self.take(Event {
                    time_ns: self.now_ns,
                    socket,
                    cookie: None,
                    recovered: false,
                    body: body(story),
                });
            }
            Operation::Tick => self.recording.time(&mut self.tracker, self.now_ns),
            Operation::Loss(events) => {
                let place = LossPlace::Ring;
                self.recording.loss(&mut self.tracker, events, place);
            }
        }
    }

    /// How often each id entered, ended and was evicted.
    fn fates(&self) -> BTreeMap<u64, [u32; 3]> {
        let mut fates: BTreeMap<u64, [u32; 3]> = BTreeMap::new();
        for heard in &self.recording.heard {
            let (id, fate) = match heard {
                Update::Entered(connection) => (connection.id, 0),
                Update::Ended(ended) => (ended.connection.id, 1),
                Update::Evicted(connection) => (connection.id, 2),
                Update::Transition { .. }
                | Update::Established(_)
                | Update::Accepted(_)
                | Update::Released(_)
                | Update::SynackRetransmit(_)
                | Update::Reset { .. }
                | Update::Listener { .. }
                | Update::Stray { .. }
                | Update::Lost { .. } => continue,
            };
            fates.entry(id).or_default()[fate] += 1;
        }
        fates
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let snapshot = self.tracker.snapshot();
        let stats = snapshot.stats;
        prop_assert_eq!(
            stats.established + stats.seeded,
            stats.closed + snapshot.live + stats.evicted
        );
        prop_assert_eq!(
            stats.attempts,
            stats.established + stats.failed + snapshot.pending + stats.evicted_pending
        );
        let waiting = self.tracker.sockets.ended.iter().count();
        prop_assert_eq!(waiting, self.tracker.sockets.ended.len());
        prop_assert!(self.tracker.len() - waiting <= self.tracker.sockets.store.limit());
        prop_assert!(self.tracker.sockets.listeners.len() <= 2);
        let cells: u64 = snapshot.connections.iter().map(|&(_, _, n)| n).sum();
        prop_assert_eq!(cells, self.tracker.len() as u64);
        prop_assert_eq!(cells, snapshot.live + snapshot.pending);
        prop_assert_eq!(self.tracker.next_due_ns().is_some(), waiting > 0);

        let store = self.tracker.sockets.store.iter();
        let held = store.chain(
            self.tracker
                .sockets
                .ended
                .iter()
                .map(|ended| &ended.connection),
        );
        let mut held: Vec<u64> = held.map(|connection| connection.id).collect();
        held.sort_unstable();
        let mut unfinished = Vec::new();
        for (id, [entered, ended, evicted]) in self.fates() {
            prop_assert_eq!(entered, 1, "{} entered", id);
            prop_assert!(
                ended + evicted <= 1,
                "{} ended {} times, evicted {}",
                id,
                ended,
                evicted
            );
            if ended + evicted == 0 {
                unfinished.push(id);
            }
        }
        prop_assert_eq!(held, unfinished);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn every_connection_is_accounted_for_at_every_point(
        max_connections in 1..5_usize,
        operations in prop::collection::vec((operation(), 0..80 * MS), 1..80),
    ) {
        let mut run = Run::new(max_connections);
        for (operation, ns) in operations {
            run.now_ns += ns;
            run.does(operation);
            run.check()?;
        }
        run.recording.finish(&mut run.tracker);
        run.check()?;
        prop_assert_eq!(run.tracker.sockets.ended.len(), 0);
        prop_assert_eq!(run.tracker.next_due_ns(), None);
    }

    #[test]
    fn time_that_jumps_about_is_no_worse(
        operations in prop::collection::vec((operation(), any::<u64>()), 1..60),
    ) {
        let mut run = Run::new(3);
        for (operation, now_ns) in operations {
            run.now_ns = now_ns;
            run.does(operation);
            run.check()?;
        }
        run.recording.finish(&mut run.tracker);
        run.check()?;
        prop_assert_eq!(run.tracker.sockets.ended.len(), 0);
    }
}
