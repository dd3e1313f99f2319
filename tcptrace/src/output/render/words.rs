//! The words for what a record tells.

use super::{
    look::Look,
    units::{bytes, duration},
};
use crate::{
    output::record::{
        ConnectionRecord, HandshakeRecord, Identity, LossRecord, LostAt, RecordBody, ReleaseRecord,
        RowLoss, SummaryRecord,
    },
    tracker::{ClosedBy, Completeness, ReleaseOutcome, Role, Verdict},
};

/// Returns which side opened the connection.
pub(super) fn role(identity: &Identity) -> &'static str {
    identity.role.map_or("listen", Role::name)
}

/// Returns the same as a sign: where the first SYN went.
pub(super) const fn role_sign(identity: &Identity, ascii: bool) -> &'static str {
    match (identity.role, ascii) {
        (Some(Role::Active), false) => "→",
        (Some(Role::Passive), false) => "←",
        (Some(Role::Simultaneous), false) => "↔",
        (Some(Role::Active), true) => ">",
        (Some(Role::Passive), true) => "<",
        (Some(Role::Simultaneous), true) => "=",
        (Some(Role::Unknown), _) => "?",
        (None, _) => "L",
    }
}

/// Returns what happened.
pub(super) fn what(body: &RecordBody, ascii: bool) -> String {
    match body {
        RecordBody::Transition(body) => {
            let arrow = if ascii { "->" } else { "→" };
            format!("{}{arrow}{}", body.from.name(), body.to.name())
        }
        RecordBody::Handshake(_) => "open".to_owned(),
        RecordBody::Connection(body) if body.established => "close".to_owned(),
        RecordBody::Connection(_) => "fail".to_owned(),
        RecordBody::Release(_) => "late".to_owned(),
        RecordBody::Loss(_) | RecordBody::Summary(_) => String::new(),
    }
}

/// Returns how long it took, microseconds.
pub(super) const fn took(body: &RecordBody) -> Option<u64> {
    match body {
        RecordBody::Transition(body) => body.in_state_us,
        RecordBody::Handshake(body) => body.handshake.handshake_us,
        RecordBody::Connection(body) => body.duration_us,
        RecordBody::Release(body) => body.fin_wait2_us,
        RecordBody::Loss(_) | RecordBody::Summary(_) => None,
    }
}

/// Returns what happened and the notes in one, unless the notes tell it already.
pub(super) fn joined(body: &RecordBody, notes: &str, ascii: bool) -> String {
    match body {
        RecordBody::Transition(_) | RecordBody::Handshake(_) | RecordBody::Release(_) => {
            let between = if notes.is_empty() { "" } else { ", " };
            format!("{}{between}{notes}", what(body, ascii))
        }
        RecordBody::Connection(_) | RecordBody::Loss(_) | RecordBody::Summary(_) => {
            notes.to_owned()
        }
    }
}

/// Returns what is worth adding.
pub(super) fn notes(body: &RecordBody, look: &Look) -> Vec<String> {
    let mut notes = match body {
        RecordBody::Transition(_) => Vec::new(),
        RecordBody::Handshake(body) => handshake(body),
        RecordBody::Connection(body) => connection(body, look),
        RecordBody::Release(body) => vec![release(body).to_owned()],
        RecordBody::Loss(_) | RecordBody::Summary(_) => Vec::new(),
    };
    if body.identity().is_some_and(|identity| identity.pid_gone) {
        notes.push("its listener's process is gone".to_owned());
    }
    notes
}

fn handshake(body: &HandshakeRecord) -> Vec<String> {
    let mut notes = Vec::new();
    if body.handshake.fast_open == Some(true) {
        notes.push("TCP Fast Open".to_owned());
    }
    if body.handshake.deferred == Some(true) {
        notes.push("deferred until data came".to_owned());
    }
    if let Some(count @ 1..) = body.handshake.syn_retransmits {
        let what = match body.identity.role {
            Some(Role::Passive) => "SYN-ACK",
            Some(Role::Active | Role::Simultaneous | Role::Unknown) | None => "SYN",
        };
        notes.push(plural(count.into(), &format!("{what} retransmit")));
    }
    notes
}

fn connection(body: &ConnectionRecord, look: &Look) -> Vec<String> {
    let mut notes = vec![verdict(body.verdict)];
    if let Some(errno) = &body.errno {
        notes.push(errno.clone());
    }
    if let Some(reason) = &body.reset_reason {
        notes.push(format!("RST sent: {reason}"));
    }
    if body.established {
        if let Some(side) = body.closed_by {
            notes.push(match side {
                ClosedBy::Simultaneous => "both sides closed at once".to_owned(),
                ClosedBy::Local | ClosedBy::Remote => format!("{} side closed first", side.name()),
            });
        }
        if let Some(wait) = body.accept_wait_us.filter(|&wait| wait >= look.slow_us) {
            notes.push(format!(
                "waited {} for accept()",
                duration(wait, look.ascii)
            ));
        }
        if body.time_wait == Some(true) {
            notes.push("TIME_WAIT here".to_owned());
        }
        if let (Some(sent), Some(received)) = (body.bytes_sent, body.bytes_received) {
            notes.push(format!(
                "sent {}, received {}",
                bytes(sent),
                bytes(received)
            ));
        }
        if let Some(count @ 1..) = body.retransmits {
            notes.push(plural(count.into(), "retransmit"));
        }
    }
    match body.completeness {
        Completeness::Full => {}
        Completeness::Seeded => notes.push("was there before".to_owned()),
        Completeness::Gap => notes.push("incomplete: events lost".to_owned()),
        Completeness::Partial => notes.push("incomplete: beginning not seen".to_owned()),
    }
    notes
}

fn release(body: &ReleaseRecord) -> &'static str {
    match body.outcome {
        ReleaseOutcome::TimeWait => "the peer's FIN came: TIME_WAIT",
        ReleaseOutcome::Refused => "the peer sent more and got a RST",
        ReleaseOutcome::Reset => "ended by a RST",
        ReleaseOutcome::Reused => "a new connection took its place in TIME_WAIT",
        ReleaseOutcome::NoFin => "the peer never closed its side",
        ReleaseOutcome::Gone => "gone, before it was seen how",
    }
}

/// Returns what was lost, the number first: a narrow terminal cuts the rest.
pub(super) fn loss(body: &LossRecord) -> String {
    let lost = body.lost;
    match body.place {
        LostAt::Rows(RowLoss::Output) => {
            format!("{lost} rows were not written: the reader is too slow")
        }
        LostAt::Rows(RowLoss::Filter) => {
            format!("{lost} rows were not written: too many waited for what the filter asks")
        }
        LostAt::Events(place) => {
            let place = place.name();
            format!("{lost} events were lost ({place}): connections may be missing or incomplete")
        }
    }
}

/// Returns the sums over an interval, with the numbers of all rows aligned.
pub(super) fn summary(body: &SummaryRecord, ascii: bool) -> String {
    let SummaryRecord {
        interval_us,
        opened,
        failed,
        closed,
        open,
        lost,
        verdicts,
        handshakes_measured: _,
        handshake_p50_us,
        handshake_p99_us,
        handshake_max_us,
    } = body;
    let mut text = format!(
        "{:>7}  {opened:>5} opened  {failed:>4} failed  {closed:>5} closed  {open:>5} open  {lost} lost",
        duration(*interval_us, ascii)
    );
    if let (Some(p50), Some(p99), Some(max)) =
        (handshake_p50_us, handshake_p99_us, handshake_max_us)
    {
        let [p50, p99, max] = [p50, p99, max].map(|&micros| duration(micros, ascii));
        text.push_str(&format!("  handshakes p50 {p50}, p99 {p99}, max {max}"));
    }
    let verdicts: Vec<_> = verdicts
        .iter()
        .map(|(verdict, count)| format!("{count} {}", verdict.replace('_', " ")))
        .collect();
    if !verdicts.is_empty() {
        text.push_str("  ends: ");
        text.push_str(&verdicts.join(", "));
    }
    text
}

pub(super) fn verdict(verdict: Verdict) -> String {
    verdict.name().replace('_', " ")
}

/// Returns `1 retransmit` or `2 retransmits`.
pub(super) fn plural(count: u64, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}
