//! Every pair of states: what it means, and what the tracker makes of it.

use super::*;

/// What each transition means: from down, to across, in the kernel's order. Written by hand from
/// the kernel's paths, not from the code under test.
///
/// `A` active open, `P` passive open, `L` listen, `S` stop listening, `x` SYNs crossed,
/// `e` established, `l` local FIN, `r` remote FIN, `a` FIN acknowledged, `b` both FINs crossed,
/// `2` second FIN, `c` close, `=` again, `.` impossible.
const TABLE: &str = "\
    . . . l . . c r . . . .  ESTABLISHED
    e . x . . . c . . . . .  SYN_SENT
    e . . l . . c . . . . .  SYN_RECV
    . . . = a . c . . . b .  FIN_WAIT1
    . . . . = . c . . . . .  FIN_WAIT2
    . . . . . . . . . . . .  TIME_WAIT
    . A . . . . . . . L . .  CLOSE
    . . . . . . c . 2 . . .  CLOSE_WAIT
    . . . . . . c . = . . .  LAST_ACK
    . . P . . . S . . . . .  LISTEN
    . . . . . . c . . . = .  CLOSING
    . . . . . . . . . . . .  NEW_SYN_RECV";

fn meaning(letter: &str) -> Step {
    match letter {
        "A" => Step::ActiveOpen,
        "P" => Step::PassiveOpen,
        "L" => Step::Listen,
        "S" => Step::StopListening,
        "x" => Step::SynsCrossed,
        "e" => Step::Established,
        "l" => Step::LocalFin,
        "r" => Step::RemoteFin,
        "a" => Step::FinAcknowledged,
        "b" => Step::FinsCrossed,
        "2" => Step::SecondFin,
        "c" => Step::Close,
        "=" => Step::Again,
        "." => Step::Impossible,
        other => panic!("no letter {other}"),
    }
}

fn pairs() -> Vec<(TcpState, TcpState, Step)> {
    let mut pairs = Vec::new();
    for (old, row) in TcpState::ALL.into_iter().zip(TABLE.lines()) {
        assert!(row.ends_with(old.name()), "{row}");
        for (new, letter) in TcpState::ALL.into_iter().zip(row.split_whitespace()) {
            pairs.push((old, new, meaning(letter)));
        }
    }
    assert_eq!(pairs.len(), 144);
    pairs
}

fn event(old: TcpState, new: TcpState) -> Event {
    let story = Story::client().already(old).goes(new);
    story.events().remove(0)
}

/// A tracker that holds one connection, in `state`, of which nothing was said yet.
fn holding(state: TcpState) -> Tracker {
    let mut tracker = tracker();
    let mut connection = Connection::new(
        tracker.sockets.journal.take_id(),
        SOCKET,
        Role::Active,
        state,
    );
    connection.established = is_synchronized(state);
    tracker.sockets.enter(connection);
    tracker
}

/// The state held of the socket, and how many connections wait for their record.
fn held(tracker: &mut Tracker) -> (Option<TcpState>, usize) {
    let waiting = tracker
        .sockets
        .ended
        .iter()
        .filter(|ended| ended.end_seen)
        .count();
    (
        tracker
            .sockets
            .store
            .get_mut(SOCKET)
            .map(|connection| connection.state),
        waiting,
    )
}

#[test]
fn each_pair_of_states_means_what_the_kernel_means_by_it() {
    for (old, new, step) in pairs() {
        assert_eq!(Step::between(old, new), step, "{old:?} to {new:?}");
    }
}

#[test]
fn an_empty_tracker_takes_each_pair_of_states() {
    for (old, new, step) in pairs() {
        let mut tracker = tracker();
        let mut recording = Recording::default();
        recording.event(&mut tracker, &event(old, new));
        let context = format!("{old:?} to {new:?}: {:?}", recording.lines());

        let impossible = step == Step::Impossible;
        assert_eq!(
            tracker.stats().anomalies,
            u64::from(impossible),
            "{context}"
        );
        assert_eq!(tracker.stats().transitions, 1);
        let expected = match step {
            // Nothing is known of a connection that an impossible event speaks of.
            Step::Impossible | Step::Listen | Step::StopListening => (None, 0),
            Step::Close => (None, 1),
            Step::ActiveOpen
            | Step::PassiveOpen
            | Step::SynsCrossed
            | Step::Established
            | Step::LocalFin
            | Step::RemoteFin
            | Step::FinAcknowledged
            | Step::FinsCrossed
            | Step::SecondFin
            | Step::Again => (Some(new), 0),
        };
        assert_eq!(held(&mut tracker), expected, "{context}");
        assert_eq!(
            tracker.sockets.listeners.len(),
            usize::from(step == Step::Listen),
            "{context}"
        );
        if let Some(connection) = tracker.sockets.store.get_mut(SOCKET) {
            let begins = matches!(step, Step::ActiveOpen | Step::PassiveOpen);
            let expected = if begins {
                Completeness::Full
            } else {
                Completeness::Seeded
            };
            assert_eq!(connection.completeness, expected, "{context}");
            assert_eq!(connection.handshake.opened.is_some(), begins, "{context}");
        }
        assert_eq!(tracker.stats().gaps, 0, "{context}");
        // Every transition is told, whatever it means.
        let told = recording.heard.iter().any(|update| {
            matches!(
                update,
                Update::Transition { .. } | Update::Stray { .. } | Update::Listener { .. }
            )
        });
        assert!(told || step == Step::Listen, "{context}");
    }
}

#[test]
fn a_connection_that_is_held_takes_each_pair_of_states() {
    for (old, new, step) in pairs() {
        let mut tracker = holding(old);
        let mut recording = Recording::default();
        recording.event(&mut tracker, &event(old, new));
        let context = format!("{old:?} to {new:?}: {:?}", recording.lines());

        let impossible = step == Step::Impossible;
        assert_eq!(
            tracker.stats().anomalies,
            u64::from(impossible),
            "{context}"
        );
        let expected = match step {
            // What was held under the address is over, whatever it was.
            Step::Listen | Step::StopListening => (None, 0),
            Step::Close => (None, 1),
            Step::Impossible if new == Close => (None, 1),
            Step::Impossible
            | Step::ActiveOpen
            | Step::PassiveOpen
            | Step::SynsCrossed
            | Step::Established
            | Step::LocalFin
            | Step::RemoteFin
            | Step::FinAcknowledged
            | Step::FinsCrossed
            | Step::SecondFin
            | Step::Again => (Some(new), 0),
        };
        assert_eq!(held(&mut tracker), expected, "{context}");

        // A connection in CLOSE or LISTEN there is none of: whatever follows is a gap.
        let gap = impossible || matches!(old, Close | Listen);
        assert_eq!(tracker.stats().gaps, u64::from(gap), "{context}");
        recording.finish(&mut tracker);
        for ended in recording.ended() {
            let is_gap = ended.connection.completeness == Completeness::Gap;
            assert_eq!(is_gap, gap, "{context}");
        }
    }
}

#[test]
fn a_connection_in_another_state_is_carried_on_from_what_the_event_says() {
    for (old, new, step) in pairs() {
        if matches!(step, Step::Impossible | Step::Listen | Step::StopListening) {
            continue;
        }
        for state in TcpState::ALL.into_iter().filter(|&state| state != old) {
            let mut tracker = holding(state);
            let mut recording = Recording::default();
            recording.event(&mut tracker, &event(old, new));
            let context = format!(
                "{state:?}, then {old:?} to {new:?}: {:?}",
                recording.lines()
            );
            let gone = step == Step::Close;
            assert_eq!(
                held(&mut tracker),
                (Some(new).filter(|_| !gone), usize::from(gone)),
                "{context}"
            );
            assert!(tracker.stats().gaps >= 1, "{context}");
            assert_eq!(tracker.stats().anomalies, 0, "{context}");
            if let Some(Update::Transition { in_state_ns, .. }) = recording
                .heard
                .iter()
                .rfind(|heard| matches!(heard, Update::Transition { .. }))
            {
                assert_eq!(*in_state_ns, None, "{context}");
            }
        }
    }
}

#[test]
fn the_states_with_both_syns_acknowledged_are_synchronized() {
    let states = TcpState::ALL
        .into_iter()
        .filter(|&state| is_synchronized(state));
    let expected = [
        Established,
        FinWait1,
        FinWait2,
        TimeWait,
        CloseWait,
        LastAck,
        Closing,
    ];
    assert_eq!(states.collect::<Vec<_>>(), expected);
}

#[test]
fn the_states_of_one_connection_only_go_forward() {
    // What can be reached in the table, one step and then another; nothing goes on after CLOSE.
    let pairs = pairs();
    let steps: Vec<_> = pairs
        .iter()
        .filter(|(old, new, step)| *step != Step::Impossible && *new != Close && *old != *new)
        .map(|&(old, new, _)| (old, new))
        .collect();
    let connected = [
        SynSent,
        SynRecv,
        Established,
        FinWait1,
        FinWait2,
        CloseWait,
        LastAck,
        Closing,
    ];
    for earlier in connected {
        let mut reached = vec![earlier];
        for _ in 0..connected.len() {
            let further = steps.iter().filter(|(old, _)| reached.contains(old));
            let mut further: Vec<_> = further.map(|&(_, new)| new).collect();
            reached.append(&mut further);
            reached.sort_unstable();
            reached.dedup();
        }
        for later in connected {
            let expected = reached.contains(&later);
            assert_eq!(
                can_lead_to(earlier, later),
                expected,
                "{earlier:?} to {later:?}"
            );
        }
    }
}
