//! Attempts, opens, failures and ends are disjoint, whatever happens.

use tcptrace_common::TcpState::*;

use super::{
    exposition::Exposition,
    host::{Host, LOOPBACK, NETWORK, Socket},
};
use crate::feed::event::CloseFields;

/// Numbers that look random and are the same in every run (Numerical Recipes' LCG).
struct Random(u32);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % bound
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

fn check(host: &mut Host) {
    let shown = Exposition::of(host);
    let snapshot = host.tracker.snapshot();
    let attempts = shown.sum("tcptrace_connection_attempts_total", &[]);
    let established = shown.sum("tcptrace_connections_established_total", &[]);
    let failed = shown.sum("tcptrace_handshake_failures_total", &[]);
    let closed = shown.sum("tcptrace_connections_closed_total", &[]);
    let seeded = shown.sum("tcptrace_connections_seeded_total", &[]);
    let evicted = shown.sum("tcptrace_tracker_evictions_total", &[]);
    let held = shown.sum("tcptrace_connections", &[]);

    let stats = &snapshot.stats;
    assert_eq!(
        attempts,
        established + failed + snapshot.pending + stats.evicted_pending,
        "attempts = established + failed + pending + evicted attempts"
    );
    assert_eq!(
        established + seeded,
        closed + snapshot.live + stats.evicted,
        "established + seeded = closed + live + evicted"
    );
    // Both, from nothing but one exposition.
    assert_eq!(attempts + seeded, failed + closed + held + evicted);
    assert_eq!(
        shown.sum("tcptrace_handshakes_measured_total", &[]),
        established
    );
    assert_eq!(
        (attempts, established, failed, closed, seeded),
        (
            stats.attempts,
            stats.established,
            stats.failed,
            stats.closed,
            stats.seeded
        ),
        "the tracker counts the same"
    );
}

#[test]
fn the_identities_hold_at_every_moment_of_a_busy_host() {
    let mut random = Random(7);
    let mut host = Host::with(3, 40);
    let mut sockets: Vec<Socket> = Vec::new();
    for round in 0..20_000 {
        let port = random.of(&[22, 80, 443, 5432, 8080, 9000]);
        let peer = random.of(&[NETWORK, LOOPBACK]);
        match random.below(10) {
            0 | 1 => sockets.push(host.active(peer, port)),
            2 => sockets.push(host.passive(peer, port)),
            3 => {
                let state = random.of(&[Established, CloseWait, FinWait2, SynSent, SynRecv]);
                let socket = host.socket(state, peer, 40_000, port);
                sockets.push(socket);
            }
            _ if sockets.is_empty() => host.wait(1_000_000),
            _ => {
                let at = random.below(sockets.len());
                advance(&mut host, &mut sockets[at], &mut random);
                if sockets[at].state == Close {
                    // Its address is used again now and then.
                    if random.below(2) == 0 {
                        host.go(&mut sockets[at], SynSent);
                    } else {
                        sockets.swap_remove(at);
                    }
                }
            }
        }
        if round % 23 == 0 {
            check(&mut host);
        }
    }
    host.settle();
    check(&mut host);
    let snapshot = host.tracker.snapshot();
    assert!(snapshot.stats.evicted > 0 && snapshot.stats.evicted_pending > 0);
    assert!(snapshot.stats.seeded > 0 && snapshot.stats.failed > 0 && snapshot.stats.gaps > 0);
}

fn advance(host: &mut Host, socket: &mut Socket, random: &mut Random) {
    let fields = CloseFields {
        error: random.of(&[0, 104, 110, 111]),
        peer_fin: random.below(2) == 0,
        dead: random.below(2) == 0,
        ..CloseFields::default()
    };
    let next = match socket.state {
        SynSent => random.of(&[Established, SynRecv, Close]),
        SynRecv => random.of(&[Established, FinWait1, Close]),
        Established => random.of(&[FinWait1, CloseWait, Close]),
        FinWait1 => random.of(&[FinWait2, Closing, Close]),
        CloseWait => random.of(&[LastAck, Close]),
        FinWait2 | LastAck | Closing | TimeWait | Close | Listen | NewSynRecv => Close,
    };
    if random.below(20) == 0 {
        // This one is lost.
        socket.state = next;
    } else if next == Close {
        host.close(socket, fields);
    } else {
        host.go(socket, next);
    }
}

#[test]
fn a_reader_of_one_exposition_can_check_them_for_a_port() {
    let mut host = Host::new();
    let mut open = Vec::new();
    for count in 0..30 {
        let mut socket = host.active(NETWORK, 443);
        match count % 3 {
            0 => host.establish(&mut socket, 0),
            1 => host.close(&mut socket, CloseFields::default()),
            _ => {}
        }
        open.push(socket);
    }
    host.settle();
    let shown = Exposition::of(&mut host);
    let port = [("role", "active"), ("port", "443")];
    let attempts = shown.sum("tcptrace_connection_attempts_total", &port);
    let established = shown.sum("tcptrace_connections_established_total", &port);
    let failed = shown.sum("tcptrace_handshake_failures_total", &port);
    let pending = shown.sum("tcptrace_connections", &[("state", "SYN_SENT")]);
    assert_eq!((attempts, established, failed, pending), (30, 10, 10, 10));
}
