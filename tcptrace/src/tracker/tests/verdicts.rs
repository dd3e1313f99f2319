//! Every verdict from its evidence, and `unknown` wherever the evidence is missing.

use std::net::IpAddr;

use super::*;
use crate::tracker::errno::*;

const SEEN: ResetHooks = ResetHooks {
    received: true,
    sent: true,
};
pub(super) const BLIND: ResetHooks = ResetHooks {
    received: false,
    sent: false,
};

/// What can be left on a connection that lives on: ICMP with IP_RECVERR, kTLS (EBADMSG), sockmap
/// (EPIPE).
fn pending() -> impl Iterator<Item = u16> {
    [ECONNREFUSED, 74, EPIPE].into_iter().chain(ICMP)
}

#[test]
fn an_error_that_was_there_before_is_not_the_cause() {
    let cause = |state, fields: CloseFields, after: bool| {
        let case = left(state, fields);
        if after { case.reset_after() } else { case }.judged()
    };
    let with = |error, fields: CloseFields| CloseFields { error, ..fields };
    let queued = CloseFields {
        unacknowledged: 4000,
        send_window: 0,
        probes_out: 3,
        ..shut(0)
    };
    let unread = CloseFields {
        unread: 7,
        ..shut(0)
    };
    let waiting = CloseFields {
        has_socket: false,
        ..closing()
    };
    let peer_fin = CloseFields {
        peer_fin: true,
        ..orphan()
    };
    for error in pending() {
        for (state, fields, after, verdict) in [
            // Both close with FINs.
            (LastAck, orphan(), false, Verdict::Graceful),
            (Closing, orphan(), false, Verdict::Graceful),
            (FinWait2, peer_fin, false, Verdict::Graceful),
            (FinWait2, orphan(), false, Verdict::Graceful),
            // SO_LINGER 0, with a full queue and a closed window.
            (Established, queued, true, Verdict::ResetByUs),
            (CloseWait, queued, true, Verdict::ResetByUs),
            (Established, unread, true, Verdict::UnreadData),
            (CloseWait, unread, true, Verdict::UnreadData),
            // connect(AF_UNSPEC).
            (Established, closing(), true, Verdict::ResetByUs),
            (CloseWait, closing(), true, Verdict::ResetByUs),
            (FinWait1, closing(), true, Verdict::ResetByUs),
            (FinWait2, closing(), true, Verdict::ResetByUs),
            // The listener closes.
            (Established, waiting, true, Verdict::NotAccepted),
            (CloseWait, waiting, true, Verdict::NotAccepted),
            // Data on the ACK of our FIN.
            (FinWait2, orphan(), true, Verdict::DataAfterClose),
        ] {
            let context = format!("{error} {state:?} {fields:?}");
            assert_eq!(cause(state, with(0, fields), after), verdict, "{context}");
            assert_eq!(
                cause(state, with(error, fields), after),
                verdict,
                "{context}"
            );
        }
    }
}

#[test]
fn a_pending_error_never_makes_another_cause_of_one() {
    // Nothing outstanding, no probe: the error cannot be the kernel's giving up.
    for state in [Established, CloseWait, FinWait1, FinWait2, Closing, LastAck] {
        for bits in 0..64_u32 {
            let bit = |n: u32| bits >> n & 1 != 0;
            let fields = CloseFields {
                receive_shut: bit(0),
                send_shut: bit(1),
                dead: bit(2),
                peer_fin: bit(3),
                has_socket: bit(4),
                ..CloseFields::default()
            };
            for error in pending().filter(|&error| (error, state) != (EPIPE, CloseWait)) {
                let case = |error| {
                    let case = left(state, CloseFields { error, ..fields });
                    if bit(5) { case.reset_after() } else { case }.judged()
                };
                let (with, without) = (case(error), case(0));
                assert!(
                    with == without || with == Verdict::Unknown,
                    "{error} {state:?} {fields:?}: {with:?}, not {without:?}"
                );
            }
        }
    }
}

#[test]
fn a_socket_in_repair_is_checkpointed() {
    let repair = |fields: CloseFields| CloseFields {
        repair: true,
        ..fields
    };
    for state in [Established, CloseWait] {
        let unread = CloseFields {
            unread: 9,
            ..shut(0)
        };
        left(state, repair(shut(0))).says(Verdict::Checkpointed);
        left(state, repair(unread)).says(Verdict::Checkpointed);
        // connect(AF_UNSPEC).
        left(state, repair(closing())).says(Verdict::Checkpointed);
    }
    left(Established, repair(error(ECONNRESET)))
        .reset_received()
        .says(Verdict::ResetReceived);
    left(SynSent, repair(shut(0))).says(Verdict::Cancelled);
}

/// A connect() that failed before SYN_SENT.
fn not_sent(error: u16, policy: bool, remote: IpAddr, interface: Option<u32>) -> Verdict {
    let endpoints = Endpoints {
        remote_address: remote,
        interface,
        ..ends(0, 443)
    };
    left(Close, closing())
        .with(|case| {
            case.fields = None;
            case.connect = Some(ConnectFailure {
                endpoints,
                owner: SocketOwner::default(),
                task: CLIENT,
                error,
                policy,
            });
        })
        .judged()
}

#[test]
fn a_connect_that_fails_before_its_syn_tells_why() {
    let v4 = IpAddr::from([192, 0, 2, 7]);
    let v6: IpAddr = "2001:db8::7".parse().unwrap();
    let link_local: IpAddr = "fe80::7".parse().unwrap();
    for remote in [v4, v6] {
        for error in [22, 99, 100, 101, 113] {
            assert_eq!(not_sent(error, false, remote, None), Verdict::Unreachable);
        }
        for error in [EPERM, EACCES] {
            assert_eq!(not_sent(error, false, remote, None), Verdict::Forbidden);
        }
        // Whatever a policy answers.
        for error in [EPERM, EACCES, 22, 101, 111] {
            assert_eq!(not_sent(error, true, remote, None), Verdict::Forbidden);
        }
        // ENOBUFS, ENOMEM.
        for error in [105, 12] {
            assert_eq!(
                not_sent(error, false, remote, None),
                Verdict::HandshakeFailed
            );
        }
    }
    assert_eq!(
        not_sent(22, false, link_local, None),
        Verdict::HandshakeFailed
    );
    assert_eq!(
        not_sent(22, false, link_local, Some(3)),
        Verdict::Unreachable
    );
}

/// States that only minisockets and listeners have, or nobody.
const NO_CONNECTION: [TcpState; 4] = [TimeWait, Close, Listen, NewSynRecv];
/// Errors that none of the rules is about: EIO, EMSGSIZE, EPIPE in its wrong place, the last.
const OTHER_ERRORS: [u16; 3] = [5, 90, 4095];

/// A connection that left a state for CLOSE, and what was seen of it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) connection: Connection,
    pub(super) fields: Option<CloseFields>,
    pub(super) connect: Option<ConnectFailure>,
    pub(super) reset_after: bool,
    pub(super) hooks: ResetHooks,
}

/// From a state, with the socket's last word; every reset could be seen, none was.
pub(super) fn left(state: TcpState, fields: CloseFields) -> Case {
    let mut connection = Connection::new(1, SOCKET, Role::Active, state);
    connection.endpoints = Some(ends(40_000, 443));
    Case {
        connection,
        fields: Some(fields),
        connect: None,
        reset_after: false,
        hooks: SEEN,
    }
}

impl Case {
    pub(super) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub(super) fn reset_received(self) -> Self {
        self.with(|case| case.connection.resets.received = true)
    }

    pub(super) fn reset_sent(self) -> Self {
        self.with(|case| case.connection.resets.sent = true)
    }

    pub(super) fn reset_after(self) -> Self {
        self.with(|case| case.reset_after = true)
    }

    pub(super) fn hooks(self, hooks: ResetHooks) -> Self {
        self.with(|case| case.hooks = hooks)
    }

    pub(super) fn judged(&self) -> Verdict {
        verdict(&Evidence {
            connection: &self.connection,
            fields: self.fields,
            connect: self.connect,
            reset_after: self.reset_after,
            hooks: self.hooks,
        })
    }

    #[track_caller]
    fn says(&self, expected: Verdict) {
        assert_eq!(self.judged(), expected, "{self:#?}");
    }
}

fn error(error: u16) -> CloseFields {
    CloseFields { error, ..closing() }
}

/// As close() leaves it.
fn shut(error: u16) -> CloseFields {
    CloseFields {
        error,
        receive_shut: true,
        send_shut: true,
        ..closing()
    }
}

/// As an orphan leaves it.
fn left_alone(error: u16) -> CloseFields {
    CloseFields { error, ..orphan() }
}

#[test]
fn without_the_sockets_fields_nothing_is_known() {
    for state in TcpState::ALL {
        let case = left(state, closing()).with(|case| case.fields = None);
        case.clone()
            .reset_received()
            .reset_sent()
            .reset_after()
            .says(Verdict::Unknown);
        case.hooks(BLIND).says(Verdict::Unknown);
    }
}

#[test]
fn an_aborted_connection_was_killed() {
    for state in TcpState::ALL {
        for fields in [error(ECONNABORTED), left_alone(ECONNABORTED)] {
            left(state, fields).says(Verdict::Killed);
            left(state, fields)
                .hooks(BLIND)
                .reset_sent()
                .says(Verdict::Killed);
        }
    }
}

#[test]
fn a_refusal_needs_the_reset_and_a_port_unreachable_its_absence() {
    let case = left(SynSent, error(ECONNREFUSED));
    case.clone().reset_received().says(Verdict::Refused);
    case.clone().says(Verdict::Unreachable);
    case.clone().hooks(BLIND).says(Verdict::Unknown);
    let deaf = ResetHooks {
        received: false,
        sent: true,
    };
    case.hooks(deaf).says(Verdict::Unknown);
}

#[test]
fn a_connect_that_fails_by_an_error_tells_which() {
    left(SynSent, error(ETIMEDOUT)).says(Verdict::HandshakeTimeout);
    left(SynSent, error(ETIMEDOUT))
        .hooks(BLIND)
        .says(Verdict::HandshakeTimeout);
    for code in ICMP {
        left(SynSent, error(code))
            .hooks(BLIND)
            .says(Verdict::Unreachable);
    }
    for code in OTHER_ERRORS {
        left(SynSent, error(code)).says(Verdict::Unknown);
    }
}

#[test]
fn a_connect_that_fails_without_an_error_is_told_by_what_was_done() {
    let nothing_sent = |fields| CloseFields {
        segments_sent: 0,
        ..fields
    };
    left(SynSent, shut(0)).says(Verdict::Cancelled);
    left(SynSent, nothing_sent(shut(0))).says(Verdict::Cancelled);
    // shutdown() and connect(AF_UNSPEC) leave no bit, but a SYN went out.
    left(SynSent, error(0)).says(Verdict::Cancelled);
    left(SynSent, nothing_sent(error(0))).says(Verdict::HandshakeFailed);
    let portless = left(SynSent, nothing_sent(error(0)));
    portless
        .with(|case| case.connection.endpoints = Some(ends(0, 443)))
        .says(Verdict::NoLocalPort);
}

#[test]
fn a_handshake_that_ends_in_syn_recv_failed() {
    for code in [0, ECONNRESET, ETIMEDOUT] {
        left(SynRecv, error(code))
            .hooks(BLIND)
            .says(Verdict::HandshakeFailed);
    }
}

#[test]
fn a_reset_before_our_close_needs_no_hook() {
    for hooks in [SEEN, BLIND] {
        left(Established, error(ECONNRESET))
            .hooks(hooks)
            .says(Verdict::ResetReceived);
        left(CloseWait, error(EPIPE))
            .hooks(hooks)
            .says(Verdict::ResetReceived);
        // shutdown(RD) alone makes no data unwelcome in these states.
        let read_no_more = CloseFields {
            receive_shut: true,
            ..error(ECONNRESET)
        };
        left(Established, read_no_more)
            .hooks(hooks)
            .says(Verdict::ResetReceived);
    }
}

#[test]
fn after_our_close_a_reset_is_the_peers_only_if_we_sent_none() {
    for state in [FinWait1, FinWait2, Closing, LastAck] {
        left(state, shut(ECONNRESET)).says(Verdict::ResetReceived);
        left(state, left_alone(ECONNRESET)).says(Verdict::ResetReceived);
        for hooks in [SEEN, BLIND] {
            let case = left(state, left_alone(ECONNRESET)).hooks(hooks);
            case.reset_after().says(Verdict::DataAfterClose);
        }
        left(state, left_alone(ECONNRESET))
            .hooks(BLIND)
            .says(Verdict::Unknown);
        // Still receiving: data would have been taken.
        let half = CloseFields {
            receive_shut: false,
            ..shut(ECONNRESET)
        };
        left(state, half).hooks(BLIND).says(Verdict::ResetReceived);
        left(state, half).reset_after().says(Verdict::ResetReceived);
    }
}

#[test]
fn a_timeout_is_told_by_what_was_outstanding() {
    // The soft error of an ICMP message stands in for ETIMEDOUT, a port unreachable's too.
    let soft = [ETIMEDOUT, ECONNREFUSED].into_iter().chain(ICMP);
    for code in soft {
        for state in [Established, CloseWait, FinWait1, FinWait2, Closing, LastAck] {
            let fields = |unacknowledged, send_window, probes_out| CloseFields {
                unacknowledged,
                send_window,
                probes_out,
                ..error(code)
            };
            left(state, fields(1, 1, 0)).says(Verdict::RetransmissionTimeout);
            left(state, fields(1, 1, 3)).says(Verdict::RetransmissionTimeout);
            left(state, fields(1, 0, 3)).says(Verdict::ZeroWindowTimeout);
            // Our FIN is acknowledged, so that these two are over.
            if !matches!(state, Closing | LastAck) {
                left(state, fields(0, 1, 3)).says(Verdict::KeepaliveTimeout);
                left(state, fields(0, 1, 0)).says(Verdict::Unknown);
            }
        }
    }
}

#[test]
fn an_error_without_a_rule_is_unknown() {
    for state in [Established, CloseWait, FinWait1, FinWait2] {
        for code in OTHER_ERRORS {
            left(state, error(code)).says(Verdict::Unknown);
        }
    }
}

#[test]
fn an_abort_is_told_by_what_the_application_left() {
    let unread = CloseFields {
        unread: 1,
        ..shut(0)
    };
    let never_given_out = CloseFields {
        has_socket: false,
        ..closing()
    };
    for state in [Established, CloseWait, FinWait1, FinWait2] {
        left(state, unread).says(Verdict::UnreadData);
        left(state, shut(0)).says(Verdict::ResetByUs);
        left(state, error(0)).says(Verdict::ResetByUs);
        let disconnected = CloseFields {
            unread: 1,
            ..closing()
        };
        left(state, disconnected).says(Verdict::ResetByUs);
        left(state, never_given_out).says(Verdict::NotAccepted);
    }
    // sock_orphan() comes after all that: not the listener's doing.
    left(Established, left_alone(0)).says(Verdict::ResetByUs);
}

#[test]
fn a_release_is_graceful_when_both_fins_are_done() {
    for state in [LastAck, Closing] {
        left(state, left_alone(0))
            .hooks(BLIND)
            .says(Verdict::Graceful);
        let owing = CloseFields {
            unacknowledged: 1,
            ..left_alone(0)
        };
        left(state, owing).says(Verdict::Unknown);
    }
    for fields in [left_alone(0), shut(0), closing()] {
        let peer_fin = CloseFields {
            peer_fin: true,
            ..fields
        };
        left(FinWait2, peer_fin)
            .hooks(BLIND)
            .says(Verdict::Graceful);
    }
}

#[test]
fn an_orphan_without_the_peers_fin_is_told_by_the_resets() {
    let case = left(FinWait2, left_alone(0));
    case.clone().says(Verdict::Graceful);
    case.clone().hooks(BLIND).says(Verdict::Unknown);
    case.clone().reset_sent().says(Verdict::FinWaitTimeout);
    case.reset_after().says(Verdict::DataAfterClose);
    let impatient = CloseFields {
        linger2_negative: true,
        ..left_alone(0)
    };
    left(FinWait2, impatient)
        .reset_after()
        .says(Verdict::ResetByUs);
    left(FinWait1, left_alone(0)).says(Verdict::Unknown);
}

#[test]
fn an_end_in_a_state_of_no_connection_has_no_verdict() {
    for state in NO_CONNECTION {
        for code in [0, ECONNRESET, ETIMEDOUT, ECONNREFUSED] {
            left(state, error(code)).says(Verdict::Unknown);
        }
    }
}
