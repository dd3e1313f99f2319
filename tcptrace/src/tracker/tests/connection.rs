//! What a connection makes of what it is told.

use super::*;

fn connection(role: Role, endpoints: Option<Endpoints>) -> Connection {
    let mut connection = Connection::new(1, SOCKET, role, Established);
    connection.endpoints = endpoints;
    connection
}

const NOWHERE: [u8; 4] = [0, 0, 0, 0];

#[test]
fn an_end_that_is_known_better_replaces_what_was_missing() {
    let partial = Endpoints {
        local_address: NOWHERE.into(),
        remote_address: NOWHERE.into(),
        netns: None,
        ..ends(0, 0)
    };
    let whole = ends(443, 50_000);
    let learnt = |known: Option<Endpoints>, new: Endpoints| {
        let mut connection = connection(Role::Passive, known);
        connection.learn_endpoints(&new);
        connection.endpoints.unwrap()
    };
    assert_eq!(learnt(None, partial), partial);
    assert_eq!(learnt(Some(partial), whole), whole);
    assert_eq!(learnt(Some(whole), partial), whole);
    // A port of its own, when the listener's stood there before.
    assert_eq!(learnt(Some(ends(80, 50_000)), whole), whole);
}

#[test]
fn a_peer_differs_by_a_known_port_or_address() {
    let known = connection(Role::Active, Some(ends(40_000, 443)));
    let another = |remote_address: [u8; 4], remote_port| {
        known.has_another_peer_than(&Endpoints {
            remote_address: remote_address.into(),
            ..ends(1, remote_port)
        })
    };
    assert!(!another([192, 0, 2, 7], 443));
    assert!(another([192, 0, 2, 7], 444));
    assert!(another([192, 0, 2, 8], 443));
    assert!(another(NOWHERE, 444));
    // What is not known yet is no difference.
    assert!(!another([192, 0, 2, 7], 0));
    assert!(!another(NOWHERE, 443));
    assert!(!connection(Role::Active, None).has_another_peer_than(&ends(1, 2)));
    let portless = connection(Role::Passive, Some(ends(443, 0)));
    assert!(!portless.has_another_peer_than(&ends(443, 50_000)));
}

#[test]
fn a_service_is_known_by_the_port_of_the_side_that_was_connected_to() {
    let port = |role, endpoints| connection(role, endpoints).service_port();
    let both = Some(ends(40_000, 443));
    assert_eq!(port(Role::Active, both), Some(443));
    assert_eq!(port(Role::Passive, both), Some(40_000));
    assert_eq!(port(Role::Simultaneous, both), None);
    assert_eq!(port(Role::Unknown, both), None);
    assert_eq!(port(Role::Passive, Some(ends(0, 443))), None);
    assert_eq!(port(Role::Active, None), None);
}

#[test]
fn a_connection_is_identified_once_both_ports_are_known() {
    let identified = |endpoints| connection(Role::Active, endpoints).is_identified();
    assert!(identified(Some(ends(40_000, 443))));
    assert!(!identified(Some(ends(0, 443))));
    assert!(!identified(Some(ends(443, 0))));
    assert!(!identified(None));
}

#[test]
fn a_loopback_has_both_its_ends_here() {
    let loopback = |local: &str, remote: &str| {
        let endpoints = Endpoints {
            local_address: local.parse().unwrap(),
            remote_address: remote.parse().unwrap(),
            ..ends(1, 2)
        };
        connection(Role::Active, Some(endpoints)).is_loopback()
    };
    assert!(loopback("127.0.0.1", "127.1.2.3"));
    assert!(loopback("::1", "::1"));
    assert!(!loopback("127.0.0.1", "192.0.2.7"));
    assert!(!loopback("10.0.0.1", "127.0.0.1"));
    assert!(!connection(Role::Active, None).is_loopback());
}

#[test]
fn a_process_is_named_up_to_its_nul_whatever_the_bytes() {
    let name = |comm| {
        let task = Task { comm, ..CLIENT };
        Process::new(&task, ProcessSource::Connect).unwrap().name()
    };
    assert_eq!(name(CLIENT.comm), "client");
    assert_eq!(name([0; 16]), "");
    assert_eq!(name([b'x'; 16]), "xxxxxxxxxxxxxxxx");
    assert_eq!(name(*b"\xffcaf\xc3\xa9\0hidden\0\0\0"), "\u{fffd}caf\u{e9}");
}
