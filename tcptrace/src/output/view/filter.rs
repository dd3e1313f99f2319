//! Which connections are shown.
//!
//! Filters judge connections, not rows: a connect's local port is 0 until it is established, and no
//! row may be lost to that. While a connection cannot be judged yet, the result is
//! [`Decision::Later`], and its rows wait.

use std::{net::IpAddr, time::Duration};

use tcptrace_common::TcpState;

use super::terms::{
    CgroupTerm, CidrTerm, CommTerm, ContainerTerm, Decision, NetnsTerm, PidTerm, PortTerm,
    StateTerm, Terms,
};
use crate::{
    feed::event::Endpoints,
    host::cgroup::Cgroup,
    tracker::{Connection, Ended, Listener, Process, Release, Role, Verdict},
};

/// The `-4` or `-6` filter; an IPv4-mapped address is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyFilter {
    Ipv4,
    Ipv6,
}

/// All filters; a connection must pass each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub port: Option<Terms<PortTerm>>,
    pub local_port: Option<Terms<PortTerm>>,
    pub remote_port: Option<Terms<PortTerm>>,
    pub cidr: Option<Terms<CidrTerm>>,
    pub pid: Option<Terms<PidTerm>>,
    pub comm: Option<Terms<CommTerm>>,
    pub role: Option<Terms<Role>>,
    pub netns: Option<Terms<NetnsTerm>>,
    /// The cgroup, or one that contains it.
    pub cgroup: Option<Terms<CgroupTerm>>,
    pub container: Option<Terms<ContainerTerm>>,
    pub family: Option<FamilyFilter>,
    pub verdict: Option<Terms<Verdict>>,
    /// The state that a row tells: this judges rows, not connections.
    pub state: Option<Terms<StateTerm>>,
    /// Never established.
    pub failed: bool,
    /// The handshake or the accept wait took at least this long.
    pub slow: Option<Duration>,
    /// The handshake took at least this long.
    pub min_handshake: Option<Duration>,
    /// The connection lived at least this long.
    pub min_duration: Option<Duration>,
}

/// What a filter judges.
struct Subject<'a> {
    ends: Option<&'a Endpoints>,
    process: Option<&'a Process>,
    cgroup: Option<&'a Cgroup>,
    /// `None` for a listener.
    role: Option<Role>,
    /// It has ended: what is not known now never will be.
    over: bool,
    life: LifeSoFar,
}

/// A connection's life so far.
#[derive(Clone, Copy, Default)]
struct LifeSoFar {
    established: bool,
    handshake_ns: Option<u64>,
    accept_wait_ns: Option<u64>,
    /// accept() may still follow.
    may_be_accepted: bool,
    verdict: Option<Verdict>,
    duration_ns: Option<u64>,
}

impl From<&Connection> for LifeSoFar {
    fn from(connection: &Connection) -> Self {
        Self {
            established: connection.established,
            handshake_ns: connection.handshake.took.map(|(took, _)| took),
            accept_wait_ns: connection.accept_wait_ns(),
            may_be_accepted: connection.role != Role::Active
                && connection.handshake.accepted_at.is_none(),
            verdict: None,
            duration_ns: None,
        }
    }
}

impl<'a> Subject<'a> {
    fn new(connection: &'a Connection, over: bool, life: LifeSoFar) -> Self {
        Self {
            ends: connection.endpoints.as_ref(),
            process: connection.process.as_ref(),
            cgroup: connection.named.cgroup.as_deref(),
            role: Some(connection.role),
            over,
            life,
        }
    }
}

impl Filter {
    /// Judges a connection; what is not known yet may become known.
    pub fn open(&self, connection: &Connection) -> Decision {
        let is_over = false;
        self.judge(&Subject::new(connection, is_over, connection.into()))
    }

    /// Judges a connection of which no more will become known.
    pub fn last(&self, connection: &Connection) -> Decision {
        let is_over = true;
        self.judge(&Subject::new(connection, is_over, connection.into()))
    }

    /// Judges an ended connection.
    pub fn ended(&self, ended: &Ended) -> Decision {
        let connection = &ended.connection;
        let life = LifeSoFar {
            verdict: Some(ended.verdict),
            duration_ns: connection
                .handshake
                .opened
                .filter(|_| ended.end_seen)
                .map(|opened| ended.closed_at.get().saturating_sub(opened.get())),
            ..connection.into()
        };
        let is_over = true;
        self.judge(&Subject::new(connection, is_over, life))
    }

    /// Whether a row of this state is shown.
    pub fn shows(&self, state: TcpState) -> bool {
        self.state
            .as_ref()
            .is_none_or(|terms| terms.judge(true, |wanted| wanted.0 == state) == Decision::Show)
    }

    /// Whether every connection passes.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the filter asks about a connection's end: what is learnt later cannot be judged
    /// alone.
    pub const fn asks_for_the_end(&self) -> bool {
        self.verdict.is_some()
            || self.failed
            || self.slow.is_some()
            || self.min_handshake.is_some()
            || self.min_duration.is_some()
    }

    pub fn listener(&self, listener: &Listener) -> Decision {
        self.judge(&Subject {
            ends: Some(&listener.endpoints),
            process: listener.process.as_ref(),
            cgroup: listener.named.cgroup.as_deref(),
            role: None,
            over: true,
            life: LifeSoFar::default(),
        })
    }

    /// Judges what was learnt after a connection's record.
    pub fn release(&self, release: &Release) -> Decision {
        self.judge(&Subject {
            ends: release.endpoints.as_ref(),
            process: release.whose.process.as_ref(),
            cgroup: release.whose.named.cgroup.as_deref(),
            role: Some(release.role),
            over: true,
            life: LifeSoFar::default(),
        })
    }

    fn judge(&self, subject: &Subject<'_>) -> Decision {
        let mut later = false;
        let of_life = self.decisions_of_life(subject);
        for decision in self.decisions(subject).into_iter().chain(of_life) {
            match decision {
                Decision::Show => {}
                Decision::Hide => return Decision::Hide,
                Decision::Later => later = true,
            }
        }
        if later {
            Decision::Later
        } else {
            Decision::Show
        }
    }

    /// Returns the decisions that depend on the course of a connection.
    fn decisions_of_life(&self, subject: &Subject<'_>) -> [Decision; 5] {
        let (life, over) = (&subject.life, subject.over);
        let at_least = |known: Option<u64>, least: Duration| {
            known.is_some_and(|ns| u128::from(ns) >= least.as_nanos())
        };
        // What has not come may still come, unless the connection has ended.
        let unless = |shown: bool, settled: bool| match (shown, settled) {
            (true, _) => Decision::Show,
            (false, true) => Decision::Hide,
            (false, false) => Decision::Later,
        };
        let by = |decision: Option<Decision>| decision.unwrap_or(Decision::Show);
        [
            by(self
                .verdict
                .as_ref()
                .map(|terms| terms.judge(over, |verdict| life.verdict == Some(*verdict)))),
            if self.failed {
                unless(over && !life.established, life.established)
            } else {
                Decision::Show
            },
            by(self.min_handshake.map(|least| {
                let settled = over || life.established;
                unless(at_least(life.handshake_ns, least), settled)
            })),
            by(self.slow.map(|least| {
                let slow =
                    at_least(life.handshake_ns, least) || at_least(life.accept_wait_ns, least);
                unless(slow, over || (life.established && !life.may_be_accepted))
            })),
            by(self
                .min_duration
                .map(|least| unless(at_least(life.duration_ns, least), over))),
        ]
    }

    fn decisions(&self, subject: &Subject<'_>) -> [Decision; 11] {
        let over = subject.over;
        let local = subject.ends.map_or(0, |ends| ends.local_port);
        let remote = subject.ends.map_or(0, |ends| ends.remote_port);
        let addresses = subject
            .ends
            .map(|ends| [ends.local_address, ends.remote_address]);
        let addresses_known =
            addresses.is_some_and(|both| !both.iter().any(IpAddr::is_unspecified));
        let netns = subject.ends.and_then(|ends| ends.netns);
        let ports = |terms: &Terms<PortTerm>, ports: &[u16]| {
            let known = over || !ports.contains(&0);
            terms.judge(known, |range| {
                ports.iter().any(|port| range.0.contains(port))
            })
        };
        let by = |decision: Option<Decision>| decision.unwrap_or(Decision::Show);
        [
            by(self
                .port
                .as_ref()
                .map(|terms| ports(terms, &[local, remote]))),
            by(self.local_port.as_ref().map(|terms| ports(terms, &[local]))),
            by(self
                .remote_port
                .as_ref()
                .map(|terms| ports(terms, &[remote]))),
            by(self.cidr.as_ref().map(|terms| {
                terms.judge(over || addresses_known, |cidr| {
                    addresses
                        .iter()
                        .flatten()
                        .any(|address| cidr.0.contains(address))
                })
            })),
            by(self.pid.as_ref().map(|terms| {
                terms.judge(over || subject.process.is_some(), |pid| {
                    subject.process.is_some_and(|process| process.pid == pid.0)
                })
            })),
            by(self.comm.as_ref().map(|terms| {
                terms.judge(over || subject.process.is_some(), |comm| {
                    subject.process.is_some_and(|process| comm.is_of(process))
                })
            })),
            by(self.role.as_ref().map(|terms| {
                // Crossed SYNs make an active open simultaneous, but that is rare and soon.
                terms.judge(true, |role| subject.role == Some(*role))
            })),
            by(self.netns.as_ref().map(|terms| {
                terms.judge(over || netns.is_some(), |wanted| {
                    netns.is_some_and(|netns| wanted.matches(netns))
                })
            })),
            // Told with the first event, or never.
            by(self.cgroup.as_ref().map(|terms| {
                terms.judge(true, |term| {
                    subject
                        .cgroup
                        .is_some_and(|cgroup| cgroup.is_within(&term.0))
                })
            })),
            by(self.container.as_ref().map(|terms| {
                let id = subject
                    .cgroup
                    .and_then(|cgroup| cgroup.container_id.as_deref());
                terms.judge(true, |term| id.is_some_and(|id| id.starts_with(&term.0)))
            })),
            by(self.family.map(|family| match (addresses, over) {
                (Some([local, _]), _) if local.is_ipv4() == (family == FamilyFilter::Ipv4) => {
                    Decision::Show
                }
                (Some(_), _) | (None, true) => Decision::Hide,
                (None, false) => Decision::Later,
            })),
        ]
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
