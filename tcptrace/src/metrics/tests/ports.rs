use super::*;

fn establish(ports: &mut Ports, port: u16) -> (Option<Slot>, Vec<(Role, u64)>) {
    let mut moved = Vec::new();
    let slot = ports.on_established(port, |role, attempts| moved.push((role, attempts)));
    (slot, moved)
}

#[test]
fn the_first_ports_get_labels_and_keep_them() {
    let mut ports = Ports::new(2, &[]);
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
}

#[test]
fn a_fixed_list_is_all_there_is() {
    let mut ports = Ports::new(16, &[443, 22, 443, 0]);
    assert_eq!(ports.labels(), [443, 22]);
    assert_eq!(ports.limit(), 2);
    assert_eq!(establish(&mut ports, 443), (None, vec![]));
    assert_eq!(establish(&mut ports, 80), (None, vec![]));
    assert_eq!((ports.slot(Some(80)), ports.folded()), (Slot::OTHER, 1));
}

#[test]
fn no_labels_can_be_asked_for_and_too_many_cannot() {
    let mut none = Ports::new(0, &[]);
    assert_eq!(establish(&mut none, 80).0, None);
    assert_eq!(none.folded(), 1);

    let mut many = Ports::new(usize::MAX, &[]);
    for port in 1..=u16::MAX {
        establish(&mut many, port);
    }
    assert_eq!(many.labels().len(), MAX_PORTS);
    assert_eq!(many.folded(), 65_535 - MAX_PORTS as u64);
}

#[test]
fn attempts_not_yet_shown_go_with_the_label() {
    let mut ports = Ports::new(1, &[]);
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
    assert_eq!(ports.unsettled.len(), 1);
}

#[test]
fn attempts_that_were_shown_stay_where_they_were() {
    let mut ports = Ports::new(1, &[]);
    ports.remember_attempt(Role::Active, 80);
    ports.settle_attempts();
    ports.forget_attempt(Role::Active, 80);
    assert_eq!(establish(&mut ports, 80).1, []);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut ports = Ports::new(16, &[]);
    for port in 1..=u16::MAX {
        ports.remember_attempt(Role::Active, port);
    }
    assert_eq!(ports.unsettled.len(), MAX_UNSETTLED);
    ports.forget_attempt(Role::Active, 60_000);
    ports.forget_attempt(Role::Active, 1);
    assert_eq!(ports.unsettled.len(), MAX_UNSETTLED - 1);
}
