//! What is counted by cgroup, when that is asked for: families of their own, so that cgroups are not
//! multiplied by ports.
//!
//! The first cgroups of which anything is counted get a label, and keep it for the life of the
//! process. The rest are `other`; `unknown` are connections whose cgroup's path is not known.

use hashbrown::HashMap;

use super::cells::{DIRECTIONS, ROLES, VERDICTS, role_index};
use crate::tracker::{Connection, Role};

/// No more cgroups than this can have a label of their own.
pub const MAX_CGROUPS: usize = 1024;

/// Where [`Cgroups::cells`] has those without a label, and those that are not known.
const UNLABELLED: [&str; 2] = ["other", "unknown"];

/// What is counted of one role in a cgroup.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CgroupRole {
    /// Anything was counted here.
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
    pub(super) label: Box<str>,
    pub(super) roles: [CgroupRole; ROLES],
}

/// The cgroups.
pub(super) struct Cgroups {
    limit: usize,
    by_path: HashMap<Box<str>, usize>,
    cells: Vec<CgroupCells>,
}

impl Cgroups {
    /// So many get labels; with none, nothing is counted.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(MAX_CGROUPS);
        let mut cgroups = Self {
            limit,
            by_path: HashMap::with_capacity(limit),
            cells: Vec::with_capacity(limit + UNLABELLED.len()),
        };
        if limit > 0 {
            for label in UNLABELLED {
                cgroups.add(label);
            }
        }
        cgroups
    }

    fn add(&mut self, label: &str) -> usize {
        self.cells.push(CgroupCells {
            label: label.into(),
            roles: [CgroupRole::default(); ROLES],
        });
        self.cells.len() - 1
    }

    /// What is counted at each label; empty when nothing is.
    pub(super) fn cells(&self) -> &[CgroupCells] {
        &self.cells
    }

    /// Counts something of a connection.
    pub(super) fn count(&mut self, connection: &Connection, count: impl FnOnce(&mut CgroupRole)) {
        if self.limit == 0 {
            return;
        }
        let path = connection.named.cgroup.as_ref().map(|cgroup| &*cgroup.path);
        let at = self.place(path);
        let cell = &mut self.cells[at].roles[role_index(connection.role)];
        cell.seen = true;
        count(cell);
    }

    fn place(&mut self, path: Option<&str>) -> usize {
        let Some(path) = path else {
            return 1;
        };
        if let Some(&at) = self.by_path.get(path) {
            return at;
        }
        if self.by_path.len() == self.limit {
            return 0;
        }
        let at = self.add(path);
        self.by_path.insert(path.into(), at);
        at
    }
}

impl CgroupCells {
    /// The roles of which anything was counted.
    pub(super) fn seen(&self) -> impl Iterator<Item = (Role, &CgroupRole)> {
        let roles = Role::ALL
            .into_iter()
            .map(|role| (role, &self.roles[role_index(role)]));
        roles.filter(|(_, cell)| cell.seen)
    }
}
