//! The values of filters: comma lists.

use std::{
    fmt,
    fs::File,
    net::IpAddr,
    num::NonZeroU32,
    ops::RangeInclusive,
    str::FromStr,
    sync::{Arc, OnceLock},
};

use ipnet::{IpNet, Ipv4Net};
use tcptrace_common::TcpState;

use crate::{
    feed::event::{COMM_SIZE, NetnsId},
    tracker::{Process, Role, Verdict},
};

/// A filter's decision on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Show,
    Hide,
    /// What the filter asks about is not known yet.
    Later,
}

/// A comma list of values: any of them or, with a leading `!`, none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms<T> {
    negated: bool,
    values: Vec<T>,
}

impl<T> Terms<T> {
    /// Judges a connection. `known` tells that everything the filter asks about is known.
    pub(super) fn judge(&self, known: bool, mut matches: impl FnMut(&T) -> bool) -> Decision {
        if self.values.iter().any(&mut matches) != self.negated {
            // A match decides at once; a non-match only when everything is known.
            if known || !self.negated {
                return Decision::Show;
            }
        } else if known || self.negated {
            return Decision::Hide;
        }
        Decision::Later
    }
}

impl<T> Terms<T> {
    /// Converts each value.
    pub fn try_map<U, E>(self, convert: impl FnMut(T) -> Result<U, E>) -> Result<Terms<U>, E> {
        Ok(Terms {
            negated: self.negated,
            values: self
                .values
                .into_iter()
                .map(convert)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Terms<CommTerm> {
    /// Returns a notice for each name that was cut.
    pub fn notices(&self) -> impl Iterator<Item = String> + use<'_> {
        self.values.iter().filter_map(CommTerm::notice)
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
        let values = split(list)
            .into_iter()
            .map(|term| T::from_str(&term).map_err(|error| format!("{term:?}: {error}")))
            .collect::<Result<Vec<T>, String>>()?;
        Ok(Self { negated, values })
    }
}

/// Splits a comma list; `\,` is a comma in a term, and `\\` a backslash.
fn split(list: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        let last = terms.len() - 1;
        match character {
            ',' => terms.push(String::new()),
            '\\' => terms[last].push(characters.next().unwrap_or('\\')),
            other => terms[last].push(other),
        }
    }
    terms
}

/// A port or a range of ports: `443`, `8000-8099`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTerm(pub(super) RangeInclusive<u16>);

impl FromStr for PortTerm {
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
pub struct CidrTerm(pub(super) IpNet);

impl FromStr for CidrTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(|net| Self(unmapped(net)))
            .map_err(|_| {
                "expected an address or a network such as 10.0.0.0/8 or 2001:db8::1".to_owned()
            })
    }
}

/// Returns the IPv4 network of IPv4-mapped addresses: that is how addresses are shown.
fn unmapped(net: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = net else {
        return net;
    };
    let mapped = v6.addr().to_ipv4_mapped();
    let v4 = mapped.and_then(|address| {
        let prefix = v6.prefix_len().checked_sub(MAPPED)?;
        Ipv4Net::new(address, prefix).ok()
    });
    v4.map_or(net, IpNet::V4)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidTerm(pub(super) u32);

impl FromStr for PidTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim().parse() {
            Ok(pid) if pid > 0 => Ok(Self(pid)),
            Ok(_) | Err(_) => Err("expected a process id such as 4242".to_owned()),
        }
    }
}

/// A process's name, cut as the kernel cuts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommTerm {
    kept: Box<[u8]>,
    typed: Box<str>,
}

impl CommTerm {
    /// How many bytes of a name the kernel keeps (`TASK_COMM_LEN` without the NUL).
    pub const KEPT: usize = COMM_SIZE - 1;

    pub(super) fn is_of(&self, process: &Process) -> bool {
        process.name_bytes() == &*self.kept
    }

    /// Returns a notice if the name was cut.
    fn notice(&self) -> Option<String> {
        (self.kept.len() < self.typed.len()).then(|| {
            format!(
                "--comm {}: the kernel keeps {} bytes of a name, so that this is taken as {}",
                self.typed,
                Self::KEPT,
                String::from_utf8_lossy(&self.kept)
            )
        })
    }
}

impl FromStr for CommTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected a process's name such as nginx".to_owned());
        }
        let kept = &text.as_bytes()[..text.len().min(Self::KEPT)];
        Ok(Self {
            kept: kept.into(),
            typed: text.into(),
        })
    }
}

/// A state that a transition can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTerm(pub(super) TcpState);

impl FromStr for StateTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_uppercase().replace('-', "_");
        let state = TcpState::ALL.into_iter().find(|state| state.name() == name);
        match state {
            Some(TcpState::TimeWait | TcpState::NewSynRecv) => Err(format!(
                "no transition ever shows {name}, which is a small socket's own; JSON tells TIME_WAIT in time_wait, and --show releases what became of it"
            )),
            Some(state) => Ok(Self(state)),
            None => Err("expected a state such as ESTABLISHED, SYN_SENT or CLOSE_WAIT".to_owned()),
        }
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim();
        Self::ALL
            .iter()
            .copied()
            .find(|verdict| verdict.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|verdict| verdict.name()).collect();
                format!("expected one of {}", names.join(", "))
            })
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|role| role.name() == text.trim())
            .ok_or_else(|| "expected active, passive, simultaneous or unknown".to_owned())
    }
}

/// A network namespace. Without a cookie it stands for the first namespace seen with its number.
#[derive(Clone, Debug)]
pub struct NetnsTerm {
    id: NetnsId,
    /// The cookie of the first namespace seen with the number.
    first: OnceLock<NonZeroU32>,
    /// Kept open, so that the number is not reused.
    _kept: Option<Arc<File>>,
}

impl NetnsTerm {
    pub(super) fn matches(&self, other: NetnsId) -> bool {
        if !self.id.may_be(other) {
            return false;
        }
        match (self.id.cookie, other.cookie) {
            (None, Some(cookie)) => *self.first.get_or_init(|| cookie) == cookie,
            _ => true,
        }
    }

    /// A namespace; `kept` keeps it, and with it its number, as long as the term is used.
    pub fn new(id: NetnsId, kept: Option<File>) -> Self {
        Self {
            id,
            first: OnceLock::new(),
            _kept: kept.map(Arc::new),
        }
    }
}

impl PartialEq for NetnsTerm {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for NetnsTerm {}

/// A cgroup's path, which includes everything below it, or one name in it such as `nginx.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupTerm(pub(super) String);

impl FromStr for CgroupTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
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
pub struct ContainerTerm(pub(super) String);

impl FromStr for ContainerTerm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
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
