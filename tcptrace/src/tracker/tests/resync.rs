//! Walks over the kernel's sockets: what was there before, and what either side lost.

use hashbrown::HashMap;

use super::*;
use crate::feed::event::Seed;

const NETNS: NetnsId = NetnsId::without_cookie(4_026_531_840);
const OTHER: NetnsId = NetnsId::without_cookie(7);
const S: u64 = 1_000 * MS;

/// A tracker that walks are made for.
struct Walker {
    tracker: Tracker,
    recording: Recording,
    /// Walks tell of what processes hold elsewhere too.
    holders: bool,
}

impl Walker {
    fn new() -> Self {
        Self {
            tracker: tracker(),
            recording: Recording::default(),
            holders: false,
        }
    }

    fn play(&mut self, story: Story) {
        for event in story.events() {
            self.recording.event(&mut self.tracker, &event);
        }
    }

    /// A walk that finds these, some time after `START`.
    fn walk(&mut self, after_ns: u64, found: &[(u64, TcpState, Endpoints)]) {
        self.walk_in(after_ns, found, &[NETNS], true);
    }

    fn walk_in(
        &mut self,
        after_ns: u64,
        found: &[(u64, TcpState, Endpoints)],
        namespaces: &[NetnsId],
        complete: bool,
    ) {
        let now_ns = START + after_ns;
        self.recording.time(&mut self.tracker, now_ns);
        self.tracker.begin_walk(now_ns, false);
        for (socket, state, endpoints) in found {
            let event = Event {
                time_ns: now_ns + 1,
                socket: *socket,
                cookie: None,
                recovered: false,
                body: Body::Seed(Seed {
                    state: *state,
                    endpoints: *endpoints,
                    owner: SocketOwner::default(),
                    inode: Some(*socket & 0xffff),
                    bind: None,
                }),
            };
            self.recording.event(&mut self.tracker, &event);
        }
        let end = WalkEnd {
            namespaces: namespaces.iter().copied().collect(),
            held: self.holders,
            complete,
            listed: None,
        };
        let said: Vec<_> = self.tracker.end_walk(now_ns + 2, &end).collect();
        self.recording.heard.extend(said);
    }

    /// A walk whose sockets come in a list, by their cookies; `during` happens meanwhile.
    fn list(&mut self, after_ns: u64, listed: &[(u64, TcpState, Endpoints)], during: &[Event]) {
        let now_ns = START + after_ns;
        self.recording.time(&mut self.tracker, now_ns);
        self.tracker.begin_walk(now_ns, true);
        for event in during {
            self.recording.event(&mut self.tracker, event);
        }
        let to_listed = |&(cookie, state, endpoints): &_| ListedSocket {
            cookie,
            seed: Seed {
                state,
                endpoints,
                owner: SocketOwner::default(),
                inode: None,
                bind: None,
            },
        };
        let end = WalkEnd {
            namespaces: [NETNS].into_iter().collect(),
            held: false,
            complete: true,
            listed: Some(listed.iter().map(to_listed).collect()),
        };
        let said: Vec<_> = self.tracker.end_walk(now_ns + 2, &end).collect();
        self.recording.heard.extend(said);
    }

    fn held(&self) -> Vec<(u64, TcpState, Role, Completeness)> {
        let mut held: Vec<_> = self
            .tracker
            .connections()
            .map(|held| (held.socket, held.state, held.role, held.completeness))
            .collect();
        held.sort_unstable_by_key(|held| held.0);
        held
    }

    fn drift(&self) -> Drift {
        self.tracker.snapshot().drift.expect("no walk ended")
    }

    fn finish(&mut self) -> Vec<&Ended> {
        self.recording.finish(&mut self.tracker);
        self.recording.ended()
    }
}

fn listening(port: u16) -> Endpoints {
    Endpoints {
        local_address: [0, 0, 0, 0].into(),
        remote_address: [0, 0, 0, 0].into(),
        remote_port: 0,
        ..ends(port, 0)
    }
}

#[test]
fn an_existing_connection_is_seeded_and_passive_if_somebody_listens_at_its_port() {
    let mut walker = Walker::new();
    walker.walk(
        0,
        &[
            (1, Listen, listening(443)),
            (2, Established, ends(443, 50_000)),
            (3, CloseWait, ends(40_000, 443)),
            (4, SynSent, ends(40_001, 443)),
        ],
    );
    assert_eq!(
        walker.held(),
        [
            (2, Established, Role::Passive, Completeness::Seeded),
            (3, CloseWait, Role::Unknown, Completeness::Seeded),
            (4, SynSent, Role::Active, Completeness::Seeded),
        ]
    );
    let snapshot = walker.tracker.snapshot();
    assert_eq!((snapshot.listeners, snapshot.stats.seeded), (1, 2));
    assert_eq!(walker.drift(), Drift::default());
    // It ends as it should, without an age.
    walker.play(Story::child().on(2).already(Established).goes(Close));
    let ended = walker.finish();
    assert_eq!(ended.len(), 1);
    assert_eq!(ended[0].connection.completeness, Completeness::Seeded);
    assert_eq!(ended[0].connection.handshake.opened, None);
}

#[test]
fn a_connection_found_again_stays_the_same() {
    let mut walker = Walker::new();
    let found = [(2, Established, ends(443, 50_000))];
    walker.walk(0, &found);
    let before = walker.held();
    for after in 1..4 {
        walker.walk(after * 60 * S, &found);
        assert_eq!(walker.held(), before);
        assert_eq!(walker.drift(), Drift::default());
    }
    assert_eq!(walker.tracker.stats().gaps, 0);
}

#[test]
fn a_connection_that_the_kernel_no_longer_has_ends_unseen() {
    let mut walker = Walker::new();
    walker.walk(0, &[]);
    walker.play(Story::client().through(&[SynSent, Established, FinWait1]));
    walker.walk(60 * S, &[]);
    let drift = walker.drift();
    assert_eq!(drift.vanished, 1);
    assert_eq!(drift.by_state[&FinWait1], 1);
    assert!(walker.held().is_empty());
    walker.walk(120 * S, &[]);
    assert_eq!(walker.drift(), Drift::default());
    let ended = walker.finish();
    assert_eq!(ended.len(), 1);
    assert!(!ended[0].end_seen);
    assert_eq!(ended[0].verdict, Verdict::Unknown);
    assert_eq!(ended[0].connection.completeness, Completeness::Gap);
}

#[test]
fn a_connection_outside_the_walk_is_not_judged() {
    let client = || Story::client().through(&[SynSent, Established]);
    // It moved just before.
    let mut walker = Walker::new();
    walker.play(client());
    walker.walk(10 * MS, &[]);
    assert_eq!(walker.held().len(), 1);
    // Sockets of the walk were lost, or it did not come to its namespace.
    for (namespaces, complete) in [(&[NETNS][..], false), (&[OTHER], true), (&[], true)] {
        walker.walk_in(60 * S, &[], namespaces, complete);
        assert_eq!(walker.held().len(), 1);
    }
    walker.walk(120 * S, &[]);
    assert!(walker.held().is_empty());
}

/// The other namespace, with a cookie.
const fn other(cookie: u32) -> NetnsId {
    NetnsId {
        inode: 7,
        cookie: std::num::NonZeroU32::new(cookie),
    }
}

/// An ESTABLISHED connection of another namespace, and one in FIN_WAIT1, which no longer needs a
/// process.
fn elsewhere(netns: NetnsId) -> [(u64, TcpState, Endpoints); 2] {
    let ends = |port| Endpoints {
        netns: Some(netns),
        ..ends(443, port)
    };
    [(3, Established, ends(50_001)), (4, FinWait1, ends(50_002))]
}

#[test]
fn a_connection_of_a_deleted_namespace_ends_unseen() {
    let mut walker = Walker::new();
    walker.walk_in(0, &elsewhere(other(5)), &[NETNS, other(5)], true);
    // It is not found any more, and nobody has looked for who else holds it.
    walker.walk_in(60 * S, &[], &[NETNS], true);
    assert_eq!(walker.held().len(), 2);
    assert_eq!(walker.drift().uncompared, 2);
    assert!(walker.tracker.has_uncompared());
    // Nobody does.
    walker.holders = true;
    walker.walk_in(70 * S, &[], &[NETNS], true);
    assert_eq!(walker.held().len(), 1);
    let drift = walker.drift();
    assert_eq!((drift.vanished, drift.uncompared), (1, 1));
    // Whom its application has left holds the namespace itself, but not for ever.
    walker.walk_in(3_000 * S, &[], &[NETNS], true);
    assert!(walker.held().is_empty());
    let drift = walker.drift();
    assert_eq!((drift.vanished, drift.uncompared), (1, 0));
    for ended in walker.finish() {
        assert!(!ended.end_seen);
        assert_eq!(ended.verdict, Verdict::Unknown);
        assert_eq!(ended.connection.completeness, Completeness::Gap);
    }
}

#[test]
fn a_namespace_of_which_a_process_holds_a_socket_is_not_gone() {
    let mut walker = Walker::new();
    walker.walk_in(0, &elsewhere(other(5)), &[NETNS, other(5)], true);
    walker.holders = true;
    let now_ns = START + 60 * S;
    walker.recording.time(&mut walker.tracker, now_ns);
    walker.tracker.begin_walk(now_ns, false);
    // A listener of it that was never met: the connections may wait for its accept().
    let event = Event {
        time_ns: now_ns + 1,
        socket: 99,
        cookie: None,
        recovered: false,
        body: Body::Held(elsewhere(other(5))[0].2),
    };
    walker.recording.event(&mut walker.tracker, &event);
    let end = WalkEnd {
        namespaces: [NETNS].into_iter().collect(),
        held: true,
        complete: true,
        listed: None,
    };
    assert_eq!(walker.tracker.end_walk(now_ns + 2, &end).count(), 0);
    assert_eq!(walker.held().len(), 2);
    assert_eq!(walker.drift().uncompared, 2);
}

#[test]
fn a_namespace_with_a_reused_inode_is_another_one() {
    for (found, left) in [(other(5), 2), (other(6), 1), (OTHER, 2)] {
        let mut walker = Walker::new();
        walker.walk_in(0, &elsewhere(other(5)), &[NETNS, other(5)], true);
        walker.holders = true;
        let sockets = if found == other(5) {
            &elsewhere(found)[..]
        } else {
            &[]
        };
        walker.walk_in(60 * S, sockets, &[NETNS, found], true);
        assert_eq!(walker.held().len(), left, "{found:?}");
    }
}

#[test]
fn a_connection_found_nowhere_is_gone_if_everything_was_walked() {
    for (seen, left) in [(true, 0), (false, 2)] {
        let mut walker = Walker::new();
        let elsewhere = Endpoints {
            netns: Some(OTHER),
            ..ends(443, 50_001)
        };
        walker.walk_in(0, &[(3, Established, elsewhere)], &[NETNS, OTHER], true);
        // Only a step of it is seen.
        walker.play(Story::child().already(Established).goes(FinWait1));
        let (found, namespaces): (&[_], &[NetnsId]) = if seen {
            (&[], &[NETNS, OTHER])
        } else {
            (&[], &[NETNS])
        };
        walker.walk_in(60 * S, found, namespaces, true);
        assert_eq!(walker.held().len(), left);
    }
}

#[test]
fn a_loss_in_a_walked_namespace_is_a_gap() {
    let mut walker = Walker::new();
    walker.walk(0, &[]);
    walker.walk(60 * S, &[(2, Established, ends(443, 50_000))]);
    assert_eq!(
        walker.held(),
        [(2, Established, Role::Unknown, Completeness::Gap)]
    );
    let drift = walker.drift();
    assert_eq!((drift.unknown, drift.by_state[&Established]), (1, -1));
    assert_eq!(walker.tracker.stats().gaps, 1);
    // Of another namespace it was there before.
    let elsewhere = Endpoints {
        netns: Some(OTHER),
        ..ends(443, 50_001)
    };
    walker.walk_in(120 * S, &[(3, Established, elsewhere)], &[OTHER], true);
    assert_eq!(walker.held()[1].3, Completeness::Seeded);
}

#[test]
fn a_connection_first_seen_before_the_walk_is_seeded_and_after_it_has_a_gap() {
    for (walked, expected) in [(true, Completeness::Gap), (false, Completeness::Seeded)] {
        let mut walker = Walker::new();
        if walked {
            walker.walk(0, &[]);
        }
        walker.play(Story::child().already(Established).goes(Close));
        let ended = walker.finish();
        assert_eq!(ended[0].connection.completeness, expected);
    }
    // Whoever was given up for lack of room may be met again.
    let mut walker = Walker::new();
    walker.tracker = Tracker::new(TrackerConfig {
        max_connections: 1,
        ..TrackerConfig::default()
    });
    walker.walk(0, &[]);
    for socket in [1, 2] {
        walker.play(Story::client().on(socket).goes(SynSent));
    }
    walker.play(Story::client().on(1).already(SynSent).goes(Close));
    let ended = walker.finish();
    assert_eq!(ended[0].connection.completeness, Completeness::Partial);
}

#[test]
fn a_missed_state_is_recovered() {
    let mut walker = Walker::new();
    walker.play(Story::client().through(&[SynSent, Established]));
    let moved = (SOCKET, CloseWait, ends(40_000, 443));
    walker.walk(60 * S, &[moved]);
    assert_eq!(
        walker.held(),
        [(SOCKET, CloseWait, Role::Active, Completeness::Gap)]
    );
    let drift = walker.drift();
    assert_eq!(drift.moved, 1);
    assert_eq!(
        (drift.by_state[&Established], drift.by_state[&CloseWait]),
        (1, -1)
    );
}

#[test]
fn a_reused_address_ends_the_previous_connection() {
    let mut walker = Walker::new();
    walker.play(Story::client().through(&[SynSent, Established]));
    walker.walk(60 * S, &[(SOCKET, Established, ends(443, 9))]);
    assert_eq!(walker.held().len(), 1);
    let ended = walker.finish();
    assert_eq!(ended.len(), 1);
    assert!(!ended[0].end_seen);
}

#[test]
fn a_listener_that_is_gone_is_forgotten() {
    let mut walker = Walker::new();
    walker.walk(0, &[(1, Listen, listening(443))]);
    walker.play(Story::listener().on(2).goes(Listen));
    let found = [(2, Listen, listening(443))];
    walker.walk(60 * S, &found);
    assert_eq!(walker.tracker.snapshot().listeners, 1);
    walker.walk(120 * S, &[]);
    assert_eq!(walker.tracker.snapshot().listeners, 0);
}

fn owners(began_ns: u64, held: &[(u64, u32)]) -> SocketHolders {
    let named = |&(inode, pid)| (inode, (pid, *b"nginx\0\0\0\0\0\0\0\0\0\0\0"));
    SocketHolders {
        began_ns,
        by_inode: held.iter().map(named).collect::<HashMap<_, _>>(),
    }
}

#[test]
fn the_holder_of_a_socket_is_named_and_so_is_the_listener_of_new_ones() {
    let mut walker = Walker::new();
    walker.walk(
        0,
        &[(1, Listen, listening(443)), (2, Established, ends(443, 9))],
    );
    assert!(walker.tracker.has_unowned());
    // A search that began before has not seen all there was.
    walker.tracker.learn_owners(owners(START - 1, &[(2, 80)]));
    assert!(walker.tracker.has_unowned());
    walker.tracker.learn_owners(owners(START + S, &[(1, 70)]));
    assert!(!walker.tracker.has_unowned());
    walker.play(Story::child().on(3).through(&[SynRecv]));
    let mut named: Vec<_> = walker
        .tracker
        .connections()
        .map(|held| (held.socket, held.process))
        .collect();
    named.sort_unstable_by_key(|held| held.0);
    let process = |pid| {
        Some(Process {
            pid,
            comm: *b"nginx\0\0\0\0\0\0\0\0\0\0\0",
            source: ProcessSource::Proc,
            gone: false,
        })
    };
    assert_eq!(named, [(2, process(80)), (3, process(70))]);
}

#[test]
fn a_known_holder_is_named_when_its_socket_is_found() {
    let mut walker = Walker::new();
    walker
        .tracker
        .learn_owners(owners(START - 1, &[(1, 70), (2, 80)]));
    let found = [(1, Listen, listening(443)), (2, Established, ends(443, 9))];
    walker.walk(0, &found);
    assert!(!walker.tracker.has_unowned());
    let named = |held: &Connection| held.process.map(|process| process.pid);
    let pids: Vec<_> = walker.tracker.connections().map(named).collect();
    assert_eq!(pids, [Some(80)]);
    // Later they may be others'.
    walker.walk(
        60 * S,
        &[
            (3, Established, ends(443, 10)),
            (2, Established, ends(443, 11)),
        ],
    );
    assert!(walker.tracker.has_unowned());
}

#[test]
fn the_holder_of_a_reused_inode_is_not_named() {
    let mut walker = Walker::new();
    walker.walk(
        0,
        &[(1, Listen, listening(443)), (2, Established, ends(444, 9))],
    );
    walker.play(Story::listener().on(1).goes(Listen).goes(Close));
    walker.play(Story::child().on(2).goes(SynRecv));
    walker
        .tracker
        .learn_owners(owners(START + S, &[(1, 70), (2, 80)]));
    assert!(
        walker
            .tracker
            .connections()
            .all(|held| held.process.is_none())
    );
}

/// The same events, with the cookie that a list has given the socket.
fn with_cookie(story: Story, cookie: u64) -> Vec<Event> {
    let with = |event| Event {
        cookie: Some(cookie),
        ..event
    };
    story.events().into_iter().map(with).collect()
}

#[test]
fn a_listed_socket_is_known_by_its_cookie_until_an_event_tells_its_address() {
    let mut walker = Walker::new();
    let listed = [
        (7, Established, ends(443, 50_000)),
        (8, Listen, listening(443)),
        (9, SynSent, ends(40_000, 9)),
    ];
    walker.list(0, &listed, &[]);
    let seeded = (Established, Role::Passive, Completeness::Seeded);
    assert_eq!(walker.held(), [(7, seeded.0, seeded.1, seeded.2)]);
    let story = Story::child().between(ends(443, 50_000));
    for event in with_cookie(story.already(Established).through(&[CloseWait]), 7) {
        walker.recording.event(&mut walker.tracker, &event);
    }
    assert_eq!(walker.held(), [(SOCKET, CloseWait, seeded.1, seeded.2)]);
    // A child has its listener's cookie at first, and is none.
    for event in with_cookie(Story::child().on(3).goes(SynRecv), 8) {
        walker.recording.event(&mut walker.tracker, &event);
    }
    assert_eq!(walker.tracker.snapshot().listeners, 1);
    for event in with_cookie(Story::listener().on(4).already(Listen).goes(Close), 8) {
        walker.recording.event(&mut walker.tracker, &event);
    }
    assert_eq!(walker.tracker.snapshot().listeners, 0);
    assert_eq!(walker.held().len(), 2);
    assert_eq!(walker.tracker.stats().gaps, 0);
}

#[test]
fn a_listed_socket_that_is_known_or_over_makes_one_record() {
    let mut walker = Walker::new();
    walker.play(Story::client().through(&[SynSent, Established]));
    let over = with_cookie(
        Story::child()
            .on(2)
            .between(ends(443, 50_000))
            .already(Established)
            .goes(Close),
        7,
    );
    let listed = [
        (6, Established, ends(40_000, 443)),
        (7, Established, ends(443, 50_000)),
    ];
    walker.list(60 * S, &listed, &over);
    let held = walker.held();
    assert_eq!(held.len(), 1);
    assert_eq!(held[0].0, SOCKET);
    walker.list(120 * S, &listed[..1], &[]);
    assert_eq!(walker.held(), held);
    assert_eq!(walker.drift(), Drift::default());
    assert_eq!(walker.finish().len(), 1);
}

#[test]
fn a_socket_missing_from_two_lists_is_gone() {
    let mut walker = Walker::new();
    walker.list(0, &[], &[]);
    walker.play(Story::client().through(&[SynSent, Established]));
    walker.play(Story::listener().on(2).goes(Listen));
    walker.list(60 * S, &[], &[]);
    assert_eq!(walker.held().len(), 1);
    walker.list(120 * S, &[], &[]);
    assert!(walker.held().is_empty());
    assert_eq!(walker.tracker.snapshot().listeners, 0);
    assert_eq!(walker.drift().vanished, 1);
}
