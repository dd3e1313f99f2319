//! What went over the wire in a connection's life, step by step, as far as its record tells. Steps
//! that the record does not tell are drawn as not seen, or not at all.

use jiff::Timestamp;
use tcptrace_common::TcpState;

use super::moments::Moments;
use super::{
    units::bytes,
    words::{self, plural},
};
use crate::{
    output::record::ConnectionRecord,
    tracker::{Completeness, HandshakeSource, Role, Verdict},
};

/// The direction of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From here to the peer.
    Out,
    /// From the peer to here.
    In,
    /// Both ways, in unknown order.
    Both,
    /// Nothing was sent: something happened here.
    Here,
}

/// What is known of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepOutcome {
    /// It was seen.
    Seen,
    /// It was never answered.
    Unanswered,
    /// It ended the connection early.
    Abrupt,
    /// It was not seen, or may not have happened.
    Unseen,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LadderStep {
    pub(super) way: Direction,
    pub(super) label: String,
    pub(super) fate: StepOutcome,
    /// Microseconds since the first step with a known time.
    pub(super) at_us: Option<u64>,
    /// The state entered here.
    pub(super) local: Option<&'static str>,
    /// The state of the peer, by what it sent.
    pub(super) remote: Option<&'static str>,
}

impl LadderStep {
    fn new(way: Direction, label: impl Into<String>) -> Self {
        Self {
            way,
            label: label.into(),
            fate: StepOutcome::Seen,
            at_us: None,
            local: None,
            remote: None,
        }
    }

    const fn at_time(mut self, at_us: Option<u64>) -> Self {
        self.at_us = at_us;
        self
    }

    const fn here(mut self, state: &'static str) -> Self {
        self.local = Some(state);
        self
    }

    const fn there(mut self, state: &'static str) -> Self {
        self.remote = Some(state);
        self
    }

    const fn fate(mut self, fate: StepOutcome) -> Self {
        self.fate = fate;
        self
    }
}

/// Returns the steps, and when the first one was.
pub(super) fn steps(body: &ConnectionRecord) -> (Vec<LadderStep>, Option<Timestamp>) {
    let moments = Moments::new(body);
    let mut steps = opening(body, &moments);
    if body.established {
        steps.extend(transfer(body, &moments));
        steps.extend(release(body, &moments));
    }
    steps.extend(end(body, &moments));
    (steps, moments.first)
}

/// Returns `SYN`, with how many times it was sent.
fn sent(what: &str, retransmits: Option<u32>) -> String {
    match retransmits {
        Some(again @ 1..) => format!("{what}, sent {}", plural(u64::from(again) + 1, "time")),
        Some(0) | None => what.to_owned(),
    }
}

fn opening(body: &ConnectionRecord, moments: &Moments) -> Vec<LadderStep> {
    let seen = match body.completeness {
        Completeness::Full | Completeness::Gap => true,
        Completeness::Seeded | Completeness::Partial => false,
    };
    let syn = if body.handshake.fast_open == Some(true) {
        "SYN with data"
    } else {
        "SYN"
    };
    let established = moments.established;
    let began = (moments.first.is_some() && body.handshake.handshake_us.is_some()).then_some(0);
    match body.role() {
        Role::Active if body.established && seen => vec![
            LadderStep::new(Direction::Out, sent(syn, body.handshake.syn_retransmits))
                .at_time(Some(0).filter(|_| body.opened_at.is_some()))
                .here("SYN_SENT"),
            LadderStep::new(Direction::In, "SYN-ACK")
                .at_time(established)
                .here("ESTABLISHED")
                .there("SYN_RECV"),
            LadderStep::new(Direction::Out, "ACK"),
        ],
        Role::Passive if body.established && seen => {
            let measured_from = |source| body.handshake.handshake_source == Some(source);
            vec![
                LadderStep::new(Direction::In, syn)
                    .at_time(began.filter(|_| measured_from(HandshakeSource::SockOps)))
                    .there("SYN_SENT"),
                LadderStep::new(
                    Direction::Out,
                    sent("SYN-ACK", body.handshake.syn_retransmits),
                )
                .at_time(began.filter(|_| measured_from(HandshakeSource::Synack)))
                .here("SYN_RECV"),
                LadderStep::new(
                    Direction::In,
                    if body.handshake.deferred == Some(true) {
                        "ACK, then data"
                    } else {
                        "ACK"
                    },
                )
                .at_time(established)
                .here("ESTABLISHED")
                .there("ESTABLISHED"),
            ]
        }
        Role::Simultaneous if seen => {
            let mut steps = vec![
                LadderStep::new(Direction::Out, sent(syn, body.handshake.syn_retransmits))
                    .at_time(Some(0).filter(|_| body.opened_at.is_some()))
                    .here("SYN_SENT"),
                LadderStep::new(Direction::In, "SYN")
                    .here("SYN_RECV")
                    .there("SYN_SENT"),
                LadderStep::new(Direction::Out, "SYN-ACK"),
            ];
            if body.established {
                steps.push(
                    LadderStep::new(Direction::In, "ACK")
                        .at_time(established)
                        .here("ESTABLISHED"),
                );
            }
            steps
        }
        _ if !seen => {
            vec![
                LadderStep::new(Direction::Here, "how it opened was not seen")
                    .fate(StepOutcome::Unseen),
            ]
        }
        Role::Active => attempt(body, syn),
        Role::Passive => vec![
            LadderStep::new(Direction::In, syn).there("SYN_SENT"),
            LadderStep::new(
                Direction::Out,
                sent("SYN-ACK", body.handshake.syn_retransmits),
            )
            .here("SYN_RECV"),
        ],
        Role::Simultaneous | Role::Unknown => {
            vec![
                LadderStep::new(Direction::Here, "who opened it is not known")
                    .fate(StepOutcome::Unseen),
            ]
        }
    }
}

/// A connect() that failed.
fn attempt(body: &ConnectionRecord, syn: &str) -> Vec<LadderStep> {
    let was_sent_again = body
        .handshake
        .syn_retransmits
        .is_some_and(|count| count > 0);
    let fate = if body.verdict == Verdict::NoLocalPort || body.last_state == TcpState::Close {
        return Vec::new();
    } else if body.verdict == Verdict::Refused {
        StepOutcome::Seen
    } else if was_sent_again
        || matches!(body.verdict, Verdict::HandshakeTimeout | Verdict::Cancelled)
    {
        StepOutcome::Unanswered
    } else {
        // The error may have come before the SYN left.
        StepOutcome::Unseen
    };
    let label = sent(syn, body.handshake.syn_retransmits);
    let label = if fate == StepOutcome::Unseen {
        format!("{label}, if it left")
    } else {
        label
    };
    vec![
        LadderStep::new(Direction::Out, label)
            .fate(fate)
            .at_time(Some(0).filter(|_| body.opened_at.is_some()))
            .here("SYN_SENT"),
    ]
}

fn transfer(body: &ConnectionRecord, moments: &Moments) -> Vec<LadderStep> {
    let mut steps = Vec::new();
    if let Some(wait @ 1..) = body.accept_wait_us {
        let at = moments.established.map(|established| established + wait);
        steps.push(LadderStep::new(Direction::Here, "accept()").at_time(at));
    }
    match (body.bytes_sent, body.bytes_received) {
        (Some(0), Some(0)) => {}
        (Some(sent), Some(received)) => {
            let way = match (sent, received) {
                (_, 0) => Direction::Out,
                (0, _) => Direction::In,
                (_, _) => Direction::Both,
            };
            let mut label = match way {
                Direction::Out => format!("data, {}", bytes(sent)),
                Direction::In => format!("data, {}", bytes(received)),
                Direction::Both | Direction::Here => {
                    format!("{} out, {} in", bytes(sent), bytes(received))
                }
            };
            if let Some(count @ 1..) = body.retransmits {
                label = format!("{label}, {count} sent again");
            }
            steps.push(LadderStep::new(way, label));
        }
        (_, _) => {
            steps.push(
                LadderStep::new(Direction::Here, "what was sent is not known")
                    .fate(StepOutcome::Unseen),
            );
        }
    }
    steps
}

/// Returns the four-way release, or as much of it as took place.
fn release(body: &ConnectionRecord, moments: &Moments) -> Vec<LadderStep> {
    let Moments {
        first_fin,
        second_fin,
        fin_acked,
        closed,
        ..
    } = *moments;
    let graceful = body.verdict == Verdict::Graceful;
    let fin = |at, state| {
        let answered = if body.verdict == Verdict::RetransmissionTimeout {
            StepOutcome::Unanswered
        } else {
            StepOutcome::Seen
        };
        LadderStep::new(Direction::Out, "FIN")
            .at_time(at)
            .here(state)
            .fate(answered)
    };
    let over = match body.time_wait {
        Some(true) => "TIME_WAIT",
        Some(false) => "CLOSED",
        None => "TIME_WAIT?",
    };
    let peers_fin = || {
        vec![
            LadderStep::new(Direction::In, "FIN")
                .at_time(first_fin)
                .here("CLOSE_WAIT")
                .there("FIN_WAIT1"),
            LadderStep::new(Direction::Out, "ACK"),
        ]
    };
    match body.last_state {
        TcpState::FinWait1 => vec![fin(first_fin, "FIN_WAIT1")],
        TcpState::FinWait2 => {
            let mut steps = vec![
                LadderStep::new(Direction::Out, "FIN")
                    .at_time(first_fin)
                    .here("FIN_WAIT1"),
                LadderStep::new(Direction::In, "ACK")
                    .at_time(fin_acked)
                    .here("FIN_WAIT2")
                    .there("CLOSE_WAIT"),
            ];
            match body.peer_fin {
                Some(true) => {
                    steps.push(
                        LadderStep::new(Direction::In, "FIN")
                            .at_time(second_fin)
                            .there("LAST_ACK"),
                    );
                    steps.push(LadderStep::new(Direction::Out, "ACK").here(over));
                }
                Some(false) => {}
                None => {
                    steps.push(
                        LadderStep::new(Direction::In, "FIN, not seen yet")
                            .fate(StepOutcome::Unseen),
                    );
                }
            }
            steps
        }
        TcpState::Closing => {
            let mut steps = vec![
                fin(first_fin, "FIN_WAIT1"),
                LadderStep::new(Direction::In, "FIN")
                    .at_time(second_fin)
                    .here("CLOSING")
                    .there("FIN_WAIT1"),
                LadderStep::new(Direction::Out, "ACK"),
            ];
            if graceful {
                steps.push(
                    LadderStep::new(Direction::In, "ACK")
                        .at_time(closed)
                        .here(over),
                );
            }
            steps
        }
        TcpState::CloseWait => peers_fin(),
        TcpState::LastAck => {
            let mut steps = peers_fin();
            steps.push(fin(second_fin, "LAST_ACK"));
            if graceful {
                steps.push(
                    LadderStep::new(Direction::In, "ACK")
                        .at_time(closed)
                        .here("CLOSED")
                        .there("TIME_WAIT"),
                );
            }
            steps
        }
        TcpState::Established
        | TcpState::SynSent
        | TcpState::SynRecv
        | TcpState::TimeWait
        | TcpState::Close
        | TcpState::Listen
        | TcpState::NewSynRecv => Vec::new(),
    }
}

/// Returns what else ended the connection.
fn end(body: &ConnectionRecord, moments: &Moments) -> Vec<LadderStep> {
    let reset = || match &body.reset_reason {
        Some(reason) => format!("RST ({reason})"),
        None => "RST".to_owned(),
    };
    let errno = || {
        let verdict = words::verdict(body.verdict);
        match &body.errno {
            Some(errno) => format!("{verdict} ({errno})"),
            None => verdict,
        }
    };
    let abrupt = |way, label: String| LadderStep::new(way, label).fate(StepOutcome::Abrupt);
    let mut steps = match body.verdict {
        Verdict::Graceful => return Vec::new(),
        Verdict::Refused | Verdict::ResetReceived => vec![abrupt(Direction::In, "RST".to_owned())],
        Verdict::ResetByUs | Verdict::UnreadData | Verdict::NotAccepted => {
            vec![abrupt(Direction::Out, reset())]
        }
        Verdict::DataAfterClose => vec![
            LadderStep::new(Direction::In, "data, after our close"),
            abrupt(Direction::Out, reset()),
        ],
        Verdict::KeepaliveTimeout => vec![
            LadderStep::new(Direction::Out, "keepalive probes").fate(StepOutcome::Unanswered),
            abrupt(Direction::Here, errno()),
        ],
        Verdict::RetransmissionTimeout => {
            let mut steps = Vec::new();
            if body.last_state == TcpState::Established || body.last_state == TcpState::CloseWait {
                steps.push(
                    LadderStep::new(Direction::Out, "data, sent again")
                        .fate(StepOutcome::Unanswered),
                );
            }
            steps.push(abrupt(Direction::Here, errno()));
            steps
        }
        Verdict::Unknown => {
            vec![
                LadderStep::new(Direction::Here, "how it ended was not seen")
                    .fate(StepOutcome::Unseen),
            ]
        }
        Verdict::HandshakeTimeout
        | Verdict::Unreachable
        | Verdict::Cancelled
        | Verdict::NoLocalPort
        | Verdict::Forbidden
        | Verdict::HandshakeFailed
        | Verdict::ZeroWindowTimeout
        | Verdict::FinWaitTimeout
        | Verdict::Killed
        | Verdict::Checkpointed => vec![abrupt(Direction::Here, errno())],
    };
    // The kernel also sends a RST to a peer that it gives up.
    if body.reset_reason.is_some() && steps.last().is_some_and(|last| last.way == Direction::Here) {
        steps.push(abrupt(Direction::Out, reset()));
    }
    if let Some(last) = steps.last_mut() {
        last.at_us = moments.closed;
        last.local = Some("CLOSED");
    }
    steps
}
