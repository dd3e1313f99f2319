//! What is counted: integers in arrays, so that an update is an index and an addition.
//!
//! Nothing here knows a metric's name; see [`families`](super::families).

use super::{
    histogram::{DURATION_BOUNDS, DurationHistogram, LATENCY_BOUNDS, LatencyHistogram},
    labels::Slot,
};
use crate::tracker::{ClosedBy, Connection, HandshakeSource, Role, Verdict};

/// How many series of the wide families (handshake times, failures and ends by verdict) labelled
/// ports may have, per possible label. They share one pool: a service uses its verdicts and scopes
/// unevenly, and all of them times all labels would be far over 2,000.
const WIDE_SERIES_PER_LABEL: usize = 70;
/// How many series beside those: a single service needs more than its share.
const WIDE_SERIES: usize = 30;

pub(super) const ROLES: usize = Role::ALL.len();
pub(super) const VERDICTS: usize = Verdict::ALL.len();
/// The values of the label `closed_by`, as in the record; `None` is "none": not known.
pub(super) const CLOSERS: [Option<ClosedBy>; 4] = [
    Some(ClosedBy::Local),
    Some(ClosedBy::Remote),
    Some(ClosedBy::Simultaneous),
    None,
];
/// The values of the label `scope`.
pub(super) const SCOPES: [&str; 2] = ["network", "loopback"];
/// The label `side` of a half-closed phase: whose direction was closed.
pub(super) const SIDES: [ClosedBy; 2] = [ClosedBy::Local, ClosedBy::Remote];
/// The values of the label `direction`.
pub(super) const DIRECTIONS: [&str; 2] = ["sent", "received"];
/// The values of the label `source` of a handshake's time; `None` is "none": it has no time.
pub(super) const HANDSHAKE_SOURCES: [Option<HandshakeSource>; 5] = [
    None,
    Some(HandshakeSource::SynSent),
    Some(HandshakeSource::Synack),
    Some(HandshakeSource::SockOps),
    Some(HandshakeSource::Srtt),
];
/// How many reset reasons are counted apart: more than any kernel's `enum sk_rst_reason` has.
pub(super) const RESET_REASONS: usize = 64;
/// The errnos that an application can see (`include/linux/errno.h`).
const ERRNOS: usize = 512;

/// The index of `sent` in [`DIRECTIONS`].
pub(super) const SENT: usize = 0;
/// The index of `received` in [`DIRECTIONS`].
pub(super) const RECEIVED: usize = 1;

/// Returns a role's index, the order of `Role::ALL`.
pub(super) const fn role_index(role: Role) -> usize {
    role as usize
}

/// Returns a verdict's index, the order of `Verdict::ALL`.
pub(super) const fn verdict_index(verdict: Verdict) -> usize {
    verdict as usize
}

/// Returns the index in [`CLOSERS`].
pub(super) fn closer_index(closed_by: Option<ClosedBy>) -> usize {
    closed_by.map_or(CLOSERS.len() - 1, |closer| closer as usize)
}

/// Returns the index in [`SIDES`]. Crossed FINs leave no side open alone.
pub(super) const fn side_index(closed_by: Option<ClosedBy>) -> Option<usize> {
    match closed_by {
        Some(ClosedBy::Local) => Some(0),
        Some(ClosedBy::Remote) => Some(1),
        Some(ClosedBy::Simultaneous) | None => None,
    }
}

/// Returns the index in [`SCOPES`].
pub(super) fn scope_index(connection: &Connection) -> usize {
    usize::from(connection.is_loopback())
}

/// Returns the index in [`HANDSHAKE_SOURCES`].
pub(super) fn source_index(source: Option<HandshakeSource>) -> usize {
    source.map_or(0, |source| source as usize + 1)
}

/// What is counted for one role at one port label.
#[derive(Clone, Debug)]
pub(super) struct RoleCells {
    /// Something was counted: the narrow counters are shown, zeros included.
    pub(super) seen: bool,
    pub(super) attempts: u64,
    pub(super) established: u64,
    pub(super) failures: [u64; VERDICTS],
    /// By verdict and [`CLOSERS`].
    pub(super) closed: [[u64; CLOSERS.len()]; VERDICTS],
    /// By [`SCOPES`].
    pub(super) handshake: [LatencyHistogram; SCOPES.len()],
    /// From ESTABLISHED to accept().
    pub(super) accept_wait: LatencyHistogram,
    /// SYNs of an active open, SYN-ACKs of a completed passive one.
    pub(super) syn_retransmits: u64,
    /// SYN-ACK retransmits of a listener.
    pub(super) synack_retransmits: u64,
    pub(super) time_wait: u64,
    /// Payload, by [`DIRECTIONS`].
    pub(super) bytes: [u64; DIRECTIONS.len()],
    /// By [`DIRECTIONS`].
    pub(super) segments: [u64; DIRECTIONS.len()],
    pub(super) retransmits: u64,
}

impl RoleCells {
    fn new() -> Self {
        Self {
            seen: false,
            attempts: 0,
            established: 0,
            failures: [0; VERDICTS],
            closed: [[0; CLOSERS.len()]; VERDICTS],
            handshake: latency_histograms(),
            accept_wait: LatencyHistogram::new(&LATENCY_BOUNDS),
            syn_retransmits: 0,
            synack_retransmits: 0,
            time_wait: 0,
            bytes: [0; DIRECTIONS.len()],
            segments: [0; DIRECTIONS.len()],
            retransmits: 0,
        }
    }
}

/// What is counted at one port label, by role.
pub(super) type PortCells = [RoleCells; ROLES];

fn latency_histograms() -> [LatencyHistogram; SCOPES.len()] {
    std::array::from_fn(|_| LatencyHistogram::new(&LATENCY_BOUNDS))
}

/// A cell of a wide family, which labelled ports have only while the pool lasts.
#[derive(Clone, Copy, Debug)]
pub(super) enum WideCell {
    /// The index of a failure's verdict.
    Failure(usize),
    /// The indexes of an end's verdict and closer.
    Closed(usize, usize),
    /// The index of a handshake's scope.
    Handshake(usize),
    /// Accept waits.
    AcceptWait,
}

impl WideCell {
    const fn series(self) -> usize {
        match self {
            Self::Failure(_) | Self::Closed(..) => 1,
            Self::Handshake(_) | Self::AcceptWait => LatencyHistogram::series(),
        }
    }

    const fn is_used(self, cells: &RoleCells) -> bool {
        match self {
            Self::Failure(verdict) => cells.failures[verdict] != 0,
            Self::Closed(verdict, closer) => cells.closed[verdict][closer] != 0,
            Self::Handshake(scope) => cells.handshake[scope].count() != 0,
            Self::AcceptWait => cells.accept_wait.count() != 0,
        }
    }
}

/// All counts.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    /// By [`Slot`].
    ports: Vec<PortCells>,
    /// Wide series that labelled ports may still have.
    pool: usize,
    /// Counted as `other` because the pool was empty.
    pub(super) pool_exhausted: u64,
    /// Connections first seen after their handshake.
    pub(super) seeded: u64,
    /// connect() calls that failed before SYN_SENT, by errno; the last one is for higher numbers.
    pub(super) connect_failures: [u64; ERRNOS],
    /// Established connections, by role and [`HANDSHAKE_SOURCES`].
    pub(super) measured: [[u64; HANDSHAKE_SOURCES.len()]; ROLES],
    /// How long connections lived, by role.
    pub(super) duration: [DurationHistogram; ROLES],
    /// By [`SIDES`].
    pub(super) half_closed: [DurationHistogram; SIDES.len()],
    /// By [`SCOPES`].
    pub(super) rtt: [LatencyHistogram; SCOPES.len()],
    pub(super) resets_received: u64,
    /// RSTs sent, by the kernel's reason; the last one is for higher numbers.
    pub(super) resets_sent: [u64; RESET_REASONS],
    /// RSTs sent without a reason from the kernel.
    pub(super) resets_unexplained: u64,
}

impl Cells {
    /// No counts, with room for `labels` port labels, so that no update allocates.
    pub(super) fn new(labels: usize) -> Self {
        let mut cells = Self {
            ports: Vec::with_capacity(Slot::UNLABELLED + labels),
            pool: WIDE_SERIES + labels * WIDE_SERIES_PER_LABEL,
            pool_exhausted: 0,
            seeded: 0,
            connect_failures: [0; ERRNOS],
            measured: [[0; HANDSHAKE_SOURCES.len()]; ROLES],
            duration: std::array::from_fn(|_| DurationHistogram::new(&DURATION_BOUNDS)),
            half_closed: std::array::from_fn(|_| DurationHistogram::new(&DURATION_BOUNDS)),
            rtt: latency_histograms(),
            resets_received: 0,
            resets_sent: [0; RESET_REASONS],
            resets_unexplained: 0,
        };
        for _ in 0..Slot::UNLABELLED {
            cells.add_slot();
        }
        // So that both roles are always exported.
        for role in [Role::Active, Role::Passive] {
            cells.role_mut(Slot::OTHER, role);
        }
        cells
    }

    /// Adds the cells of a new label.
    pub(super) fn add_slot(&mut self) {
        self.ports.push(std::array::from_fn(|_| RoleCells::new()));
    }

    pub(super) fn ports(&self) -> &[PortCells] {
        &self.ports
    }

    /// Counts a connect() that failed before SYN_SENT.
    pub(super) fn connect_failed(&mut self, errno: u16) {
        self.connect_failures[usize::from(errno).min(ERRNOS - 1)] += 1;
    }

    /// Counts a RST.
    pub(super) fn reset(&mut self, sent: bool, reason: Option<u32>) {
        match (sent, reason) {
            (false, _) => self.resets_received += 1,
            (true, None) => self.resets_unexplained += 1,
            (true, Some(reason)) => {
                let index = usize::try_from(reason).unwrap_or(usize::MAX);
                self.resets_sent[index.min(RESET_REASONS - 1)] += 1;
            }
        }
    }

    /// Returns the cells of a role at a slot.
    pub(super) fn role_mut(&mut self, slot: Slot, role: Role) -> &mut RoleCells {
        let cells = &mut self.ports[slot.index()][role_index(role)];
        cells.seen = true;
        cells
    }

    /// Returns the cells for a wide family: the label's own, or those of `other` when the pool is
    /// empty.
    pub(super) fn at_wide(&mut self, slot: Slot, role: Role, cell: WideCell) -> &mut RoleCells {
        let first = slot.is_labelled() && !cell.is_used(self.role_mut(slot, role));
        if !first {
            return self.role_mut(slot, role);
        }
        match self.pool.checked_sub(cell.series()) {
            Some(left) => {
                self.pool = left;
                self.role_mut(slot, role)
            }
            None => {
                self.pool_exhausted += 1;
                self.role_mut(Slot::OTHER, role)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_names() {
        for (at, role) in Role::ALL.iter().copied().enumerate() {
            assert_eq!(role_index(role), at);
        }
        for (at, verdict) in Verdict::ALL.iter().copied().enumerate() {
            assert_eq!(verdict_index(verdict), at);
        }
        for closed_by in [ClosedBy::Local, ClosedBy::Remote, ClosedBy::Simultaneous] {
            assert_eq!(CLOSERS[closer_index(Some(closed_by))], Some(closed_by));
        }
        assert_eq!(CLOSERS[closer_index(None)], None);
        for &source in HandshakeSource::ALL {
            assert_eq!(HANDSHAKE_SOURCES[source_index(Some(source))], Some(source));
        }
        assert_eq!(HANDSHAKE_SOURCES[source_index(None)], None);
    }
}
