//! Names of well-known ports.
//!
//! IANA's names for TCP, and only those of ports really used for it: a name is a convention, never
//! what was seen on the wire. The host's /etc/services is not read: many hosts have none.

use std::borrow::Cow;

const NAMES: [(u16, &str); 46] = [
    (20, "ftp-data"),
    (21, "ftp"),
    (22, "ssh"),
    (23, "telnet"),
    (25, "smtp"),
    (43, "whois"),
    (49, "tacacs"),
    (53, "domain"),
    (70, "gopher"),
    (79, "finger"),
    (80, "http"),
    (88, "kerberos"),
    (110, "pop3"),
    (111, "sunrpc"),
    (119, "nntp"),
    (139, "netbios-ssn"),
    (143, "imap"),
    (179, "bgp"),
    (389, "ldap"),
    (443, "https"),
    (445, "microsoft-ds"),
    (465, "submissions"),
    (514, "shell"),
    (515, "printer"),
    (548, "afpovertcp"),
    (554, "rtsp"),
    (587, "submission"),
    (631, "ipp"),
    (636, "ldaps"),
    (853, "domain-s"),
    (873, "rsync"),
    (989, "ftps-data"),
    (990, "ftps"),
    (993, "imaps"),
    (995, "pop3s"),
    (1883, "mqtt"),
    (2049, "nfs"),
    (3306, "mysql"),
    (3389, "ms-wbt-server"),
    (5060, "sip"),
    (5432, "postgresql"),
    (5672, "amqp"),
    (6379, "redis"),
    (8883, "secure-mqtt"),
    (11211, "memcache"),
    (27017, "mongodb"),
];

/// Returns a port's name, or its number if it has none or numbers are wanted.
pub(super) fn shown(port: u16, numeric: bool) -> Cow<'static, str> {
    let found = NAMES.binary_search_by_key(&port, |(port, _)| *port);
    match found {
        Ok(at) if !numeric => NAMES[at].1.into(),
        Ok(_) | Err(_) => port.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_is_found_and_numbers_are_had_for_the_asking() {
        for (port, name) in NAMES {
            assert_eq!(shown(port, false), name);
            assert_eq!(shown(port, true), port.to_string());
        }
        assert_eq!(shown(8080, false), "8080");
    }
}
