//! The netlink socket on which the kernel is asked, and one question after the other.
//!
//! Every wait is bounded. Answers to an earlier question (one that was given up) are passed over.

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
    entry::{DiagSocket, Family, Malformed, Tuple},
    message::{Answer, Messages, Request},
};
use crate::host::netns::Namespace;

/// The kernel's own limit for what one recv() of a dump gives is half of it.
const BUFFER_BYTES: usize = 64 << 10;

/// The kernel normally answers within the call: a longer wait is in vain.
const TIMEOUT_SECONDS: i64 = 1;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The namespace cannot be entered.
    #[error("cannot enter the network namespace {inode} (it takes CAP_SYS_ADMIN): {error}")]
    Enter {
        /// Its number.
        inode: u32,
        /// Why not.
        error: io::Error,
    },
    /// No netlink socket.
    #[error("cannot open a netlink socket for sock_diag: {0}")]
    Open(Errno),
    /// The kernel cannot list TCP sockets.
    #[error("the kernel has no tcp_diag (modprobe tcp_diag)")]
    NoTcpDiag,
    /// A security module or a sandbox forbids it.
    #[error("not permitted to ask the kernel for TCP sockets (sock_diag): {0}")]
    NotPermitted(Errno),
    /// The kernel refuses the question.
    #[error("the kernel refuses to list TCP sockets (sock_diag): {0}")]
    Refused(Errno),
    /// Asking or hearing failed.
    #[error("cannot talk to the kernel's sock_diag: {0}")]
    Talk(Errno),
    /// Nothing came.
    #[error("the kernel's sock_diag gave no answer within {TIMEOUT_SECONDS} s; ask again")]
    Timeout,
    /// Something came that is no answer.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// How a dump went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DumpOutcome {
    /// How many sockets came.
    pub sockets: u64,
    /// The kernel says that its table changed meanwhile: some may be missing or come twice.
    pub interrupted: bool,
    /// Returns were lost for lack of memory (ENOBUFS): some are missing.
    pub overrun: bool,
    /// Returns that could not be understood.
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

/// A way to ask the kernel for the TCP sockets of one network namespace.
#[derive(Debug)]
pub struct Diag {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Diag {
    /// For the namespace. The calling thread stays where it is.
    ///
    /// Fails when the namespace cannot be entered, or as [`Diag::here`].
    pub fn open(namespace: &Namespace) -> Result<Self, DiagError> {
        // A socket stays in the namespace it was made in.
        namespace
            .enter(Self::here)
            .map_err(|error| DiagError::Enter {
                inode: namespace.id.inode,
                error,
            })?
    }

    /// For the calling thread's namespace.
    ///
    /// Fails when the kernel cannot list TCP sockets or forbids it.
    pub fn here() -> Result<Self, DiagError> {
        let mut diag = Self {
            socket: connected().map_err(DiagError::Open)?,
            sequence: 0,
            buffer: vec![0; BUFFER_BYTES],
        };
        // A lookup's ENOENT means "no such socket" and "no tcp_diag" alike. A dump of no state at
        // all costs nothing and rules the second out, by loading the module if need be.
        diag.dump(Family::V4, 0, |_| {})?;
        Ok(diag)
    }

    /// Gives each socket of the family whose state is in `states` (`1 << state`; request sockets
    /// are `1 << SYN_RECV`) to `take`. IPv4 over IPv6 sockets comes with [`Family::V6`].
    ///
    /// Fails when the kernel gives no end of the list. What was taken until then is true.
    pub fn dump(
        &mut self,
        family: Family,
        states: u32,
        mut take: impl FnMut(DiagSocket),
    ) -> Result<DumpOutcome, DiagError> {
        let sequence = self.next_sequence();
        self.send(&Request::dump(sequence, family, states))?;
        let mut outcome = DumpOutcome::default();
        loop {
            let bytes = match self.receive() {
                Ok(bytes) => bytes,
                // The kernel goes on behind what was lost.
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

    /// Looks for the one connection, and with `cookie` for that very socket. `None`: it is gone.
    ///
    /// A socket bound to an interface is found only when the tuple names that interface; `None`
    /// proves nothing for a tuple that does not.
    ///
    /// Fails when the kernel gives no answer that could be understood.
    pub fn lookup(
        &mut self,
        tuple: &Tuple,
        cookie: Option<u64>,
    ) -> Result<Option<DiagSocket>, DiagError> {
        let sequence = self.next_sequence();
        let Some(request) = Request::exact(sequence, tuple, cookie) else {
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

    fn send(&self, request: &Request) -> Result<(), DiagError> {
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

/// A socket that hears nobody but the kernel.
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
#[path = "socket_tests.rs"]
mod tests;
