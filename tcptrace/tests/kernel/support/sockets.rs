//! What the standard library cannot do with a socket.

use std::{
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use anyhow::Context;
use socket2::{Domain, SockRef, Socket, Type};

use super::wait_for;

/// The kernel's numbers of the states that a socket's own `TCP_INFO` can show.
pub(crate) const ESTABLISHED: u8 = 1;
pub(crate) const FIN_WAIT2: u8 = 5;
pub(crate) const CLOSING: u8 = 11;
pub(crate) const CLOSE: u8 = 7;
pub(crate) const CLOSE_WAIT: u8 = 8;

/// An unconnected TCP socket bound to an address.
pub(crate) fn bound(address: &str) -> anyhow::Result<Socket> {
    let address: SocketAddr = address.parse()?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&address.into())
        .with_context(|| format!("binding to {address}"))?;
    Ok(socket)
}

/// Where a socket is bound.
pub(crate) fn local(socket: &Socket) -> anyhow::Result<SocketAddr> {
    socket
        .local_addr()?
        .as_socket()
        .context("a socket's own address")
}

/// connect() that does not wait.
pub(crate) fn begin_connect(socket: &Socket, to: SocketAddr) -> anyhow::Result<()> {
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        Ok(()) => anyhow::bail!("connected at once to {to}"),
        Err(error) => Err(error).with_context(|| format!("connecting to {to}")),
    }
}

/// connect(AF_UNSPEC): the end of a connection without closing its socket.
pub(crate) fn disconnect(socket: &impl AsFd) -> io::Result<()> {
    // SAFETY: zeros are a valid sockaddr, of the family AF_UNSPEC.
    let address: libc::sockaddr = unsafe { std::mem::zeroed() };
    let size = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the address is as large as the size says.
    if unsafe { libc::connect(fd, &raw const address, size) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// close() will abort.
pub(crate) fn abort_at_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

/// Sets a number among the options of `IPPROTO_TCP`.
pub(crate) fn set_tcp_option(
    socket: &impl AsFd,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, name, value)
}

/// Sets a number among the options of `IPPROTO_IP`.
pub(crate) fn set_ip_option(
    socket: &impl AsFd,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_IP, name, value)
}

fn set_option(
    socket: &impl AsFd,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the value is an int, as large as the size says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// The state that a socket is in.
pub(crate) fn state(socket: &impl AsFd) -> io::Result<u8> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size =
        libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(io::Error::other)?;
    // SAFETY: the kernel writes no more than the size says, and any bytes are a valid tcp_info.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut size,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: zeroed, and any bytes are valid.
    Ok(unsafe { info.assume_init() }.tcpi_state)
}

/// Waits until a socket is in a state.
pub(crate) fn wait_state(socket: &impl AsFd, wanted: u8) -> anyhow::Result<()> {
    wait_for(&format!("a socket to be in state {wanted}"), || {
        Ok((state(socket)? == wanted).then_some(()))
    })
}
