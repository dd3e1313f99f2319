//! Which connections are shown.
//!
//! Filters judge connections, not rows: a connect's local port is 0 until it is established, and
//! a row must not be lost to that. While a connection cannot be judged yet, the answer is
//! [`Decision::Later`], and its rows wait.

use std::{
    fmt,
    net::IpAddr,
    ops::RangeInclusive,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use ipnet::IpNet;

use crate::{
    feed::event::Endpoints,
    host::cgroup::Cgroup,
    tracker::{Connection, Listener, Process, Release, Role},
};

/// Whether a connection is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is.
    Show,
    /// It is not.
    Hide,
    /// What the filter asks for is not known yet.
    Later,
}

/// A comma list of values, all of them meant or, with a leading `!`, none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms<T> {
    negated: bool,
    values: Vec<T>,
}

impl<T> Terms<T> {
    /// Judges by what a connection has; `None` is not known.
    fn judge(&self, known: bool, mut matches: impl FnMut(&T) -> bool) -> Decision {
        if self.values.iter().any(&mut matches) != self.negated {
            // A match stands even if the rest is not known; its absence does not, and neither
            // does the absence of what must not be.
            if known || !self.negated {
                return Decision::Show;
            }
        } else if known || self.negated {
            return Decision::Hide;
        }
        Decision::Later
    }
}

impl<T: FromStr> FromStr for Terms<T>
where
    T::Err: fmt::Display,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (negated, list) = match text.strip_prefix('!') {
            Some(list) => (true, list),
            None => (false, text),
        };
        let values = list
            .split(',')
            .map(|term| {
                let term = term.trim();
                term.parse().map_err(|error| format!("{term:?}: {error}"))
            })
            .collect::<Result<Vec<T>, String>>()?;
        Ok(Self { negated, values })
    }
}

/// A port or a range of them: `443`, `8000-8099`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports(RangeInclusive<u16>);

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |text: &str| match text.trim().parse::<u16>() {
            Ok(port) if port != 0 => Ok(port),
            Ok(_) | Err(_) => Err("expected a port from 1 to 65535".to_owned()),
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        if first > last {
            return Err(format!(
                "the range begins with {first}, past its end {last}"
            ));
        }
        Ok(Self(first..=last))
    }
}

/// An address or a network: `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(IpNet);

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(Self)
            .map_err(|_| {
                "expected an address or a network such as 10.0.0.0/8 or 2001:db8::1".to_owned()
            })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| "expected active, passive, simultaneous or unknown".to_owned())
    }
}

/// A network namespace: its inode number, a name as `ip netns` gives it, or a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Netns(u32);

impl FromStr for Netns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(inode) = text.parse() {
            return Ok(Self(inode));
        }
        if text.is_empty() {
            return Err(
                "expected an inode number, a name or a path of a network namespace".to_owned(),
            );
        }
        let path = if text.contains('/') {
            PathBuf::from(text)
        } else {
            Path::new("/run/netns").join(text)
        };
        let inode = std::fs::metadata(&path)
            .map_err(|error| {
                format!(
                    "{}: {error}; expected an inode number (`lsns -t net`), a name (`ip netns`) or a path such as /proc/1234/ns/net",
                    path.display()
                )
            })?
            .ino();
        u32::try_from(inode)
            .map(Self)
            .map_err(|_| format!("{} is no network namespace", path.display()))
    }
}

/// A cgroup's path, which stands for all below it, or one name in it such as `nginx.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupTerm(String);

impl FromStr for CgroupTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || (!text.starts_with('/') && text.contains('/')) {
            return Err(
                "expected a path from the hierarchy's root such as /system.slice, or one name such as nginx.service"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }
}

/// The beginning of a container's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerTerm(String);

impl FromStr for ContainerTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex || !(1..=64).contains(&text.len()) {
            return Err(
                "expected a container's id or the beginning of it, hexadecimal digits; names are not known to the kernel"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

/// IPv4 or IPv6; an IPv4-mapped address is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `-4`
    Ipv4,
    /// `-6`
    Ipv6,
}

/// All filters at once; a connection must pass each.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Either port.
    pub port: Option<Terms<Ports>>,
    /// This side's port.
    pub local_port: Option<Terms<Ports>>,
    /// The other side's port.
    pub remote_port: Option<Terms<Ports>>,
    /// Either address.
    pub cidr: Option<Terms<Cidr>>,
    /// The process.
    pub pid: Option<Terms<u32>>,
    /// The process's name.
    pub comm: Option<Terms<String>>,
    /// Who opened it.
    pub role: Option<Terms<Role>>,
    /// The network namespace.
    pub netns: Option<Terms<Netns>>,
    /// The cgroup, or one that it lies in.
    pub cgroup: Option<Terms<CgroupTerm>>,
    /// The container.
    pub container: Option<Terms<ContainerTerm>>,
    /// The family.
    pub family: Option<Family>,
}

/// What a filter looks at.
struct Subject<'a> {
    ends: Option<&'a Endpoints>,
    process: Option<&'a Process>,
    cgroup: Option<&'a Cgroup>,
    /// `None` for a listener.
    role: Option<Role>,
    /// It is over: what is not known now never will be.
    over: bool,
}

impl Filter {
    /// Judges a connection; `over` when it has ended, and what is not known now never will be.
    #[must_use]
    pub fn connection(&self, connection: &Connection, over: bool) -> Decision {
        self.judge(&Subject {
            ends: connection.endpoints.as_ref(),
            process: connection.process.as_ref(),
            cgroup: connection.named.cgroup.as_deref(),
            role: Some(connection.role),
            over,
        })
    }

    /// Judges a listener.
    #[must_use]
    pub fn listener(&self, listener: &Listener) -> Decision {
        self.judge(&Subject {
            ends: Some(&listener.endpoints),
            process: listener.process.as_ref(),
            cgroup: listener.named.cgroup.as_deref(),
            role: None,
            over: true,
        })
    }

    /// Judges what was learnt of a connection after its record.
    #[must_use]
    pub fn release(&self, release: &Release) -> Decision {
        self.judge(&Subject {
            ends: release.endpoints.as_ref(),
            process: release.whose.process.as_ref(),
            cgroup: release.whose.named.cgroup.as_deref(),
            role: Some(release.role),
            over: true,
        })
    }

    fn judge(&self, subject: &Subject<'_>) -> Decision {
        let mut later = false;
        for decision in self.decisions(subject) {
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
        let name = subject.process.map(Process::name);
        let ports = |terms: &Terms<Ports>, ports: &[u16]| {
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
                    subject.process.is_some_and(|process| process.pid == *pid)
                })
            })),
            by(self.comm.as_ref().map(|terms| {
                terms.judge(over || name.is_some(), |comm| name.as_ref() == Some(comm))
            })),
            by(self.role.as_ref().map(|terms| {
                // Crossed SYNs make an active open simultaneous, but that is rare and soon.
                terms.judge(true, |role| subject.role == Some(*role))
            })),
            by(self.netns.as_ref().map(|terms| {
                terms.judge(over || netns.is_some(), |wanted| netns == Some(wanted.0))
            })),
            // It is told with the first event, or never.
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
                (Some([local, _]), _) if local.is_ipv4() == (family == Family::Ipv4) => {
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
