//! Addresses in records.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Serialize, Serializer};

/// The family of both addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum IpFamily {
    /// IPv4, or IPv4-mapped.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl From<IpAddr> for IpFamily {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

/// An address, with the zone of a link-local one (RFC 4007 §11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    address: IpAddr,
    zone: Option<Arc<str>>,
}

impl Address {
    /// The address of a socket, which may be bound to `interface`.
    pub(super) fn new(address: IpAddr, interface: Option<&Arc<str>>) -> Self {
        let is_link_local = match address {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        Self {
            address,
            zone: interface.filter(|_| is_link_local).cloned(),
        }
    }

    /// Returns the address without its zone.
    pub const fn ip(&self) -> IpAddr {
        self.address
    }

    /// Returns the address with a port, as `192.0.2.7:443` or `[fe80::2%eth0]:443`.
    pub fn with_port(&self, port: impl fmt::Display) -> String {
        match self.address {
            IpAddr::V4(_) => format!("{self}:{port}"),
            IpAddr::V6(_) => format!("[{self}]:{port}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.zone {
            Some(zone) => write!(f, "{}%{zone}", self.address),
            None => self.address.fmt(f),
        }
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_has_its_zone_and_no_other_has() {
        let eth0: Arc<str> = "eth0".into();
        let shown = |address: &str, interface| {
            let address = Address::new(address.parse().unwrap(), interface);
            (address.to_string(), address.with_port(443))
        };
        for (address, interface, alone, with_port) in [
            ("fe80::2", Some(&eth0), "fe80::2%eth0", "[fe80::2%eth0]:443"),
            ("febf::2", Some(&eth0), "febf::2%eth0", "[febf::2%eth0]:443"),
            ("fe80::2", None, "fe80::2", "[fe80::2]:443"),
            ("fec0::2", Some(&eth0), "fec0::2", "[fec0::2]:443"),
            ("169.254.0.1", Some(&eth0), "169.254.0.1", "169.254.0.1:443"),
            ("192.0.2.7", Some(&eth0), "192.0.2.7", "192.0.2.7:443"),
        ] {
            let expected = (alone.to_owned(), with_port.to_owned());
            assert_eq!(shown(address, interface), expected);
        }
    }
}
