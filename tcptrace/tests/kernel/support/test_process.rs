//! Processes with names of their own that do with sockets what they are told, one step at a time:
//! this test binary again, as a child that reads orders from its standard input.

use std::{
    ffi::CString,
    fs,
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{ChildStdin, Command, ExitCode, Stdio},
    thread,
};

use anyhow::{Context, bail};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, fcntl},
};
use socket2::{Domain, Socket, Type};

use super::{namespace::Namespace, program::Running};

/// Set in the child, to its name.
const NAME: &str = "TCPTRACE_TEST_PROCESS";
/// Set in one that takes over from another, to the descriptor of the listener that it inherits.
const LISTENER: &str = "TCPTRACE_TEST_LISTENER";

/// A process that does as it is told. Dropping it ends it.
pub(crate) struct TestProcess {
    running: Running,
    orders: Option<ChildStdin>,
}

impl TestProcess {
    /// Starts one in a namespace.
    pub(crate) fn start(namespace: &Namespace, name: &str) -> anyhow::Result<Self> {
        namespace.run(|| {
            let mut command = Command::new("/proc/self/exe");
            let command = command.env(NAME, name).stdin(Stdio::piped());
            let mut running = Running::start_with_input(command)?;
            Ok(Self {
                orders: running.take_input(),
                running,
            })
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Moves it into a cgroup, whose files are in this directory.
    pub(crate) fn enter(&self, cgroup: &Path) -> anyhow::Result<()> {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, self.pid().to_string())
            .with_context(|| format!("writing to {}", procs.display()))
    }

    /// Has it do something and waits until that is done.
    pub(crate) fn tell(&mut self, order: &str) -> anyhow::Result<String> {
        let orders = self
            .orders
            .as_mut()
            .context("a test process that has ended")?;
        writeln!(orders, "{order}").with_context(|| format!("telling a test process: {order}"))?;
        let answer = self.running.next_line();
        let answer = answer.with_context(|| format!("a test process's answer to: {order}"))?;
        match answer.split_once(' ') {
            Some(("done", result)) => Ok(result.to_owned()),
            _ => bail!("a test process told to {order} says: {answer}"),
        }
    }

    /// Listens, and answers where.
    pub(crate) fn listen(&mut self, address: &str) -> anyhow::Result<SocketAddr> {
        Ok(self.tell(&format!("listen {address}"))?.parse()?)
    }

    /// Connects, and answers from where.
    pub(crate) fn connect(&mut self, address: SocketAddr) -> anyhow::Result<SocketAddr> {
        Ok(self.tell(&format!("connect {address}"))?.parse()?)
    }

    /// Has it do several things.
    pub(crate) fn tell_all(&mut self, orders: &[&str]) -> anyhow::Result<()> {
        for order in orders {
            self.tell(order)?;
        }
        Ok(())
    }
}

impl Drop for TestProcess {
    fn drop(&mut self) {
        // The end of its orders is the end of it.
        drop(self.orders.take());
        drop(self.running.wait());
    }
}

/// What a child holds.
#[derive(Default)]
struct Orders {
    listener: Option<TcpListener>,
    stream: Option<TcpStream>,
}

/// In a child: does as told until there is nothing more to do. Elsewhere: nothing.
pub(crate) fn perform() -> Option<ExitCode> {
    let name = std::env::var(NAME).ok()?;
    let outcome = follow_orders(&name);
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("test process {name}: {error:#}");
            ExitCode::FAILURE
        }
    })
}

fn follow_orders(name: &str) -> anyhow::Result<()> {
    nix::sys::prctl::set_name(&CString::new(name)?)?;
    let mut strings = Orders::default();
    if let Ok(inherited) = std::env::var(LISTENER) {
        // SAFETY: whoever set this left the descriptor open, and nobody else here has it.
        let listener = unsafe { TcpListener::from_raw_fd(inherited.parse()?) };
        strings.listener = Some(listener);
        println!("done {}", std::process::id());
    }
    for order in io::stdin().lines() {
        let order = order?;
        let mut stdout = io::stdout().lock();
        match strings.follow(&order) {
            Ok(result) => writeln!(stdout, "done {result}")?,
            Err(error) => writeln!(stdout, "failed {error:#}")?,
        }
        stdout.flush()?;
    }
    Ok(())
}

impl Orders {
    fn follow(&mut self, order: &str) -> anyhow::Result<String> {
        let words: Vec<_> = order.split_whitespace().collect();
        match words[..] {
            ["listen", address] => return self.listen(address, |_| Ok(())),
            ["listen-sharing", address] => {
                return self.listen(address, |socket| socket.set_reuse_port(true));
            }
            ["listen-v6-only", address] => {
                return self.listen(address, |socket| socket.set_only_v6(true));
            }
            ["rename", name] => nix::sys::prctl::set_name(&CString::new(name)?)?,
            // Another program in the same process, which says that it is done.
            ["exec", name] => return Err(self.heir(name)?.exec().into()),
            // Another process has the listener, and does as it is told from now on; this one waits
            // for its end, or goes at once.
            ["hand-over", name] => {
                self.heir(name)?.status()?;
                std::process::exit(0);
            }
            ["leave-to", name] => {
                self.heir(name)?.spawn()?;
                std::process::exit(0);
            }
            ["connect", address] => return self.connected(TcpStream::connect(address)?),
            // As a thread with a name of its own would.
            ["connect-as", thread, address] => {
                let address = address.to_owned();
                let connect = thread::Builder::new()
                    .name(thread.to_owned())
                    .spawn(move || TcpStream::connect(address))?;
                let stream = connect
                    .join()
                    .map_err(|_| anyhow::anyhow!("the thread panicked"))??;
                return self.connected(stream);
            }
            ["accept"] => {
                let listener = self.listener.as_ref().context("no listener")?;
                self.stream = Some(listener.accept()?.0);
            }
            // From whom; nothing when nobody waits.
            ["accept-any"] => {
                let listener = self.listener.as_ref().context("no listener")?;
                listener.set_nonblocking(true)?;
                match listener.accept() {
                    Ok((_stream, from)) => return Ok(from.to_string()),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
            // As a thread with a name of its own would.
            ["accept-as", thread] => {
                let listener = self.listener.as_ref().context("no listener")?.try_clone()?;
                let accept = thread::Builder::new()
                    .name(thread.to_owned())
                    .spawn(move || listener.accept())?;
                let accepted = accept
                    .join()
                    .map_err(|_| anyhow::anyhow!("the thread panicked"))?;
                self.stream = Some(accepted?.0);
            }
            // The listener of another process, as if that had passed it on (SCM_RIGHTS).
            ["take", pid, fd] => {
                self.listener = Some(take(pid.parse()?, fd.parse()?)?);
            }
            ["listener"] => {
                let listener = self.listener.as_ref().context("no listener")?;
                return Ok(listener.as_raw_fd().to_string());
            }
            ["send", count] => self.stream()?.write_all(&vec![b'x'; count.parse()?])?,
            ["receive", count] => self.stream()?.read_exact(&mut vec![0; count.parse()?])?,
            ["receive-end"] => {
                self.stream()?.read_to_end(&mut Vec::new())?;
            }
            ["half-close"] => self.stream()?.shutdown(Shutdown::Write)?,
            ["close"] => drop(self.stream.take().context("no connection")?),
            ["stop-listening"] => drop(self.listener.take().context("no listener")?),
            _ => bail!("what?"),
        }
        Ok(String::new())
    }

    fn listen(
        &mut self,
        address: &str,
        set: impl FnOnce(&Socket) -> io::Result<()>,
    ) -> anyhow::Result<String> {
        let address: SocketAddr = address.parse()?;
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        set(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(16)?;
        let listener = TcpListener::from(socket);
        let address = listener.local_addr()?;
        self.listener = Some(listener);
        Ok(address.to_string())
    }

    /// This program again, which inherits the listener.
    fn heir(&self, name: &str) -> anyhow::Result<Command> {
        let listener = self.listener.as_ref().context("no listener")?;
        fcntl(listener.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
        let mut command = Command::new("/proc/self/exe");
        command
            .env(NAME, name)
            .env(LISTENER, listener.as_raw_fd().to_string());
        Ok(command)
    }

    fn connected(&mut self, stream: TcpStream) -> anyhow::Result<String> {
        let address = stream.local_addr()?;
        self.stream = Some(stream);
        Ok(address.to_string())
    }

    fn stream(&mut self) -> anyhow::Result<&mut TcpStream> {
        self.stream.as_mut().context("no connection")
    }
}

/// A descriptor of another process (pidfd_getfd(2)).
fn take(pid: libc::pid_t, fd: libc::c_int) -> anyhow::Result<TcpListener> {
    // SAFETY: both calls take numbers, and give out a descriptor or an error.
    unsafe {
        let process = Errno::result(libc::syscall(libc::SYS_pidfd_open, pid, 0))?;
        let taken = Errno::result(libc::syscall(libc::SYS_pidfd_getfd, process, fd, 0))?;
        libc::close(process.try_into()?);
        Ok(TcpListener::from_raw_fd(taken.try_into()?))
    }
}
