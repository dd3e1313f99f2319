//! Listening sockets, and whose a connection is that came in by one.

use super::*;
use crate::feed::event::{Bind, HandshakeRequest, Seed, SocketOwner};

const WILDCARD: [u8; 4] = [0, 0, 0, 0];

/// Who else listens.
const OTHER: Task = Task { pid: 300, ..SERVER };

/// A listener's socket address.
fn at(n: u64) -> u64 {
    SOCKET + 0x10_0000 * n
}

/// listen() on an address, by a process.
fn listens(n: u64, address: impl Into<std::net::IpAddr>, task: Task) -> Vec<Event> {
    listens_as(n, address, task, Bind::default())
}

fn listens_as(n: u64, address: impl Into<std::net::IpAddr>, task: Task, bind: Bind) -> Vec<Event> {
    let mut place = ends(443, 0);
    place.local_address = address.into();
    Story::listener()
        .on(at(n))
        .between(place)
        .by(task)
        .bound(bind)
        .goes(Listen)
        .events()
}

const SHARED: Bind = Bind {
    reuse_port: true,
    v6_only: false,
    transparent: false,
    steered: false,
};

/// A tracker that knows every listener of the namespace.
fn informed() -> Tracker {
    let mut tracker = tracker();
    tracker.begin_walk(START - MS, false);
    let end = WalkEnd {
        held: false,
        namespaces: [NetnsId::without_cookie(4_026_531_840)]
            .into_iter()
            .collect(),
        complete: true,
        listed: None,
    };
    assert_eq!(tracker.end_walk(START - MS, &end).count(), 0);
    tracker
}

/// The process of a connection that then comes in on 10.0.0.1 port 443.
fn process_of_child(listeners: &[Vec<Event>]) -> Option<u32> {
    process_of_child_at(listeners, ends(443, 50_000))
}

fn process_of_child_at(listeners: &[Vec<Event>], ends: Endpoints) -> Option<u32> {
    process_of(listeners, Story::child().between(ends))
}

fn process_of(listeners: &[Vec<Event>], child: Story) -> Option<u32> {
    process_in(tracker(), listeners, child).map(|process| process.pid)
}

fn process_in(mut tracker: Tracker, listeners: &[Vec<Event>], child: Story) -> Option<Process> {
    let proven = listeners
        .concat()
        .iter()
        .any(|event| event.cookie.is_some());
    let mut recording = Recording::default();
    let child = child.through(&[SynRecv, Established]);
    let is_linked = child.has_listener() || proven;
    for event in listeners.iter().flatten().chain(&child.events()) {
        recording.event(&mut tracker, event);
    }
    let Some(Update::Established(connection)) = recording.heard.last() else {
        panic!("not established");
    };
    let process = connection.process?;
    let source = if is_linked {
        ProcessSource::Listen
    } else {
        ProcessSource::Address
    };
    assert_eq!(process.source, source);
    Some(process)
}

#[test]
fn listening_begins_and_ends() {
    let (tracker, recording) = play(&Story::listener().goes(Listen).wait(MS).goes(Close).events());
    assert_eq!(recording.lines(), ["listener 1 began", "listener 1 ceased"]);
    assert_eq!(tracker.snapshot().listeners, 0);
    assert_eq!(
        (tracker.stats().attempts, tracker.stats().anomalies),
        (0, 0)
    );
    let (tracker, recording) = play(&Story::listener().goes(Listen).events());
    let [Update::Listener { listener, .. }] = &recording.heard[..] else {
        panic!("no listener");
    };
    assert_eq!(listener.process.map(|process| process.pid), Some(200));
    assert_eq!(listener.since, Moment::new(START));
    assert_eq!(listener.endpoints.local_port, 443);
    assert_eq!(
        (tracker.snapshot().listeners, tracker.is_empty()),
        (1, true)
    );
}

#[test]
fn the_end_of_an_existing_listener_is_seen() {
    let (tracker, recording) = play(&Story::listener().already(Listen).goes(Close).events());
    assert_eq!(recording.lines(), ["listener 1 ceased"]);
    assert_eq!(tracker.stats().anomalies, 0);
}

#[test]
fn a_connection_is_its_listeners_process() {
    assert_eq!(process_of_child(&[listens(1, WILDCARD, SERVER)]), Some(200));
    assert_eq!(
        process_of_child(&[listens(1, [10, 0, 0, 1], SERVER)]),
        Some(200)
    );
    assert_eq!(process_of_child(&[]), None);
}

#[test]
fn the_listener_of_the_bound_address_comes_before_the_wildcards() {
    let v6 = std::net::Ipv6Addr::UNSPECIFIED;
    let specific = listens(1, [10, 0, 0, 1], SERVER);
    let wildcard = listens(2, WILDCARD, OTHER);
    let dual = listens(3, v6, CLIENT);
    let all = [dual.clone(), wildcard.clone(), specific];
    assert_eq!(process_of_child(&all), Some(200));
    assert_eq!(process_of_child(&all[..2]), Some(300));
    assert_eq!(process_of_child(&all[..1]), Some(100));
    // An IPv4 wildcard takes no IPv6 in.
    let ends = Endpoints {
        local_address: "2001:db8::1".parse().unwrap(),
        remote_address: "2001:db8::2".parse().unwrap(),
        ..ends(443, 50_000)
    };
    assert_eq!(
        process_of_child_at(&[wildcard.clone(), dual], ends),
        Some(100)
    );
    assert_eq!(process_of_child_at(&[wildcard], ends), None);
}

#[test]
fn a_listener_of_another_place_is_not_the_connections() {
    let elsewhere = listens(1, [10, 0, 0, 2], SERVER);
    assert_eq!(process_of_child(&[elsewhere]), None);
    for ends in [
        ends(444, 50_000),
        Endpoints {
            netns: Some(NetnsId::without_cookie(1)),
            ..ends(443, 50_000)
        },
        Endpoints {
            netns: None,
            ..ends(443, 50_000)
        },
    ] {
        let listener = listens(1, WILDCARD, SERVER);
        assert_eq!(process_of_child_at(&[listener], ends), None, "{ends:?}");
    }
}

#[test]
fn listeners_that_share_a_port_name_their_process_if_it_is_one() {
    let share = |second| {
        [
            listens_as(1, WILDCARD, SERVER, SHARED),
            listens_as(2, WILDCARD, second, SHARED),
        ]
    };
    let pid = |tracker, share: &[Vec<Event>]| {
        process_in(tracker, share, Story::child()).map(|process| process.pid)
    };
    assert_eq!(pid(informed(), &share(SERVER)), Some(200));
    assert_eq!(pid(informed(), &share(OTHER)), None);
    let nobody = Task { pid: 0, ..SERVER };
    assert_eq!(pid(informed(), &share(nobody)), None);
    // The kernel's own server is nobody either.
    let kernel = Task {
        kernel: true,
        ..SERVER
    };
    assert_eq!(pid(informed(), &share(kernel)), None);
}

#[test]
fn a_listener_that_may_share_its_port_with_an_older_one_is_not_named() {
    let one = [listens_as(1, WILDCARD, SERVER, SHARED)];
    let process = |tracker| process_in(tracker, &one, Story::child());
    assert!(process(informed()).is_some());
    assert_eq!(process(tracker()), None);
    // What was lost may have been a listen().
    let mut lossy = informed();
    lossy.apply(&Item::Loss {
        events: 1,
        place: LossPlace::Ring,
        kind: None,
    });
    assert_eq!(process(lossy), None);
    // Whoever does not share has the place alone, whatever was there before.
    assert!(process_of_child(&[listens(1, WILDCARD, SERVER)]).is_some());
    // On a kernel that does not say, it may share.
    let unsaid = Story::listener().goes(Listen).but(|details| {
        if let Details::Open { bind, .. } = details {
            *bind = None;
        }
    });
    assert_eq!(process_of_child(&[unsaid.clone().events()]), None);
    assert!(process_in(informed(), &[unsaid.events()], Story::child()).is_some());
}

#[test]
fn a_listener_of_ipv6_only_takes_no_ipv4_in() {
    let v6: std::net::IpAddr = std::net::Ipv6Addr::UNSPECIFIED.into();
    let only = Bind {
        v6_only: true,
        ..Bind::default()
    };
    let only_v6 = listens_as(1, v6, SERVER, only);
    assert_eq!(process_of_child(std::slice::from_ref(&only_v6)), None);
    let both = [only_v6, listens(2, WILDCARD, OTHER)];
    assert_eq!(process_of_child(&both), Some(300));
    let ends = Endpoints {
        local_address: "2001:db8::1".parse().unwrap(),
        remote_address: "2001:db8::2".parse().unwrap(),
        ..ends(443, 50_000)
    };
    assert_eq!(process_of_child_at(&both, ends), Some(200));
}

#[test]
fn a_listener_that_is_bound_to_an_interface_takes_in_what_comes_by_it() {
    let bound = |n, interface, task| {
        let place = Endpoints {
            local_address: WILDCARD.into(),
            interface,
            ..ends(443, 0)
        };
        let story = Story::listener().on(at(n)).between(place).by(task);
        story.goes(Listen).events()
    };
    let listeners = [bound(1, Some(2), SERVER), bound(2, Some(3), OTHER)];
    let by = |interface| Endpoints {
        interface,
        ..ends(443, 50_000)
    };
    assert_eq!(process_of_child_at(&listeners, by(Some(2))), Some(200));
    assert_eq!(process_of_child_at(&listeners, by(Some(3))), Some(300));
    assert_eq!(process_of_child_at(&listeners, by(None)), None);
    assert_eq!(process_of_child_at(&listeners, by(Some(4))), None);
    // A link-local address binds the child of one that is not bound.
    let free = [bound(1, None, SERVER)];
    assert_eq!(process_of_child_at(&free, by(Some(2))), Some(200));
}

#[test]
fn a_connection_redirected_to_another_listener_is_not_the_addresss_listeners() {
    let server = [listens(1, WILDCARD, SERVER)];
    let as_child = |bind| process_of(&server, Story::child().bound(bind));
    let transparent = Bind {
        transparent: true,
        ..Bind::default()
    };
    let steered = Bind {
        steered: true,
        ..Bind::default()
    };
    assert_eq!(as_child(Bind::default()), Some(200));
    assert_eq!(as_child(transparent), None);
    assert_eq!(as_child(steered), None);
    let proxy = [listens_as(1, WILDCARD, SERVER, transparent)];
    let of_proxy = |bind| process_of(&proxy, Story::child().bound(bind));
    assert_eq!(of_proxy(transparent), Some(200));
    assert_eq!(of_proxy(Bind::default()), None);
    // Up to Linux 6.14 a child has its listener's place at first: that proves more.
    let old_child = |address: [u8; 4], bind| {
        let story = Story::child().bound(bind).goes(SynRecv).but(|details| {
            if let Details::PassiveOpen { endpoints, .. } = details {
                endpoints.local_address = address.into();
                endpoints.remote_address = WILDCARD.into();
                endpoints.remote_port = 0;
            }
        });
        let mut events = server.concat();
        events.extend(story.goes(Established).events());
        let (_, recording) = play(&events);
        let Some(Update::Established(connection)) = recording.heard.last() else {
            panic!("not established");
        };
        connection.process.map(|process| process.pid)
    };
    assert_eq!(old_child(WILDCARD, steered), Some(200));
    assert_eq!(old_child([10, 0, 0, 1], Bind::default()), None);
}

#[test]
fn a_child_with_its_listeners_cookie_is_that_listeners() {
    let with_cookie = |events: Vec<Event>, cookie| -> Vec<Event> {
        let with = |event| Event {
            cookie: Some(cookie),
            ..event
        };
        events.into_iter().map(with).collect()
    };
    let share = [
        with_cookie(listens_as(1, WILDCARD, SERVER, SHARED), 71),
        with_cookie(listens_as(2, WILDCARD, OTHER, SHARED), 72),
    ];
    for (cookie, pid) in [(71, Some(200)), (72, Some(300)), (73, None)] {
        let mut events = share.concat();
        let mut child = Story::child().through(&[SynRecv, Established]).events();
        child[0].cookie = Some(cookie);
        events.extend(child);
        let (_, recording) = play(&events);
        let Some(Update::Established(connection)) = recording.heard.last() else {
            panic!("not established");
        };
        assert_eq!(connection.process.map(|process| process.pid), pid);
    }
}

/// Of a listener, or of no socket.
fn process_event(body: Body) -> Vec<Event> {
    vec![Event {
        time_ns: START,
        socket: 0,
        cookie: None,
        recovered: false,
        body,
    }]
}

#[test]
fn a_process_has_its_name_of_the_moment_and_a_gone_one_says_so() {
    let renamed = Task {
        comm: *b"worker\0\0\0\0\0\0\0\0\0\0",
        ..SERVER
    };
    let listener = listens(1, WILDCARD, SERVER);
    let rename = process_event(Body::Rename(renamed));
    let exit = process_event(Body::Exit(SERVER));
    let other = process_event(Body::Exit(OTHER));
    let of = |listeners: &[Vec<Event>]| {
        let process = process_in(tracker(), listeners, Story::child()).unwrap();
        (process.pid, process.name(), process.gone)
    };
    let one = |name: &str, gone| (200, name.to_owned(), gone);
    assert_eq!(of(&[listener.clone(), other]), one("server", false));
    assert_eq!(
        of(&[listener.clone(), rename.clone()]),
        one("worker", false)
    );
    let over = [listener.clone(), rename.clone(), exit.clone()];
    assert_eq!(of(&over), one("worker", true));
    // Another process with that number is not the one that is gone.
    let again = [listener, exit, listens(2, [10, 0, 0, 2], renamed), rename];
    assert_eq!(of(&again), one("server", true));
}

#[test]
fn the_closing_process_replaces_a_listener_that_is_unproven_or_gone() {
    let closed = |listeners: &[Vec<Event>], request| {
        let child = Story::child()
            .asked(request)
            .through(&[SynRecv, Established])
            .by(OTHER)
            .through(&[FinWait1, FinWait2, Close]);
        let mut events = listeners.concat();
        events.extend(child.events());
        let (mut tracker, mut recording) = play(&events);
        recording.time(&mut tracker, START + 1_000 * MS);
        let ended = recording.ended();
        let process = ended[0].connection.process.unwrap();
        (process.pid, process.source)
    };
    let proven = HandshakeRequest {
        listener: Some(at(1)),
        ..HandshakeRequest::default()
    };
    let listener = listens(1, WILDCARD, SERVER);
    let exit = process_event(Body::Exit(SERVER));
    let one = std::slice::from_ref(&listener);
    assert_eq!(closed(one, proven), (200, ProcessSource::Listen));
    assert_eq!(
        closed(one, HandshakeRequest::default()),
        (300, ProcessSource::Close)
    );
    assert_eq!(
        closed(&[listener, exit], proven),
        (300, ProcessSource::Close)
    );
}

#[test]
fn a_request_tells_which_of_those_that_share_a_port_it_was() {
    let share = [
        listens_as(1, WILDCARD, SERVER, SHARED),
        listens_as(2, WILDCARD, OTHER, SHARED),
    ];
    let made_by = |n| {
        process_of(
            &share,
            Story::child().asked(HandshakeRequest {
                listener: Some(at(n)),
                ..HandshakeRequest::default()
            }),
        )
    };
    assert_eq!(made_by(1), Some(200));
    assert_eq!(made_by(2), Some(300));
    // One that was not seen to listen: whoever shares its place did not take this connection.
    assert_eq!(made_by(3), None);
}

#[test]
fn a_closed_listener_names_no_process() {
    let ceased = Story::listener().through(&[Listen, Close]).events();
    assert_eq!(process_of_child(&[ceased]), None);
}

#[test]
fn an_address_that_listens_again_elsewhere_has_left_the_old_place() {
    let again = [
        listens(1, WILDCARD, SERVER),
        listens(1, [10, 0, 0, 2], SERVER),
    ];
    assert_eq!(process_of_child(&again), None);
}

#[test]
fn an_address_that_is_a_connection_now_does_not_listen_any_more() {
    // LISTEN→CLOSE was lost.
    for (old, new) in [(Close, SynSent), (Listen, SynRecv), (Established, FinWait1)] {
        let now = Story::client().on(at(1)).already(old).goes(new).events();
        assert_eq!(
            process_of_child(&[listens(1, WILDCARD, SERVER), now]),
            None,
            "{old:?}"
        );
    }
}

#[test]
fn an_address_that_listens_is_no_longer_a_connection() {
    for path in [&[Listen][..], &[Close]] {
        let old = if path == [Listen] { Close } else { Listen };
        let story = Story::client()
            .through(&[SynSent, Established])
            .again(old, MS)
            .through(path);
        let (tracker, recording) = play(&story.events());
        assert!(tracker.is_empty(), "{path:?}");
        let ended = recording.ended();
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].connection.completeness, Completeness::Gap);
        assert_eq!(ended[0].verdict, Verdict::Unknown);
    }
}

#[test]
fn listeners_are_bounded_and_what_finds_no_room_is_counted() {
    let mut tracker = Tracker::new(TrackerConfig {
        max_listeners: 2,
        ..TrackerConfig::default()
    });
    let mut recording = Recording::default();
    for n in [1, 2, 3, 1] {
        recording.event(&mut tracker, &listens(n, WILDCARD, SERVER)[0]);
    }
    assert_eq!(tracker.snapshot().listeners, 2);
    assert_eq!(tracker.stats().listeners_refused, 1);
}

#[test]
fn an_active_open_from_a_listening_port_is_not_the_listeners() {
    let mut events = listens(1, WILDCARD, SERVER);
    let story = Story::client()
        .between(ends(443, 9000))
        .through(&[SynSent, Established]);
    events.extend(story.events());
    let (_, recording) = play(&events);
    let Some(Update::Established(connection)) = recording.heard.last() else {
        panic!("not established");
    };
    assert_eq!(connection.process.unwrap().pid, 100);
}

#[test]
fn each_listener_has_its_own_pid_source() {
    let mut tracker = tracker();
    let mut recording = Recording::default();
    tracker.begin_walk(START, false);
    let seed = |socket, port| Event {
        time_ns: START + 1,
        socket,
        cookie: None,
        recovered: false,
        body: Body::Seed(Seed {
            state: Listen,
            endpoints: Endpoints {
                local_address: WILDCARD.into(),
                ..ends(port, 0)
            },
            owner: SocketOwner::default(),
            inode: Some(socket),
            bind: Some(Bind::default()),
        }),
    };
    recording.event(&mut tracker, &seed(at(1), 80));
    let mut owners = SocketHolders::default();
    owners.by_inode.insert(at(1), (SERVER.pid, SERVER.comm));
    tracker.learn_owners(owners);
    assert_eq!(tracker.take_named(), [SERVER.pid]);
    for event in listens(2, WILDCARD, SERVER) {
        recording.event(&mut tracker, &event);
    }
    for (port, source) in [(80, ProcessSource::Proc), (443, ProcessSource::Address)] {
        let child = Story::child()
            .on(at(9))
            .between(ends(port, 50_000))
            .through(&[SynRecv, Established]);
        for event in child.events() {
            recording.event(&mut tracker, &event);
        }
        let Some(Update::Established(connection)) = recording.heard.last() else {
            panic!("not established");
        };
        let process = connection.process.unwrap();
        assert_eq!((process.pid, process.source), (SERVER.pid, source));
    }
}
