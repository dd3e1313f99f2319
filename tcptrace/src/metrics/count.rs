//! Counts the tracker's updates.

use tcptrace_common::TcpState;

use super::{
    cells::{
        Cells, RECEIVED, ROLES, SENT, WideCell, closer_index, role_index, scope_index, side_index,
        source_index, verdict_index,
    },
    labels::Slot,
    scrape::{Scrape, ScrapeContext},
    syns::Syns,
};
use crate::host::cgroup::Cgroup;
use crate::metrics::{
    cgroup_labels::{CgroupLabel, Cgroups},
    port_labels::PortLabels,
};
use crate::tracker::{ClosedBy, Connection, Ended, Moment, Role, Update};

#[derive(Clone, Debug)]
pub struct MetricsConfig {
    /// The most ports with a label of their own, up to `MAX_PORTS`.
    pub max_ports: usize,
    /// If not empty, these ports (the first `MAX_PORTS`) have labels from the start and no other
    /// ever gets one.
    pub fixed_ports: Vec<u16>,
    /// The first port of the ephemeral range (`net.ipv4.ip_local_port_range`).
    pub ephemeral_from: u16,
    /// The most cgroups with a label of their own, up to `MAX_CGROUPS`; 0 disables them.
    pub max_cgroups: usize,
    /// Which part of a cgroup's path is the label.
    pub cgroup_label: CgroupLabel,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            max_ports: 16,
            fixed_ports: Vec::new(),
            ephemeral_from: 32_768,
            max_cgroups: 0,
            cgroup_label: CgroupLabel::default(),
        }
    }
}

/// The counts of connections.
pub struct Metrics {
    ports: PortLabels,
    cells: Cells,
    syns: Syns,
    cgroups: Cgroups,
}

impl Metrics {
    /// No counts. Allocates all memory that updates need.
    pub fn new(config: &MetricsConfig) -> Self {
        let ports = PortLabels::new(config.max_ports, &config.fixed_ports, config.ephemeral_from);
        let mut cells = Cells::new(ports.limit());
        for _ in ports.labels() {
            cells.add_slot();
        }
        Self {
            ports,
            cells,
            syns: Syns::default(),
            cgroups: Cgroups::new(config.max_cgroups, config.cgroup_label.clone()),
        }
    }

    /// Copies the counts, with `context`. The attempts in it stay with the label they are shown
    /// under.
    pub fn scrape(&mut self, context: ScrapeContext) -> Scrape {
        self.ports.settle_attempts();
        self.cgroups.settle_attempts();
        let syns = context.kernel.syns.as_ref();
        Scrape {
            syns: syns.map(|counts| self.syns.show(counts, &self.ports)),
            context,
            cells: self.cells.clone(),
            labels: self.ports.labels().to_vec(),
            ports_folded: self.ports.folded(),
            cgroups: self.cgroups.cells().to_vec(),
            cgroups_folded: self.cgroups.folded(),
            web_connections: None,
        }
    }

    /// Notes a port that was listened on when tcptrace started.
    pub fn add_listening_port(&mut self, port: u16) {
        self.ports.add_listening(port);
    }

    /// Notes a cgroup that existed when tcptrace started.
    pub fn add_existing_cgroup(&mut self, cgroup: &Cgroup) {
        self.cgroups.add_existing(cgroup);
    }

    fn attempt(&mut self, connection: &Connection) {
        let port = connection.service_port();
        let slot = self.ports.slot(port);
        self.cells.role_mut(slot, connection.role).attempts += 1;
        self.cgroups.attempt(connection);
        if slot == Slot::OTHER
            && let Some(port) = port
        {
            self.ports.remember_attempt(connection.role, port);
        }
    }

    fn established(&mut self, connection: &Connection) {
        let port = connection.service_port();
        let time_ns = connection.handshake.established_at.map_or(0, Moment::get);
        if let Some(port) = port {
            self.label(port, time_ns);
        }
        let slot = self.end_attempt(connection);
        let role = connection.role;
        self.cgroups.established(connection);
        let cells = self.cells.role_mut(slot, role);
        cells.established += 1;
        cells.syn_retransmits += u64::from(connection.handshake.syn_retransmits.unwrap_or(0));

        let source = connection.handshake.took.map(|(_, source)| source);
        self.cells.measured[role_index(role)][source_index(source)] += 1;
        if let Some((ns, _)) = connection.handshake.took {
            let scope = scope_index(connection);
            self.cells
                .at_wide(slot, role, WideCell::Handshake(scope))
                .handshake[scope]
                .observe(ns);
        }
    }

    /// Gives a port its label, if it has none and one is left.
    fn label(&mut self, port: u16, time_ns: u64) {
        let cells = &mut self.cells;
        let mut moved = [0; ROLES];
        let given = self.ports.on_established(port, time_ns, |role, attempts| {
            moved[role_index(role)] += attempts;
        });
        let Some(slot) = given else {
            return;
        };
        cells.add_slot();
        for (role, attempts) in Role::ALL.iter().copied().zip(moved) {
            if attempts > 0 {
                cells.role_mut(Slot::OTHER, role).attempts -= attempts;
                cells.role_mut(slot, role).attempts += attempts;
            }
        }
    }

    fn accepted(&mut self, connection: &Connection) {
        let Some(waited) = connection.accept_wait_ns() else {
            return;
        };
        let slot = self.slot_of(connection);
        self.cells
            .at_wide(slot, connection.role, WideCell::AcceptWait)
            .accept_wait
            .observe(waited);
    }

    /// Returns where an established connection is counted.
    fn slot_of(&self, connection: &Connection) -> Slot {
        let established_ns = connection.handshake.established_at.map(Moment::get);
        self.ports
            .slot_since(connection.service_port(), established_ns)
    }

    fn time_wait(&mut self, role: Role, port: Option<u16>) {
        let slot = self.ports.slot(port);
        self.cells.role_mut(slot, role).time_wait += 1;
    }

    fn failed(&mut self, ended: &Ended) {
        let connection = &ended.connection;
        let slot = self.end_attempt(connection);
        let verdict = verdict_index(ended.verdict);
        self.cells
            .at_wide(slot, connection.role, WideCell::Failure(verdict))
            .failures[verdict] += 1;
        if let Some(cell) = self.cgroups.end_attempt(connection) {
            cell.failures[verdict] += 1;
        }
        let retransmits = connection.handshake.syn_retransmits.unwrap_or(0);
        self.cells.role_mut(slot, connection.role).syn_retransmits += u64::from(retransmits);
        if let Some(failure) = ended.connect
            && connection.state == TcpState::Close
        {
            self.cells.connect_failed(failure.error);
        }
    }

    /// An attempt failed: if its port has no label, it stays `other`. Returns where it is counted.
    fn end_attempt(&mut self, connection: &Connection) -> Slot {
        let port = connection.service_port();
        let slot = self.ports.slot(port);
        if slot == Slot::OTHER
            && let Some(port) = port
        {
            self.ports.forget_attempt(connection.role, port);
        }
        slot
    }

    fn closed(&mut self, ended: &Ended) {
        let connection = &ended.connection;
        let role = connection.role;
        let slot = self.slot_of(connection);
        let verdict = verdict_index(ended.verdict);
        let closer = closer_index(ended.closed_by());
        self.cells
            .at_wide(slot, role, WideCell::Closed(verdict, closer))
            .closed[verdict][closer] += 1;
        if let Some(cell) = self.cgroups.of_established(connection) {
            cell.closed[verdict] += 1;
        }
        if let Some(opened) = connection.handshake.opened
            && ended.end_seen
        {
            let lived = ended.closed_at.get().saturating_sub(opened.get());
            self.cells.duration[role_index(role)].observe(lived);
        }
        if ended.time_wait.is_some_and(|time_wait| time_wait.entered) {
            self.time_wait(role, connection.service_port());
        }
        if let (Some(side), Some(ns)) = (
            side_index(connection.closing.first_fin_by),
            ended.half_closed_ns(),
        ) {
            self.cells.half_closed[side].observe(ns);
        }
        let Some(fields) = ended.fields else {
            return;
        };
        if fields.srtt_us != 0 {
            self.cells.rtt[scope_index(connection)].observe(u64::from(fields.srtt_us) * 1000);
        }
        let carried = [ended.bytes_sent().unwrap_or(0), fields.bytes_received];
        if let Some(cell) = self.cgroups.of_established(connection) {
            cell.bytes[SENT] += carried[SENT];
            cell.bytes[RECEIVED] += carried[RECEIVED];
            cell.retransmits += u64::from(fields.retransmits);
        }
        let cells = self.cells.role_mut(slot, role);
        cells.bytes[SENT] += carried[SENT];
        cells.bytes[RECEIVED] += carried[RECEIVED];
        cells.segments[SENT] += u64::from(fields.segments_sent);
        cells.segments[RECEIVED] += u64::from(fields.segments_received);
        cells.retransmits += u64::from(fields.retransmits);
    }
}

impl Metrics {
    /// Counts an update.
    pub fn update(&mut self, update: &Update) {
        match update {
            Update::Entered(connection) if connection.established => self.cells.seeded += 1,
            Update::Entered(connection) => self.attempt(connection),
            Update::Established(connection) => self.established(connection),
            Update::Ended(ended) if ended.connection.established => self.closed(ended),
            Update::Ended(ended) => self.failed(ended),
            // The tracker counts evictions itself.
            Update::Evicted(connection) if !connection.established => {
                self.end_attempt(connection);
                self.cgroups.end_attempt(connection);
            }
            Update::Accepted(connection) => self.accepted(connection),
            Update::Released(release) => {
                if let (Some(side), Some(ns)) =
                    (side_index(Some(ClosedBy::Local)), release.half_closed_ns)
                {
                    self.cells.half_closed[side].observe(ns);
                }
                if release.time_wait.is_some_and(|time_wait| time_wait.entered) {
                    self.time_wait(release.role, release.service_port());
                }
            }
            &Update::Reset { sent, reason } => self.cells.reset(sent, reason),
            Update::SynackRetransmit(listener) => {
                let slot = self.ports.slot(Some(listener.local_port));
                self.cells.role_mut(slot, Role::Passive).synack_retransmits += 1;
            }
            // The kernel counts its transitions and lost events itself, exactly.
            Update::Evicted(_)
            | Update::Transition { .. }
            | Update::Stray { .. }
            | Update::Listener { .. }
            | Update::Lost { .. } => {}
        }
    }
}
