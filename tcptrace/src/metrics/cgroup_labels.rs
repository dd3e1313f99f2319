//! What is counted by cgroup, if that is enabled: in families of their own, so that cgroups are not
//! multiplied by ports.
//!
//! The label is what [`CgroupLabel`] makes of the cgroup's path. A label is permanent (see
//! [`labels`](super::labels)) if a cgroup with it existed when tcptrace started, or if it comes
//! from a pattern, which names what is to last. Cgroups without a label count as `other`;
//! connections whose cgroup's path is not known count as `unknown`, and those whose path has no
//! such part as `none`.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use regex_lite::Regex;

use super::{
    cells::{DIRECTIONS, ROLES, VERDICTS, role_index},
    labels::{LabelUse, Labels, Slot},
};
use crate::{
    bounded::Bounded,
    host::cgroup::Cgroup,
    tracker::{Connection, Moment, Role},
};

/// The most cgroups with a label of their own.
pub const MAX_CGROUPS: usize = 1024;
/// How many labels without a slot, and cgroups' labels, are remembered.
const REMEMBERED: usize = 1 << 14;

/// Which part of a cgroup's path is the label.
#[derive(Clone, Debug, Default)]
pub enum CgroupLabel {
    #[default]
    Path,
    Unit,
    Pod,
    Container,
    /// The capture of the first expression that matches.
    Patterns(Vec<Regex>),
}

impl CgroupLabel {
    fn label_of<'a>(&self, cgroup: &'a Cgroup) -> Option<&'a str> {
        match self {
            Self::Path => Some(&cgroup.path),
            Self::Unit => cgroup.unit.as_deref(),
            Self::Pod => cgroup.pod_uid.as_deref(),
            Self::Container => cgroup.container_id.as_deref(),
            Self::Patterns(patterns) => {
                let captures = patterns.iter().find_map(|one| one.captures(&cgroup.path))?;
                let label = captures.get(1)?.as_str();
                (!label.is_empty()).then_some(label)
            }
        }
    }
}

/// What is counted for one role in a cgroup.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CgroupRole {
    /// Something was counted.
    pub(super) seen: bool,
    pub(super) attempts: u64,
    pub(super) established: u64,
    pub(super) failures: [u64; VERDICTS],
    pub(super) closed: [u64; VERDICTS],
    /// Payload, by [`DIRECTIONS`].
    pub(super) bytes: [u64; DIRECTIONS.len()],
    pub(super) retransmits: u64,
}

/// What is counted at one label.
#[derive(Clone, Debug)]
pub(super) struct CgroupCells {
    pub(super) label: Arc<str>,
    pub(super) roles: [CgroupRole; ROLES],
}

impl CgroupCells {
    fn new(label: Arc<str>) -> Self {
        let roles = [CgroupRole::default(); ROLES];
        Self { label, roles }
    }

    /// Returns the roles with counts.
    pub(super) fn seen(&self) -> impl Iterator<Item = (Role, &CgroupRole)> {
        let roles = Role::ALL
            .iter()
            .copied()
            .map(|role| (role, &self.roles[role_index(role)]));
        roles.filter(|(_, cell)| cell.seen)
    }

    fn role_mut(&mut self, role: Role) -> &mut CgroupRole {
        let cell = &mut self.roles[role_index(role)];
        cell.seen = true;
        cell
    }
}

/// The cgroups. Nothing is counted if none can have a label.
pub(super) struct Cgroups {
    kind: CgroupLabel,
    /// The label of cgroups whose path has no such part.
    none: Arc<str>,
    /// The label of each known cgroup, by its id.
    known: Bounded<u64, Arc<str>>,
    slots: HashMap<Arc<str>, Slot>,
    labels: Labels<Arc<str>>,
    /// The labels of cgroups that existed when tcptrace started.
    standing: HashSet<Arc<str>>,
    /// The use of labels that have no slot.
    uses: Bounded<Arc<str>, LabelUse>,
    /// By slot.
    cells: Vec<CgroupCells>,
}

impl Cgroups {
    pub(super) fn new(limit: usize, kind: CgroupLabel) -> Self {
        let limit = limit.min(MAX_CGROUPS);
        // Every cgroup has a path.
        let has_none = limit > 0 && !matches!(kind, CgroupLabel::Path);
        let none: Arc<str> = Arc::from("none");
        let mut cgroups = Self {
            kind,
            none: Arc::clone(&none),
            known: Bounded::new(REMEMBERED),
            slots: HashMap::new(),
            labels: Labels::new(limit + usize::from(has_none)),
            standing: HashSet::new(),
            uses: Bounded::new(REMEMBERED),
            cells: Vec::new(),
        };
        // A pattern may capture these words.
        for (label, slot) in [("other", Slot::OTHER), ("unknown", Slot::UNKNOWN)] {
            cgroups.slots.insert(label.into(), slot);
            cgroups.cells.push(CgroupCells::new(label.into()));
        }
        if has_none {
            cgroups.assign(&none, 0);
        }
        cgroups
    }

    fn are_counted(&self) -> bool {
        self.labels.limit() > 0
    }

    /// Returns the counts of each label; empty if nothing is counted.
    pub(super) fn cells(&self) -> &[CgroupCells] {
        &self.cells
    }

    /// Returns how many distinct labels had established connections and no slot, as far as they are
    /// remembered.
    pub(super) fn folded(&self) -> Option<u64> {
        self.are_counted().then(|| self.uses.len() as u64)
    }

    /// Notes a cgroup that existed when tcptrace started.
    pub(super) fn add_existing(&mut self, cgroup: &Cgroup) {
        if self.are_counted()
            && self.standing.len() < REMEMBERED
            && let Some(label) = self.kind.label_of(cgroup)
        {
            self.standing.insert(label.into());
        }
    }

    /// Counts an attempt.
    pub(super) fn attempt(&mut self, connection: &Connection) {
        let Some((slot, label)) = self.find(connection) else {
            return;
        };
        self.cells[slot.index()].role_mut(connection.role).attempts += 1;
        if let (Slot::OTHER, Some(label)) = (slot, &label) {
            self.labels.remember_attempt(connection.role, label);
        }
    }

    /// Counts an established attempt, which may earn its label.
    pub(super) fn established(&mut self, connection: &Connection) {
        let Some((mut slot, label)) = self.find(connection) else {
            return;
        };
        if let (Slot::OTHER, Some(label)) = (slot, label) {
            let time_ns = connection.handshake.established_at.map_or(0, Moment::get);
            if self.earns(&label, time_ns) {
                slot = self.assign(&label, time_ns).unwrap_or(slot);
            } else {
                self.labels.forget_attempt(connection.role, &label);
            }
        }
        self.cells[slot.index()]
            .role_mut(connection.role)
            .established += 1;
    }

    /// An attempt failed.
    pub(super) fn end_attempt(&mut self, connection: &Connection) -> Option<&mut CgroupRole> {
        let (slot, label) = self.find(connection)?;
        if let (Slot::OTHER, Some(label)) = (slot, label) {
            self.labels.forget_attempt(connection.role, &label);
        }
        Some(self.cells[slot.index()].role_mut(connection.role))
    }

    /// Returns where an established connection is counted.
    pub(super) fn of_established(&mut self, connection: &Connection) -> Option<&mut CgroupRole> {
        let (slot, _) = self.find(connection)?;
        let established_ns = connection.handshake.established_at.map(Moment::get);
        let slot = self.labels.since(slot, established_ns);
        Some(self.cells[slot.index()].role_mut(connection.role))
    }

    /// A scrape has shown the attempts that are `other` now: they can no longer move.
    pub(super) fn settle_attempts(&mut self) {
        self.labels.settle_attempts();
    }

    /// Returns where a connection is counted now, and its label.
    fn find(&mut self, connection: &Connection) -> Option<(Slot, Option<Arc<str>>)> {
        if !self.are_counted() {
            return None;
        }
        let Some(cgroup) = &connection.named.cgroup else {
            return Some((Slot::UNKNOWN, None));
        };
        let known = connection.owner.cgroup.and_then(|id| self.known.get(&id));
        let label = match known {
            Some(label) => Arc::clone(label),
            None => self.make_label(connection.owner.cgroup, cgroup),
        };
        let slot = self.slots.get(&label).copied().unwrap_or(Slot::OTHER);
        Some((slot, Some(label)))
    }

    fn make_label(&mut self, id: Option<u64>, cgroup: &Cgroup) -> Arc<str> {
        let label = self.kind.label_of(cgroup);
        let label = label.map_or_else(|| Arc::clone(&self.none), Arc::from);
        if let Some(id) = id {
            self.known.insert(id, Arc::clone(&label));
        }
        label
    }

    /// Whether one more connection earns the label.
    fn earns(&mut self, label: &Arc<str>, time_ns: u64) -> bool {
        // It is no name: it stands for paths without one.
        if self.slots.contains_key(label) {
            return false;
        }
        let stands = matches!(self.kind, CgroupLabel::Patterns(_)) || self.standing.contains(label);
        let mut used = self.uses.get(label).copied().unwrap_or_default();
        let earned = self.labels.earns(&mut used, stands, time_ns);
        self.uses.insert(Arc::clone(label), used);
        earned
    }

    fn assign(&mut self, label: &Arc<str>, time_ns: u64) -> Option<Slot> {
        let slot = self.labels.assign(Arc::clone(label), time_ns)?;
        self.uses.remove(label);
        self.slots.insert(Arc::clone(label), slot);
        let mut cells = CgroupCells::new(Arc::clone(label));
        let other = &mut self.cells[Slot::OTHER.index()];
        self.labels.take_attempts(label, |role, attempts| {
            other.role_mut(role).attempts -= attempts;
            cells.role_mut(role).attempts += attempts;
        });
        self.cells.push(cells);
        Some(slot)
    }
}
