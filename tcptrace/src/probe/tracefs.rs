//! The classic tracepoints' records, as tracefs describes them.
//!
//! The common header in front of the record differs between kernels (RT and some vendors' are
//! wider) and so do the widths of fields, so nothing is assumed.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use tcptrace_common::RecordLayout;

/// Where tracefs is mounted, the usual place first.
const PLACES: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Why the record's layout is not known.
#[derive(Debug, thiserror::Error)]
pub enum TracefsError {
    #[error(
        "tracefs is not mounted at /sys/kernel/tracing (mount -t tracefs tracefs /sys/kernel/tracing)"
    )]
    NotMounted,
    /// tracefs exists, or may exist, but cannot be read.
    #[error(
        "{place}: {error}; it is mounted for root: run as root, or mount -o remount,gid=GROUP,mode=750 {place}"
    )]
    NotAllowed {
        place: &'static str,
        error: std::io::Error,
    },
    #[error("{path}: {error}")]
    Read { path: String, error: std::io::Error },
    /// A field is missing or has another size.
    #[error("the record of {tracepoint} has no {field} of {expected} bytes")]
    Field {
        tracepoint: &'static str,
        field: &'static str,
        expected: &'static str,
    },
}

/// Returns where tracefs is mounted.
pub fn mounted() -> Result<PathBuf, TracefsError> {
    let mut refused = None;
    for place in PLACES {
        match std::fs::metadata(Path::new(place).join("events")) {
            Ok(events) if events.is_dir() => return Ok(PathBuf::from(place)),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                refused.get_or_insert(TracefsError::NotAllowed { place, error });
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(refused.unwrap_or(TracefsError::NotMounted))
}

/// Reads the layout of `sock:inet_sock_set_state`.
pub(super) fn read_record_layout() -> Result<RecordLayout, TracefsError> {
    let path = mounted()?.join("events/sock/inet_sock_set_state/format");
    let text = read(&path)?;
    parse(&text)
}

/// Reads the offset of the return value in `syscalls:sys_exit_accept`; accept4 has the same, as all
/// system calls share one layout.
pub(super) fn read_exit_ret() -> Result<u32, TracefsError> {
    let path = mounted()?.join("events/syscalls/sys_exit_accept/format");
    parse_exit_ret(&read(&path)?)
}

pub(super) fn parse_exit_ret(text: &str) -> Result<u32, TracefsError> {
    match find(text, "ret") {
        Some((offset, 8)) => Ok(offset),
        Some(_) | None => Err(TracefsError::Field {
            tracepoint: "syscalls:sys_exit_accept",
            field: "ret",
            expected: "8",
        }),
    }
}

fn read(path: &Path) -> Result<String, TracefsError> {
    std::fs::read_to_string(path).map_err(|error| TracefsError::Read {
        path: path.display().to_string(),
        error,
    })
}

/// Parses the text of a `format` file.
pub(super) fn parse(text: &str) -> Result<RecordLayout, TracefsError> {
    let field = |name, expected, sizes: &[u32]| {
        find(text, name)
            .filter(|(_, size)| sizes.contains(size))
            .ok_or(TracefsError::Field {
                tracepoint: "sock:inet_sock_set_state",
                field: name,
                expected,
            })
    };
    let (protocol, protocol_size) = field("protocol", "1 or 2", &[1, 2])?;
    Ok(RecordLayout {
        skaddr: field("skaddr", "8", &[8])?.0,
        oldstate: field("oldstate", "4", &[4])?.0,
        newstate: field("newstate", "4", &[4])?.0,
        sport: field("sport", "2", &[2])?.0,
        dport: field("dport", "2", &[2])?.0,
        family: field("family", "2", &[2])?.0,
        protocol,
        protocol_size,
        saddr: field("saddr", "4", &[4])?.0,
        daddr: field("daddr", "4", &[4])?.0,
        saddr_v6: field("saddr_v6", "16", &[16])?.0,
        daddr_v6: field("daddr_v6", "16", &[16])?.0,
    })
}

/// Returns a field's offset and size, from `field:__u8 saddr[4]; offset:32; size:4; signed:0;`.
fn find(text: &str, name: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut parts = line.trim().strip_prefix("field:")?.split(';');
        let declared = parts.next()?.rsplit([' ', '*', '\t']).next()?;
        if declared.split('[').next() != Some(name) {
            return None;
        }
        let mut offset = None;
        let mut size = None;
        for part in parts {
            match part.trim().split_once(':') {
                Some(("offset", value)) => offset = value.trim().parse().ok(),
                Some(("size", value)) => size = value.trim().parse().ok(),
                Some(_) | None => {}
            }
        }
        // A program can read at most the first 8 kB of its context; a record is far shorter.
        Some((offset.filter(|&offset| offset < 4096)?, size?))
    })
}

#[cfg(test)]
#[path = "tracefs_tests.rs"]
mod tests;
