//! Records of textbook connections, to draw.

use tcptrace_common::TcpState;

use super::Scene;
use crate::{
    output::record::{ConnectionRecord, Identity, RecordedHandshake},
    tracker::{Role, Verdict},
};

/// Returns the record of a scene, without times.
pub(super) fn record(scene: Scene) -> ConnectionRecord {
    use TcpState::{Close, Closing, Established, FinWait2, LastAck, SynRecv, SynSent};
    let (role, last_state, verdict) = match scene {
        Scene::ActiveOpen => (Role::Active, Established, Verdict::Graceful),
        Scene::PassiveOpen => (Role::Passive, Established, Verdict::Graceful),
        Scene::LocalClose => (Role::Active, FinWait2, Verdict::Graceful),
        Scene::RemoteClose => (Role::Active, LastAck, Verdict::Graceful),
        Scene::SimultaneousClose => (Role::Active, Closing, Verdict::Graceful),
        Scene::Of(verdict) => match verdict {
            Verdict::Refused
            | Verdict::HandshakeTimeout
            | Verdict::Unreachable
            | Verdict::Cancelled
            | Verdict::NoLocalPort => (Role::Active, SynSent, verdict),
            Verdict::Forbidden => (Role::Active, Close, verdict),
            Verdict::HandshakeFailed => (Role::Passive, SynRecv, verdict),
            Verdict::DataAfterClose | Verdict::FinWaitTimeout => (Role::Active, FinWait2, verdict),
            Verdict::UnreadData | Verdict::NotAccepted => (Role::Passive, Established, verdict),
            Verdict::Graceful
            | Verdict::ResetReceived
            | Verdict::ResetByUs
            | Verdict::KeepaliveTimeout
            | Verdict::RetransmissionTimeout
            | Verdict::ZeroWindowTimeout
            | Verdict::Killed
            | Verdict::Checkpointed
            | Verdict::Unknown => (Role::Active, Established, verdict),
        },
    };
    let received = match scene {
        Scene::Of(Verdict::UnreadData) => 100,
        Scene::Of(_)
        | Scene::ActiveOpen
        | Scene::PassiveOpen
        | Scene::LocalClose
        | Scene::RemoteClose
        | Scene::SimultaneousClose => 0,
    };
    let finished = verdict == Verdict::Graceful && last_state != Established;
    let retried = scene == Scene::Of(Verdict::HandshakeTimeout);
    ConnectionRecord {
        identity: Identity {
            role: Some(role),
            ..Identity::default()
        },
        end_seen: true,
        handshake: RecordedHandshake {
            syn_retransmits: retried.then_some(6),
            ..RecordedHandshake::default()
        },
        last_state,
        verdict,
        established: !matches!(last_state, Close | SynSent | SynRecv),
        peer_fin: Some(finished),
        time_wait: Some(finished && last_state != LastAck),
        bytes_sent: Some(0),
        bytes_received: Some(received),
        ..ConnectionRecord::default()
    }
}
