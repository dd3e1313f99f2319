//! Listening sockets, and whose a connection is that came in by one.

use super::*;
use crate::feed::event::Request;

const WILDCARD: [u8; 4] = [0, 0, 0, 0];

/// Who else listens.
const OTHER: Task = Task { pid: 300, ..SERVER };

/// A listener's socket address.
fn at(n: u64) -> u64 {
    SOCKET + 0x10_0000 * n
}

/// listen() on an address, by a process.
fn listens(n: u64, address: impl Into<std::net::IpAddr>, task: Task) -> Vec<Event> {
    let mut place = ends(443, 0);
    place.local_address = address.into();
    Story::listener()
        .on(at(n))
        .between(place)
        .by(task)
        .goes(Listen)
        .events()
}

/// The process of a connection that then comes in on 10.0.0.1 port 443.
fn process_of_child(listeners: &[Vec<Event>]) -> Option<u32> {
    process_of_child_at(listeners, ends(443, 50_000))
}

fn process_of_child_at(listeners: &[Vec<Event>], ends: Endpoints) -> Option<u32> {
    process_of(listeners, Story::child().between(ends))
}

fn process_of(listeners: &[Vec<Event>], child: Story) -> Option<u32> {
    let mut events = listeners.concat();
    events.extend(child.through(&[SynRecv, Established]).events());
    let (_, recording) = play(&events);
    let Some(Update::Established(connection)) = recording.heard.last() else {
        panic!("not established");
    };
    let process = connection.process?;
    assert_eq!(process.source, ProcessSource::Listen);
    Some(process.pid)
}

#[test]
fn listening_begins_and_ceases() {
    let (tracker, recording) = play(&Story::listener().goes(Listen).wait(MS).goes(Close).events());
    assert_eq!(recording.lines(), ["listener 1 began", "listener 1 ceased"]);
    assert_eq!(tracker.snapshot().listeners, 0);
    assert_eq!((tracker.stats.attempts, tracker.stats.anomalies), (0, 0));
    let (tracker, recording) = play(&Story::listener().goes(Listen).events());
    let [Update::Listener { listener, .. }] = recording.heard[..] else {
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
fn a_listener_that_was_there_before_is_seen_to_cease() {
    let (tracker, recording) = play(&Story::listener().already(Listen).goes(Close).events());
    assert_eq!(recording.lines(), ["listener 1 ceased"]);
    assert_eq!(tracker.stats.anomalies, 0);
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
            netns: Some(1),
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
    // SO_REUSEPORT.
    let share = |second| [listens(1, WILDCARD, SERVER), listens(2, WILDCARD, second)];
    assert_eq!(process_of_child(&share(SERVER)), Some(200));
    assert_eq!(process_of_child(&share(OTHER)), None);
    let nobody = Task { pid: 0, ..SERVER };
    assert_eq!(process_of_child(&share(nobody)), None);
}

#[test]
fn a_request_tells_which_of_those_that_share_a_port_it_was() {
    let share = [listens(1, WILDCARD, SERVER), listens(2, WILDCARD, OTHER)];
    let made_by = |n| {
        process_of(
            &share,
            Story::child().asked(Request {
                listener: Some(at(n)),
                ..Request::default()
            }),
        )
    };
    assert_eq!(made_by(1), Some(200));
    assert_eq!(made_by(2), Some(300));
    // One that was not seen to listen: whoever shares its place did not take this connection.
    assert_eq!(made_by(3), None);
}

#[test]
fn a_listener_that_ceased_names_nobody() {
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
fn an_address_that_listens_or_ceased_to_is_no_connection_any_more() {
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
    assert_eq!(tracker.stats.listeners_refused, 1);
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
