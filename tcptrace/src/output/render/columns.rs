//! The cells of a table: the width of each column, and its content for a record.

use super::{
    column::Column,
    look::Look,
    units::{bytes, duration},
    words,
};
use crate::output::render::services;
use crate::{
    output::record::{Address, ConnectionRecord, HandshakeRecord, Identity, Record, RecordBody},
    tracker::ClosedBy,
};

impl Column {
    /// Returns the column's first width, characters; a longer cell makes it wider for good.
    pub(super) const fn first_width(self, look: &Look) -> usize {
        match self {
            Self::Time => look.time.width(),
            Self::Process => 20,
            Self::Role => 7,
            Self::Local | Self::Remote => 21,
            Self::What if look.transitions => "ESTABLISHED->CLOSE_WAIT".len(),
            Self::What => "close".len(),
            Self::Took | Self::Rtt | Self::Sent | Self::Retransmits => 7,
            Self::Notes => 0,
            Self::Verdict => 14,
            Self::Handshake | Self::ClosedBy | Self::Interface => 9,
            Self::AcceptWait | Self::Duration | Self::Received => 8,
            Self::Netns => 10,
            Self::Uid => 5,
            Self::Cgroup | Self::Unit => 20,
            Self::Container => 12,
            Self::Pod => 36,
            Self::Id => 18,
        }
    }

    /// Returns the greatest width that a long cell can give the column; longer cells are cut if
    /// lines have a limit.
    pub(super) fn most_width(self) -> usize {
        /// `comm/pid@container`, or an IPv6 address with its port.
        const MOST: [(Column, usize); 5] = [
            (Column::Process, 36),
            (Column::Local, 47),
            (Column::Remote, 47),
            (Column::Cgroup, 60),
            (Column::Unit, 60),
        ];
        let most = MOST.iter().find(|(column, _)| *column == self);
        most.map_or(40, |(_, most)| *most)
    }

    /// Whether the column is aligned to the right, as numbers are.
    pub(super) const fn is_right(self) -> bool {
        matches!(
            self,
            Self::Took
                | Self::Handshake
                | Self::AcceptWait
                | Self::Duration
                | Self::Sent
                | Self::Received
                | Self::Retransmits
                | Self::Rtt
                | Self::Netns
                | Self::Uid
        )
    }

    /// Returns a record's cell; empty if the record has no such field. For [`Column::Time`] see
    /// [`Time`](super::look::Time).
    pub(super) fn cell(self, record: &Record, look: &Look) -> String {
        let (identity, closed, opened): Fields<'_> = match &record.body {
            RecordBody::Transition(body) => (&body.identity, None, None),
            RecordBody::Handshake(body) => (&body.identity, None, Some(body)),
            RecordBody::Connection(body) => (&body.identity, Some(body), None),
            RecordBody::Release(body) => (&body.identity, None, None),
            RecordBody::Loss(_) | RecordBody::Summary(_) => return String::new(),
        };
        let time = |micros: Option<u64>| micros.map(|micros| duration(micros, look.ascii));
        let text = |text: Option<&str>| text.map(str::to_owned);
        match self {
            Self::Time => None,
            Self::Process => Some(process(identity)),
            Self::Role => Some(words::role(identity).to_owned()),
            Self::Local => Some(end(
                identity.local_address.as_ref(),
                identity.local_port,
                look,
            )),
            Self::Remote => Some(end(
                identity.remote_address.as_ref(),
                identity.remote_port,
                look,
            )),
            Self::What => Some(words::what(&record.body, look.ascii)),
            Self::Took => Some(time(words::took(&record.body)).unwrap_or_else(dash)),
            Self::Notes => Some(words::notes(&record.body, look).join(", ")),
            Self::Verdict => closed.map(|body| words::verdict(body.verdict)),
            Self::Handshake => time(
                opened
                    .and_then(|body| body.handshake.handshake_us)
                    .or_else(|| closed?.handshake.handshake_us),
            ),
            Self::AcceptWait => time(closed.and_then(|body| body.accept_wait_us)),
            Self::Duration => time(closed.and_then(|body| body.duration_us)),
            Self::Sent => closed.and_then(|body| body.bytes_sent).map(bytes),
            Self::Received => closed.and_then(|body| body.bytes_received).map(bytes),
            Self::Retransmits => closed
                .and_then(|body| body.retransmits)
                .map(|count| count.to_string()),
            Self::Rtt => {
                let rtt = closed
                    .and_then(|body| body.srtt_us)
                    .or_else(|| opened?.srtt_us);
                time(rtt.map(u64::from))
            }
            Self::ClosedBy => text(closed.and_then(|body| body.closed_by).map(ClosedBy::name)),
            Self::Netns => identity.netns.map(|inode| inode.to_string()),
            Self::Uid => identity.uid.map(|uid| uid.to_string()),
            Self::Cgroup => text(identity.cgroup.as_deref()),
            Self::Container => text(identity.container_id.as_deref().map(short)),
            Self::Pod => text(identity.pod_uid.as_deref()),
            Self::Unit => text(identity.unit.as_deref()),
            Self::Interface => text(identity.interface.as_deref()),
            Self::Id => Some(identity.id.to_string()),
        }
        .unwrap_or_default()
    }

    /// Returns a shorter cell, for a narrow terminal.
    pub(super) fn short_cell(self, record: &Record, look: &Look) -> Option<String> {
        let identity = record.body.identity()?;
        if self == Self::Role {
            return Some(words::role_sign(identity, look.ascii).to_owned());
        }
        let port = |port| format!(":{port}");
        (self == Self::Local).then(|| identity.local_port.map_or_else(dash, port))
    }
}

/// A record's identity, and what it tells of the connection's end or its handshake.
type Fields<'a> = (
    &'a Identity,
    Option<&'a ConnectionRecord>,
    Option<&'a HandshakeRecord>,
);

/// Returns `comm/pid`, and in a container `comm/pid@id` with the id as its engine shortens it.
fn process(identity: &Identity) -> String {
    let mut process = match (&identity.comm, identity.pid) {
        (Some(comm), Some(pid)) => format!("{comm}/{pid}"),
        (_, _) => dash(),
    };
    if let Some(id) = identity.container_id.as_deref() {
        process.push('@');
        process.push_str(short(id));
    }
    process
}

/// Returns a container's id as its engine shortens it.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// Returns one end of a connection, with the port's name if that is wanted.
fn end(address: Option<&Address>, port: Option<u16>, look: &Look) -> String {
    let port = port.map(|port| services::shown(port, look.numeric));
    let name = address.and_then(|address| look.resolver.as_ref()?.name(address.ip()));
    if let Some(name) = name {
        return match port {
            Some(port) => format!("{name}:{port}"),
            None => format!("{name}:-"),
        };
    }
    match (address, port) {
        (Some(address), Some(port)) => address.with_port(port),
        (Some(address), None) => address.with_port("-"),
        (None, Some(port)) => format!("-:{port}"),
        (None, None) => dash(),
    }
}

fn dash() -> String {
    "-".to_owned()
}
