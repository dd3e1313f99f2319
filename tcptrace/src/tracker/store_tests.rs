//! The store against a list that does the same slowly.

use proptest::prelude::*;
use tcptrace_common::TcpState;

use super::*;
use crate::tracker::Role;

/// A connection that can be told from others by its id.
fn connection(id: u64, socket: u64) -> Connection {
    Connection::new(id, socket, Role::Active, TcpState::SynSent)
}

/// A store of sockets 1 to `n`, each with the id of its socket, taken in in that order.
fn store_of(limit: usize, n: u64) -> Store {
    let mut store = Store::new(limit);
    for socket in 1..=n {
        assert!(store.insert(connection(socket, socket)).1.is_none());
    }
    store
}

/// Takes in new sockets from 100 on and answers which socket goes, `n` times.
fn evicted(store: &mut Store, n: u64) -> Vec<u64> {
    (100..100 + n)
        .map(|socket| store.insert(connection(socket, socket)).1.unwrap().socket)
        .collect()
}

#[test]
fn a_connection_is_found_by_its_sockets_address_and_by_no_other() {
    let mut store = store_of(8, 3);
    assert_eq!(store.get_mut(2).unwrap().id, 2);
    assert_eq!(touch(&mut store, 3).unwrap().id, 3);
    assert!(store.get_mut(4).is_none() && touch(&mut store, 0).is_none());
    assert!(remove(&mut store, u64::MAX).is_none());
    assert_eq!(store.len(), 3);
}

#[test]
fn the_longest_unchanged_goes_first() {
    let mut store = store_of(4, 4);
    assert_eq!(evicted(&mut store, 6), [1, 2, 3, 4, 100, 101]);
    assert_eq!(store.len(), 4);
}

#[test]
fn a_touch_makes_the_most_recent_wherever_it_was() {
    for (touched, order) in [(1, [2, 3, 1]), (2, [1, 3, 2]), (3, [1, 2, 3])] {
        let mut store = store_of(3, 3);
        assert!(touch(&mut store, touched).is_some());
        assert_eq!(evicted(&mut store, 3), order, "{touched} touched");
    }
}

#[test]
fn reading_an_entry_keeps_the_order() {
    let mut store = store_of(3, 3);
    assert!(store.get_mut(1).is_some());
    assert_eq!(evicted(&mut store, 3), [1, 2, 3]);
}

#[test]
fn removing_an_entry_keeps_the_order_of_the_others() {
    for (removed, order) in [(1, [2, 3, 4]), (2, [1, 3, 4]), (4, [1, 2, 3])] {
        let mut store = store_of(4, 4);
        assert_eq!(remove(&mut store, removed).unwrap().id, removed);
        assert!(store.get_mut(removed).is_none());
        assert!(store.insert(connection(50, 50)).1.is_none());
        assert_eq!(evicted(&mut store, 3), order, "{removed} removed");
    }
}

#[test]
fn room_that_was_given_back_is_used_again() {
    let mut store = Store::new(1000);
    for socket in 0..10_000_u64 {
        assert!(store.insert(connection(socket, socket)).1.is_none());
        if socket >= 3 {
            assert!(remove(&mut store, socket - 3).is_some());
        }
    }
    assert_eq!(store.slots.len(), 4);
    assert_eq!(store.iter().count(), 3);
}

#[test]
fn a_store_that_was_emptied_is_as_new() {
    let mut store = store_of(3, 3);
    for socket in [2, 1, 3] {
        assert!(remove(&mut store, socket).is_some());
    }
    assert_eq!((store.len(), store.iter().count()), (0, 0));
    for socket in 4..=6 {
        assert!(store.insert(connection(socket, socket)).1.is_none());
    }
    assert_eq!(evicted(&mut store, 3), [4, 5, 6]);
}

#[test]
fn a_store_of_one_holds_the_last() {
    let mut store = store_of(1, 1);
    assert_eq!(evicted(&mut store, 3), [1, 100, 101]);
    assert_eq!(touch(&mut store, 102).unwrap().id, 102);
    assert_eq!(remove(&mut store, 102).unwrap().id, 102);
    assert_eq!(store.len(), 0);
}

#[test]
fn there_is_room_for_one_at_the_least() {
    assert_eq!(Store::new(0).limit(), 1);
    assert!(Store::new(usize::MAX).limit() < NONE as usize);
}

/// What can be done to a store.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Insert(u64),
    Touch(u64),
    Look(u64),
    Remove(u64),
}

fn operation() -> impl Strategy<Value = Operation> {
    let socket = 0..12_u64;
    prop_oneof![
        3 => socket.clone().prop_map(Operation::Insert),
        3 => socket.clone().prop_map(Operation::Touch),
        1 => socket.clone().prop_map(Operation::Look),
        2 => socket.prop_map(Operation::Remove),
    ]
}

proptest! {
    #[test]
    fn the_store_agrees_with_a_list(
        limit in 1..10_usize,
        operations in prop::collection::vec(operation(), 0..200),
    ) {
        let mut store = Store::new(limit);
        // Socket and id, the longest unchanged first.
        let mut list: Vec<(u64, u64)> = Vec::new();
        for (id, operation) in (1..).zip(operations) {
            let place = |list: &[(u64, u64)], socket| list.iter().position(|&(s, _)| s == socket);
            match operation {
                Operation::Insert(socket) => {
                    // As the tracker does: what the address held before goes out first.
                    let before = remove(&mut store, socket).map(|connection| connection.id);
                    let known = place(&list, socket).map(|at| list.remove(at).1);
                    prop_assert_eq!(before, known);
                    let goes = (list.len() == limit).then(|| list.remove(0));
                    list.push((socket, id));
                    let (_, gone) = store.insert(connection(id, socket));
                    prop_assert_eq!(gone.map(|connection| (connection.socket, connection.id)), goes);
                }
                Operation::Touch(socket) => {
                    let known = place(&list, socket).map(|at| list.remove(at));
                    list.extend(known);
                    let found = touch(&mut store, socket).map(|connection| (connection.socket, connection.id));
                    prop_assert_eq!(found, known);
                }
                Operation::Look(socket) => {
                    let known = place(&list, socket).map(|at| list[at].1);
                    prop_assert_eq!(store.get_mut(socket).map(|connection| connection.id), known);
                }
                Operation::Remove(socket) => {
                    let known = place(&list, socket).map(|at| list.remove(at).1);
                    prop_assert_eq!(remove(&mut store, socket).map(|connection| connection.id), known);
                }
            }
            prop_assert_eq!(store.len(), list.len());
            prop_assert!(store.slots.len() <= limit, "no more slots than connections allowed");
            let mut held: Vec<u64> = store.iter().map(|connection| connection.id).collect();
            let mut listed: Vec<u64> = list.iter().map(|&(_, id)| id).collect();
            held.sort_unstable();
            listed.sort_unstable();
            prop_assert_eq!(held, listed);
        }
    }
}

fn touch(store: &mut Store, socket: u64) -> Option<&mut Connection> {
    let place = store.find(socket)?;
    store.touch(place)
}

fn remove(store: &mut Store, socket: u64) -> Option<Connection> {
    let place = store.find(socket)?;
    store.remove(place)
}
