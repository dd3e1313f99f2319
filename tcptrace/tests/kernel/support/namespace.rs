//! A network namespace of the test's own, so that the host's traffic does not matter.

use std::{
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    sync::Arc,
    thread,
};

use anyhow::{Context, anyhow};
use nix::{
    errno::Errno,
    sched::{CloneFlags, setns, unshare},
};

use socket2::{Domain, Socket, Type};

use tcptrace::testing::cookie_here;

use super::{ignored, sentinel::Sentinel};

/// A network namespace with `lo` up. It lives as long as this, a clone or a socket in it.
#[derive(Clone)]
pub(crate) struct Namespace(Arc<Inner>);

struct Inner {
    handle: File,
    inode: u32,
    /// Its cookie, which no later one has.
    cookie: Option<u64>,
    sentinel: Sentinel,
}

impl Namespace {
    /// A new one.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let make = || -> anyhow::Result<(File, Sentinel, Option<u64>)> {
            match unshare(CloneFlags::CLONE_NEWNET) {
                Ok(()) => {}
                Err(why @ (Errno::EPERM | Errno::EINVAL | Errno::ENOSPC)) => {
                    return Err(ignored(format!("no network namespace can be made: {why}")));
                }
                Err(why) => return Err(why).context("making a network namespace"),
            }
            bring_lo_up().context("bringing lo up")?;
            let handle = File::open("/proc/thread-self/ns/net").context("/proc/thread-self/ns")?;
            let cookie = cookie_here().map(|cookie| cookie.get().into());
            let sentinel = Sentinel::new().context("listening for sentinels")?;
            Ok((handle, sentinel, cookie))
        };
        let (handle, sentinel, cookie) = in_thread(make)?;
        let inode = handle.metadata()?.ino();
        Ok(Self(Arc::new(Inner {
            inode: u32::try_from(inode).context("the inode of a network namespace")?,
            handle,
            cookie,
            sentinel,
        })))
    }

    /// What `--netns` takes.
    pub(crate) fn inode(&self) -> u32 {
        self.0.inode
    }

    /// Its number and its cookie, as records have them.
    pub(crate) fn id(&self) -> [Option<u64>; 2] {
        [Some(self.0.inode.into()), self.0.cookie]
    }

    /// The namespace itself, open.
    pub(crate) fn handle(&self) -> &File {
        &self.0.handle
    }

    /// What tells that a tail sees this namespace.
    pub(crate) fn sentinel(&self) -> &Sentinel {
        &self.0.sentinel
    }

    /// Does something in it, in a thread of its own. Sockets and processes made there stay there.
    pub(crate) fn run<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        in_thread(|| {
            setns(&self.0.handle, CloneFlags::CLONE_NEWNET).context("entering the namespace")?;
            work()
        })
    }

    /// Sets `/proc/sys/net/NAME`, here only.
    pub(crate) fn sysctl(&self, name: &str, value: &str) -> anyhow::Result<()> {
        self.run(|| {
            let path = format!("/proc/sys/net/{name}");
            fs::write(&path, value).with_context(|| format!("writing {value:?} to {path}"))
        })
    }

    /// Listens; a port of 0 is chosen by the kernel.
    pub(crate) fn listen(&self, address: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let address: SocketAddr = address.parse()?;
        let listener = self.run(|| match TcpListener::bind(address) {
            Ok(listener) => Ok(listener),
            Err(error) if address.is_ipv6() && lacks_family(&error) => {
                Err(ignored(format!("no IPv6 here: {error}")))
            }
            Err(error) => Err(error).with_context(|| format!("listening on {address}")),
        })?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    /// Connects.
    pub(crate) fn connect(&self, address: SocketAddr) -> anyhow::Result<TcpStream> {
        self.run(|| TcpStream::connect(address).with_context(|| format!("connecting to {address}")))
    }

    /// A pair of connected sockets through a listener that stays: (active, passive).
    pub(crate) fn pair(&self, listener: &TcpListener) -> anyhow::Result<(TcpStream, TcpStream)> {
        let active = self.connect(listener.local_addr()?)?;
        let (passive, peer) = listener.accept().context("accepting")?;
        anyhow::ensure!(peer == active.local_addr()?, "somebody else connected");
        Ok((active, passive))
    }

    /// A port that nobody uses here.
    pub(crate) fn free_port(&self) -> anyhow::Result<u16> {
        let (_listener, address) = self.listen("127.0.0.1:0")?;
        Ok(address.port())
    }
}

/// The machine has no such family, or has it switched off.
pub(super) fn lacks_family(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)
    )
}

/// Runs in a thread that ends with the work: what it unshares or enters ends with it too.
pub(crate) fn in_thread<T: Send>(
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    thread::scope(|scope| {
        scope
            .spawn(work)
            .join()
            .map_err(|_| anyhow!("a thread of the test panicked"))?
    })
}

pub(crate) fn bring_lo_up() -> io::Result<()> {
    set_link("lo", true)
}

/// Brings an interface of this thread's namespace up or down.
pub(crate) fn set_link(name: &str, up: bool) -> io::Result<()> {
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = if up { libc::IFF_UP as libc::c_short } else { 0 };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    configure(&socket, libc::SIOCSIFFLAGS, &request)
}

/// A request about an interface, with nothing but its name in it.
pub(crate) fn request(name: &str) -> libc::ifreq {
    // SAFETY: zeros are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request
}

/// Makes a request that reads a structure.
pub(crate) fn configure<T>(file: &impl AsRawFd, what: libc::Ioctl, request: &T) -> io::Result<()> {
    // SAFETY: every request made in these tests reads the structure that it is called with.
    if unsafe { libc::ioctl(file.as_raw_fd(), what, std::ptr::from_ref(request)) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives an interface of this thread's namespace an IPv4 address, or what else is asked for.
pub(crate) fn set_address(
    name: &str,
    what: libc::c_ulong,
    address: Ipv4Addr,
) -> anyhow::Result<()> {
    let internet = libc::sockaddr_in {
        sin_family: libc::AF_INET.try_into()?,
        sin_port: 0,
        sin_addr: libc::in_addr {
            s_addr: u32::from(address).to_be(),
        },
        sin_zero: [0; 8],
    };
    let mut request = request(name);
    // SAFETY: both are 16 bytes and made for this conversion.
    request.ifr_ifru.ifru_addr =
        unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(internet) };
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    Ok(configure(&socket, what, &request)?)
}
