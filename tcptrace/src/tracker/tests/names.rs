//! What is known by number and told by name.

use super::*;
use crate::feed::name::Name;

const CGROUP: u64 = 7777;
const NETNS: u32 = 4_026_531_840;

fn cgroup(path: &str) -> Item {
    Item::Name(Name::Cgroup {
        id: CGROUP,
        path: path.to_owned(),
    })
}

fn interface(index: u32, name: &str) -> Item {
    Item::Name(Name::Interface {
        netns: NETNS,
        netns_cookie: None,
        index,
        name: name.to_owned(),
    })
}

#[test]
fn a_connection_keeps_the_names_it_was_first_seen_with() {
    let mut tracker = tracker();
    let mut recording = Recording::default();
    let ends = Endpoints {
        interface: Some(3),
        ..ends(40_000, 443)
    };
    let path = "/system.slice/nginx.service";
    tracker.apply(&cgroup(path));
    tracker.apply(&interface(2, "lo"));
    tracker.apply(&interface(3, "eth0"));
    let events = Story::client()
        .between(ends)
        .through(&[SynSent, Established, CloseWait, LastAck, Close])
        .events();
    for (n, event) in events.iter().enumerate() {
        recording.event(&mut tracker, event);
        if n == 1 {
            // Renamed meanwhile; the cgroup of that number is another.
            tracker.apply(&interface(3, "wan"));
            tracker.apply(&cgroup("/other"));
        }
    }
    recording.time(&mut tracker, START + 1_000 * MS);
    let ended = recording.ended();
    let named = &ended[0].connection.named;
    let cgroup = named.cgroup.as_ref().unwrap();
    assert_eq!(
        (&*cgroup.path, cgroup.unit.as_deref()),
        (path, Some("nginx.service"))
    );
    assert_eq!(named.interface.as_deref(), Some("eth0"));
}

#[test]
fn a_connection_bound_later_gets_its_interfaces_name_then() {
    // Up to Linux 6.14 a child is bound after its first event.
    let bound = Endpoints {
        interface: Some(3),
        ..ends(443, 50_000)
    };
    let mut tracker = tracker();
    tracker.apply(&interface(3, "eth0"));
    let mut recording = Recording::default();
    let child = Story::child()
        .goes(SynRecv)
        .between(bound)
        .goes(Established);
    for event in child.events() {
        recording.event(&mut tracker, &event);
    }
    let Some(Update::Established(connection)) = recording.heard.last() else {
        panic!("not established");
    };
    assert_eq!(connection.named.interface.as_deref(), Some("eth0"));
    assert_eq!(connection.named.cgroup, None);
}

#[test]
fn a_listener_has_names_too() {
    let mut tracker = tracker();
    tracker.apply(&cgroup("/init.scope"));
    let mut recording = Recording::default();
    for event in Story::listener().goes(Listen).wait(MS).goes(Close).events() {
        recording.event(&mut tracker, &event);
    }
    let units: Vec<_> = recording
        .heard
        .iter()
        .filter_map(|heard| {
            let Update::Listener { listener, .. } = heard else {
                panic!("{heard:?}");
            };
            listener.named.cgroup.as_ref()?.unit.clone()
        })
        .collect();
    assert_eq!(units, [Box::from("init.scope"), Box::from("init.scope")]);
}
