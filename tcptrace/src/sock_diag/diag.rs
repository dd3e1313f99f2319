//! The netlink socket, and one request after the other.
//!
//! Every wait is bounded. Late replies to an abandoned request are skipped.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv,
            send, setsockopt, socket, sockopt,
        },
        time::{TimeVal, TimeValLike},
    },
};

use super::{
    entry::{DiagFamily, DiagSocket, Malformed, Tuple},
    message::{Answer, DiagRequest, Messages},
};
use crate::host::netns::Namespace;

/// Twice the kernel's own limit for one recv() of a dump.
const BUFFER_BYTES: usize = 64 << 10;

/// The kernel normally answers within the call: waiting longer is pointless.
const TIMEOUT_SECONDS: i64 = 1;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    #[error("cannot enter the network namespace {inode} (needs CAP_SYS_ADMIN): {error}")]
    Enter { inode: u32, error: io::Error },
    #[error("cannot open a netlink socket for sock_diag: {0}")]
    Open(Errno),
    #[error("the kernel has no tcp_diag (modprobe tcp_diag)")]
    NoTcpDiag,
    /// A security module or a sandbox forbids it.
    #[error("not permitted to ask the kernel for TCP sockets (sock_diag): {0}")]
    NotPermitted(Errno),
    #[error("the kernel refuses to list TCP sockets (sock_diag): {0}")]
    Refused(Errno),
    #[error("cannot talk to the kernel's sock_diag: {0}")]
    Talk(Errno),
    #[error("the kernel's sock_diag did not reply within {TIMEOUT_SECONDS} s; ask again")]
    Timeout,
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// The result of a dump.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpOutcome {
    pub sockets: u64,
    /// The kernel reports that its table changed meanwhile: some sockets may be missing or listed
    /// twice.
    pub interrupted: bool,
    /// Messages were lost for lack of memory (ENOBUFS): some sockets are missing.
    pub overrun: bool,
    /// Messages that could not be parsed.
    pub malformed: u64,
}

impl DumpOutcome {
    /// Whether the kernel knows of nothing that is missing.
    ///
    /// An interrupted dump is incomplete, whether its sockets are counted or compared: some may be
    /// missing or listed twice. The kernel does not notice everything: a socket that moves in its
    /// table between two parts of a long list can be missed or listed twice.
    pub const fn is_complete(&self) -> bool {
        !self.interrupted && !self.overrun && self.malformed == 0
    }
}

/// Asks the kernel for the TCP sockets of one network namespace.
#[derive(Debug)]
pub struct Diag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diag {
    /// Opens a client in the namespace. The calling thread stays where it is.
    ///
    /// Fails when the namespace cannot be entered, or like [`Diag::here`].
    pub fn open(namespace: &Namespace) -> Result<Self, DiagError> {
        // A socket stays in the namespace it was made in.
        namespace
            .enter(Self::here)
            .map_err(|error| DiagError::Enter {
                inode: namespace.id.inode,
                error,
            })?
    }

    /// Opens a client in the calling thread's namespace.
    ///
    /// Fails when the kernel cannot list TCP sockets, or forbids it.
    pub fn here() -> Result<Self, DiagError> {
        let mut diag = Self {
            socket: connected().map_err(DiagError::Open)?,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        };
        // A lookup's ENOENT means "no such socket" or "no tcp_diag". A dump of no state costs
        // nothing and rules the second out, by loading the module if need be.
        diag.dump(DiagFamily::V4, 0, |_| {})?;
        Ok(diag)
    }

    /// Passes each socket of the family whose state is in `states` (`1 << state`; request sockets
    /// are `1 << SYN_RECV`) to `take`. IPv4 over IPv6 sockets comes with [`DiagFamily::V6`].
    ///
    /// Fails when the kernel does not end the list. What was taken until then is true.
    pub fn dump(
        &mut self,
        family: DiagFamily,
        states: u32,
        mut take: impl FnMut(DiagSocket),
    ) -> Result<DumpOutcome, DiagError> {
        let sequence = self.next_sequence();
        self.send(&DiagRequest::dump(sequence, family, states))?;
        let mut outcome = DumpOutcome::default();
        loop {
            let bytes = match self.receive() {
                Ok(bytes) => bytes,
                // The kernel continues behind what was lost.
                Err(Errno::ENOBUFS) => {
                    outcome.overrun = true;
                    continue;
                }
                Err(errno) => return Err(DiagError::hearing(errno)),
            };
            for message in Messages(bytes) {
                let Ok(message) = message else {
                    outcome.malformed += 1;
                    continue;
                };
                if message.sequence != sequence {
                    continue;
                }
                outcome.interrupted |= message.interrupted;
                match message.answer {
                    Ok(Answer::Socket(socket)) => {
                        outcome.sockets += 1;
                        take(socket);
                    }
                    Ok(Answer::End(0)) => return Ok(outcome),
                    Ok(Answer::End(errno)) => {
                        return Err(DiagError::refused(errno));
                    }
                    Ok(Answer::Other) => {}
                    Err(_) => outcome.malformed += 1,
                }
            }
        }
    }

    /// Looks up one connection, and with `cookie` that very socket. `None`: it is gone.
    ///
    /// A socket bound to an interface is found only if the tuple names it; `None` proves nothing
    /// for a tuple that does not.
    ///
    /// Fails when the kernel gives no valid reply.
    pub fn lookup(
        &mut self,
        tuple: &Tuple,
        cookie: Option<u64>,
    ) -> Result<Option<DiagSocket>, DiagError> {
        let sequence = self.next_sequence();
        let Some(request) = DiagRequest::exact(sequence, tuple, cookie) else {
            return Ok(None);
        };
        self.send(&request)?;
        loop {
            let bytes = self.receive().map_err(DiagError::hearing)?;
            for message in Messages(bytes) {
                let message = message?;
                if message.sequence != sequence {
                    continue;
                }
                return match message.answer? {
                    // Without the connection the kernel falls back to a listener on its port.
                    Answer::Socket(socket) => Ok(socket.tuple.same_ends(tuple).then_some(socket)),
                    Answer::End(libc::ENOENT | libc::ESTALE) => Ok(None),
                    Answer::End(errno) => Err(DiagError::refused(errno)),
                    Answer::Other => continue,
                };
            }
        }
    }

    const fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    fn send(&self, request: &DiagRequest) -> Result<(), DiagError> {
        loop {
            match send(
                self.socket.as_raw_fd(),
                request.as_bytes(),
                MsgFlags::empty(),
            ) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno @ (Errno::EPERM | Errno::EACCES)) => {
                    return Err(DiagError::NotPermitted(errno));
                }
                Err(errno) => return Err(DiagError::Talk(errno)),
            }
        }
    }

    fn receive(&mut self) -> Result<&[u8], Errno> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => return Ok(&self.buffer[..length]),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl DiagError {
    fn hearing(errno: Errno) -> Self {
        if errno == Errno::EAGAIN {
            Self::Timeout
        } else {
            Self::Talk(errno)
        }
    }

    fn refused(errno: i32) -> Self {
        match errno {
            libc::ENOENT => Self::NoTcpDiag,
            libc::EPERM | libc::EACCES => Self::NotPermitted(Errno::from_raw(errno)),
            other => Self::Refused(Errno::from_raw(other)),
        }
    }
}

/// Returns a netlink socket that receives only from the kernel.
fn connected() -> Result<OwnedFd, Errno> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkSockDiag,
    )?;
    setsockopt(
        &socket,
        sockopt::ReceiveTimeout,
        &TimeVal::seconds(TIMEOUT_SECONDS),
    )?;
    connect(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    Ok(socket)
}

#[cfg(test)]
#[path = "diag_tests.rs"]
mod tests;
