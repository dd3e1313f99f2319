//! All evidence there can be: what the rules have in common.

use super::{
    verdicts::{BLIND, Case, left},
    *,
};
use crate::tracker::errno::*;

/// Every combination of what the rules look at.
fn every_case() -> Vec<Case> {
    let errors = [
        0,
        EPIPE,
        ECONNABORTED,
        ECONNRESET,
        ETIMEDOUT,
        ECONNREFUSED,
        113,
        5,
        74,
    ];
    let mut cases = Vec::new();
    for state in TcpState::ALL {
        for error in errors {
            for bits in 0..1024_u32 {
                let bit = |n: u32| bits >> n & 1;
                let fields = CloseFields {
                    error,
                    receive_shut: bit(0) != 0,
                    send_shut: bit(1) != 0,
                    dead: bit(2) != 0,
                    peer_fin: bit(3) != 0,
                    has_socket: bit(4) != 0,
                    linger2_negative: bit(5) != 0,
                    unread: bit(6),
                    unacknowledged: bit(7),
                    send_window: bit(8),
                    segments_sent: bit(9),
                    ..CloseFields::default()
                };
                cases.push(left(state, fields));
            }
        }
    }
    cases
}

#[test]
fn a_missing_hook_never_makes_another_cause_of_one_but_only_unknown() {
    for case in every_case() {
        let seen = case.judged();
        for hooks in [
            BLIND,
            ResetHooks {
                received: true,
                ..BLIND
            },
            ResetHooks {
                sent: true,
                ..BLIND
            },
        ] {
            let blind = case.clone().hooks(hooks).judged();
            assert!(
                blind == seen || blind == Verdict::Unknown,
                "{seen:?} {blind:?} {case:#?}"
            );
        }
    }
}

#[test]
fn every_verdict_can_be_reached_and_has_a_name_of_its_own() {
    let mut reached: Vec<Verdict> = Vec::new();
    for case in every_case() {
        let probing = case.clone().with(|case| {
            case.fields = case.fields.map(|fields| CloseFields {
                probes_out: 1,
                ..fields
            });
        });
        let portless = case
            .clone()
            .with(|case| case.connection.endpoints = Some(ends(0, 443)));
        let repaired = case.clone().with(|case| {
            case.fields = case.fields.map(|fields| CloseFields {
                repair: true,
                ..fields
            });
        });
        let forbidden = case.clone().with(|case| {
            case.connect = Some(ConnectFailure {
                endpoints: ends(0, 443),
                owner: SocketOwner::default(),
                task: CLIENT,
                error: EPERM,
                policy: true,
            });
        });
        let others = [case.clone().reset_received(), case.clone().reset_sent()];
        for case in [
            case.clone(),
            case.reset_after(),
            probing,
            portless,
            repaired,
            forbidden,
        ]
        .iter()
        .chain(&others)
        {
            reached.push(case.judged());
        }
    }
    reached.sort_unstable();
    reached.dedup();
    let mut all = Verdict::ALL.to_vec();
    all.sort_unstable();
    assert_eq!(reached, all);
    let mut names: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Verdict::ALL.len());
}
