use super::*;
use crate::metrics::labels::{CONNECTIONS, MAX_UNSETTLED, MINUTES};

/// The first port of the ephemeral range.
const EPHEMERAL: u16 = 32_768;
const MINUTE: u64 = 60_000_000_000;

fn establish_at(
    ports: &mut PortLabels,
    port: u16,
    time_ns: u64,
) -> (Option<Slot>, Vec<(Role, u64)>) {
    let mut moved = Vec::new();
    let slot = ports.on_established(port, time_ns, |role, attempts| moved.push((role, attempts)));
    (slot, moved)
}

fn establish(ports: &mut PortLabels, port: u16) -> (Option<Slot>, Vec<(Role, u64)>) {
    establish_at(ports, port, 0)
}

#[test]
fn the_first_ports_that_serve_get_half_of_the_labels_and_keep_them() {
    let mut ports = PortLabels::new(3, &[], EPHEMERAL);
    assert_eq!(ports.slot(Some(80)), Slot::OTHER);
    let first = establish(&mut ports, 80).0.unwrap();
    let second = establish(&mut ports, 443).0.unwrap();
    for port in 1000..2000 {
        assert_eq!(establish(&mut ports, port), (None, vec![]));
        assert_eq!(establish(&mut ports, port), (None, vec![]), "folded once");
    }
    assert_eq!(ports.slot(Some(80)), first);
    assert_eq!(ports.slot(Some(443)), second);
    assert_eq!(ports.slot(Some(1000)), Slot::OTHER);
    assert_eq!(ports.slot(None), Slot::UNKNOWN);
    assert_eq!((ports.labels(), ports.folded()), (&[80, 443][..], 1000));
    assert!(first.is_labelled() && second.is_labelled() && first != second);
    assert!(!Slot::OTHER.is_labelled() && !Slot::UNKNOWN.is_labelled());
    // The third is for use: it has two connections already.
    for _ in 2..CONNECTIONS - 1 {
        assert_eq!(establish(&mut ports, 1000).0, None);
    }
    assert!(establish(&mut ports, 1000).0.is_some());
    assert_eq!(
        (ports.labels(), ports.folded()),
        (&[80, 443, 1000][..], 999)
    );
}

#[test]
fn short_lived_servers_on_random_ports_leave_the_labels_to_others() {
    let mut ports = PortLabels::new(16, &[], EPHEMERAL);
    for port in 40_000..60_000 {
        assert_eq!(establish(&mut ports, port).0, None, "{port}");
    }
    assert!(establish(&mut ports, 443).0.is_some());
    // Passive FTP: a hundred ports in turn, each every eleven minutes, for a week.
    for minute in 0..7 * 24 * 60 {
        for port in (40_000..40_100).filter(|port| port % 11 == minute % 11) {
            for _ in 0..5 {
                establish_at(&mut ports, port, u64::from(minute) * MINUTE);
            }
        }
    }
    assert_eq!(ports.labels(), [443]);
}

#[test]
fn a_scan_of_ports_that_all_accept_leaves_half_of_the_labels() {
    let mut ports = PortLabels::new(16, &[], EPHEMERAL);
    for port in 1..=u16::MAX {
        establish(&mut ports, port);
    }
    assert_eq!(ports.labels(), [1, 2, 3, 4, 5, 6, 7, 8]);
    let given = (0..300).find(|_| establish(&mut ports, 443).0.is_some());
    assert_eq!(given, Some(usize::from(CONNECTIONS) - 2));
}

#[test]
fn in_the_ephemeral_range_a_listener_from_the_start_or_long_use_earn_one() {
    let mut ports = PortLabels::new(16, &[], EPHEMERAL);
    ports.add_listening(50_051);
    assert!(establish(&mut ports, 50_051).0.is_some());
    let minutes = (0..60_u64).take_while(|minute| {
        let given = (0..2).any(|_| {
            establish_at(&mut ports, 50_052, minute * MINUTE)
                .0
                .is_some()
        });
        !given
    });
    assert_eq!(minutes.count(), usize::from(MINUTES) - 1);
    // As much in one minute is no long use.
    for _ in 0..1_000 {
        assert_eq!(establish(&mut ports, 50_053).0, None);
    }
}

#[test]
fn a_connection_established_before_its_port_had_a_label_stays_other() {
    let mut ports = PortLabels::new(1, &[], EPHEMERAL);
    let (slot, _) = establish_at(&mut ports, 80, 100);
    for (time, expected) in [
        (Some(99), Slot::OTHER),
        (Some(100), slot.unwrap()),
        (None, slot.unwrap()),
    ] {
        assert_eq!(ports.slot_since(Some(80), time), expected, "{time:?}");
    }
    assert_eq!(ports.slot_since(Some(81), Some(0)), Slot::OTHER);
    assert_eq!(ports.slot_since(None, Some(0)), Slot::UNKNOWN);
}

#[test]
fn a_fixed_list_is_all_there_is() {
    let mut ports = PortLabels::new(16, &[443, 22, 443, 0], EPHEMERAL);
    assert_eq!(ports.labels(), [443, 22]);
    assert_eq!(ports.limit(), 2);
    assert_eq!(establish(&mut ports, 443), (None, vec![]));
    assert_eq!(establish(&mut ports, 80), (None, vec![]));
    assert_eq!((ports.slot(Some(80)), ports.folded()), (Slot::OTHER, 1));
}

#[test]
fn no_labels_can_be_asked_for_and_too_many_cannot() {
    let mut none = PortLabels::new(0, &[], EPHEMERAL);
    assert_eq!(establish(&mut none, 80).0, None);
    assert_eq!(none.folded(), 1);

    let mut many = PortLabels::new(usize::MAX, &[], EPHEMERAL);
    for _ in 0..CONNECTIONS {
        for port in 1..=u16::MAX {
            establish(&mut many, port);
        }
    }
    assert_eq!(many.labels().len(), MAX_PORTS);
    assert_eq!(many.folded(), 65_535 - MAX_PORTS as u64);
}

#[test]
fn attempts_not_yet_shown_go_with_the_label() {
    let mut ports = PortLabels::new(1, &[], EPHEMERAL);
    ports.remember_attempt(Role::Active, 80);
    ports.remember_attempt(Role::Active, 80);
    ports.remember_attempt(Role::Passive, 80);
    ports.remember_attempt(Role::Active, 81);
    ports.forget_attempt(Role::Active, 80);
    let (slot, moved) = establish(&mut ports, 80);
    assert!(slot.is_some());
    assert_eq!(moved, [(Role::Active, 1), (Role::Passive, 1)]);
    // The last label is gone: nothing need be remembered.
    ports.remember_attempt(Role::Active, 82);
    assert_eq!(ports.labels.unsettled_len(), 1);
}

#[test]
fn attempts_that_were_shown_stay_where_they_were() {
    let mut ports = PortLabels::new(1, &[], EPHEMERAL);
    ports.remember_attempt(Role::Active, 80);
    ports.settle_attempts();
    ports.forget_attempt(Role::Active, 80);
    assert_eq!(establish(&mut ports, 80).1, []);
}

#[test]
fn the_memory_of_unlabelled_ports_is_bounded() {
    let mut ports = PortLabels::new(16, &[], EPHEMERAL);
    for port in 1..=u16::MAX {
        ports.remember_attempt(Role::Active, port);
    }
    assert_eq!(ports.labels.unsettled_len(), MAX_UNSETTLED);
    ports.forget_attempt(Role::Active, 60_000);
    ports.forget_attempt(Role::Active, 1);
    assert_eq!(ports.labels.unsettled_len(), MAX_UNSETTLED - 1);
}
