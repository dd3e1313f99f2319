//! The running kernel is asked, in network namespaces of the tests' own (which takes root).

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, unshare};
use socket2::SockRef;
use tcptrace_common::TcpState;

use super::*;

const ALL: u32 = u32::MAX;

/// Runs `test` on a thread in a namespace of its own with lo up, or says why not.
pub(in crate::survey::diag) fn in_fresh_namespace(test: impl FnOnce(&Namespace) + Send) {
    thread::scope(|scope| {
        scope.spawn(|| match unshare(CloneFlags::CLONE_NEWNET) {
            Ok(()) => {
                bring_lo_up().unwrap();
                test(&Namespace::own().unwrap());
            }
            Err(errno) => eprintln!("skipped: needs root (a network namespace: {errno})"),
        });
    });
}

fn bring_lo_up() -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    // SAFETY: zeros are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap();
    // SAFETY: SIOCSIFFLAGS reads an ifreq with a name and flags.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A connection, and the listener it came through.
struct Pair {
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    /// Listens on `at`, connects to `to` there.
    fn make(at: IpAddr, to: IpAddr) -> Self {
        let listener = TcpListener::bind((at, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = TcpStream::connect((to, port)).unwrap();
        let (server, _) = listener.accept().unwrap();
        Self {
            listener,
            client,
            server,
        }
    }

    fn local() -> Self {
        Self::make(Ipv4Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into())
    }

    fn client_tuple(&self) -> Tuple {
        tuple_of(&self.client)
    }

    fn server_tuple(&self) -> Tuple {
        tuple_of(&self.server)
    }
}

fn tuple_of(stream: &TcpStream) -> Tuple {
    let canonical = |address: SocketAddr| (address.ip().to_canonical(), address.port());
    let (local_address, local_port) = canonical(stream.local_addr().unwrap());
    let (remote_address, remote_port) = canonical(stream.peer_addr().unwrap());
    Tuple {
        local_address,
        remote_address,
        local_port,
        remote_port,
        interface: 0,
    }
}

fn dump(diag: &mut Diag, family: Family, states: u32) -> Vec<DiagSocket> {
    let mut sockets = Vec::new();
    let outcome = diag
        .dump(family, states, |socket| sockets.push(socket))
        .unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(outcome.sockets as usize, sockets.len());
    sockets
}

/// Looks until it is in that state; the kernel needs a moment for a FIN.
fn wait_for(diag: &mut Diag, tuple: &Tuple, state: Option<TcpState>) -> Option<DiagSocket> {
    for _ in 0..200 {
        let found = diag.lookup(tuple, None).unwrap();
        if found.map(|socket| socket.state) == state {
            return found;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("never {state:?}: {:?}", diag.lookup(tuple, None));
}

#[test]
fn a_dump_shows_both_ends_and_a_lookup_the_same() {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let mut diag = Diag::here().unwrap();
        let sockets = dump(&mut diag, Family::V4, 1 << TcpState::Established as u32);
        assert_eq!(sockets.len(), 2);
        for tuple in [pair.client_tuple(), pair.server_tuple()] {
            let shown = sockets.iter().find(|socket| socket.tuple == tuple).unwrap();
            assert_ne!(shown.cookie, 0);
            assert_ne!(shown.inode, 0);
            assert!(!shown.is_minisocket());
            assert_eq!(shown.uid, Some(nix::unistd::geteuid().as_raw()));
            for cookie in [None, Some(shown.cookie)] {
                let found = diag.lookup(&tuple, cookie).unwrap().unwrap();
                assert_eq!(found.cookie, shown.cookie);
                assert_eq!(found.tuple, tuple);
                assert_eq!(found.inode, shown.inode);
                assert_eq!(found.state, TcpState::Established);
            }
            assert_eq!(
                diag.lookup(&tuple, Some(shown.cookie + 1000)).unwrap(),
                None
            );
        }
        assert_ne!(sockets[0].cookie, sockets[1].cookie);
        let listening = dump(&mut diag, Family::V4, 1 << TcpState::Listen as u32);
        assert_eq!(listening.len(), 1);
        assert_eq!(dump(&mut diag, Family::V4, ALL).len(), 3);
        assert_eq!(dump(&mut diag, Family::V6, ALL), []);
    });
}

#[test]
fn the_cookie_is_the_one_the_application_sees() {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let shown = Diag::here()
            .unwrap()
            .lookup(&pair.client_tuple(), None)
            .unwrap()
            .unwrap();
        assert_eq!(SockRef::from(&pair.client).cookie().unwrap(), shown.cookie);
    });
}

#[test]
fn bytes_and_segments_are_counted() {
    in_fresh_namespace(|_| {
        let mut pair = Pair::local();
        pair.client.write_all(&[7; 1000]).unwrap();
        pair.server.read_exact(&mut [0; 1000]).unwrap();
        pair.server.write_all(&[8; 10]).unwrap();
        pair.client.read_exact(&mut [0; 10]).unwrap();
        let mut diag = Diag::here().unwrap();
        let found = diag.lookup(&pair.client_tuple(), None).unwrap().unwrap();
        let info = found.tcp_info.unwrap();
        assert_eq!((info.bytes_sent, info.bytes_received), (1000, 10));
        assert_eq!((info.bytes_retrans, info.total_retrans), (0, 0));
        // The SYN counts.
        assert_eq!(info.bytes_acked, 1001);
        assert!(info.segs_out >= 3 && info.segs_in >= 2, "{info:?}");
        assert!(info.rtt_us > 0);
        // The attribute came with Linux 5.7, but only where the kernel has cgroups.
        if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            assert!(found.cgroup.is_some_and(|id| id > 0), "{found:?}");
        }
    });
}

#[test]
fn after_both_closed_there_is_a_time_wait_minisocket() {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let (client, server) = (pair.client_tuple(), pair.server_tuple());
        let mut diag = Diag::here().unwrap();
        let cookie = diag.lookup(&client, None).unwrap().unwrap().cookie;
        drop(pair.client);
        drop(pair.server);
        let left = wait_for(&mut diag, &client, Some(TcpState::TimeWait)).unwrap();
        assert!(left.is_minisocket());
        assert_eq!((left.timer, left.inode, left.uid), (3, 0, None));
        assert_eq!(left.cookie, cookie);
        assert_eq!((left.tcp_info, left.cgroup), (None, None));
        assert!(
            left.expires_ms > 1000 && left.expires_ms <= 61_000,
            "{left:?}"
        );
        assert!(diag.lookup(&client, Some(cookie)).unwrap().is_some());
        // The one that closed last leaves nothing; its port still has a listener.
        wait_for(&mut diag, &server, None);
        assert_eq!(
            pair.listener.local_addr().unwrap().port(),
            server.local_port
        );
        let shown = dump(&mut diag, Family::V4, 1 << TcpState::TimeWait as u32);
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].tuple, shown[0].cookie), (client, cookie));
    });
}

#[test]
fn a_half_closed_orphan_is_a_fin_wait2_minisocket() {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let client = pair.client_tuple();
        let mut diag = Diag::here().unwrap();
        let cookie = diag.lookup(&client, None).unwrap().unwrap().cookie;
        // Only shut down, it is a full socket still.
        pair.client.shutdown(Shutdown::Write).unwrap();
        let full = wait_for(&mut diag, &client, Some(TcpState::FinWait2)).unwrap();
        assert!(!full.is_minisocket());
        assert_ne!(full.inode, 0);
        drop(pair.client);
        let left = wait_for(&mut diag, &client, Some(TcpState::FinWait2)).unwrap();
        assert!(left.is_minisocket());
        assert_eq!((left.timer, left.inode, left.cookie), (3, 0, cookie));
        let other = diag.lookup(&tuple_of(&pair.server), None).unwrap().unwrap();
        assert_eq!(other.state, TcpState::CloseWait);
        // A dump asks for the state that is shown.
        let shown = dump(&mut diag, Family::V4, 1 << TcpState::FinWait2 as u32);
        assert_eq!(
            shown.iter().map(|socket| socket.cookie).collect::<Vec<_>>(),
            [cookie]
        );
    });
}

#[test]
fn what_is_gone_is_none_though_its_port_has_a_listener() {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let (client, server) = (pair.client_tuple(), pair.server_tuple());
        let mut diag = Diag::here().unwrap();
        let listener = dump(&mut diag, Family::V4, 1 << TcpState::Listen as u32)[0];
        SockRef::from(&pair.client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(pair.client);
        drop(pair.server);
        wait_for(&mut diag, &client, None);
        wait_for(&mut diag, &server, None);
        assert_eq!(dump(&mut diag, Family::V4, ALL), [listener]);
        drop(pair.listener);
        assert_eq!(diag.lookup(&server, None).unwrap(), None);
    });
}

#[test]
fn ipv4_over_an_ipv6_socket_is_found_by_its_ipv4_addresses() {
    in_fresh_namespace(|_| {
        let Ok(probe) = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) else {
            eprintln!("skipped: no IPv6");
            return;
        };
        drop(probe);
        let pair = Pair::make(Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into());
        let server = pair.server_tuple();
        assert!(server.local_address.is_ipv4());
        let mut diag = Diag::here().unwrap();
        let shown = dump(&mut diag, Family::V6, 1 << TcpState::Established as u32);
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].tuple, server);
        let found = diag
            .lookup(&server, Some(shown[0].cookie))
            .unwrap()
            .unwrap();
        assert_eq!((found.family, found.cookie), (Family::V6, shown[0].cookie));
        // As a minisocket as well.
        drop(pair.server);
        drop(pair.client);
        let left = wait_for(&mut diag, &server, Some(TcpState::TimeWait)).unwrap();
        assert_eq!((left.family, left.cookie), (Family::V6, shown[0].cookie));
        assert!(left.is_minisocket());
    });
}

#[test]
fn ipv6_is_found() {
    in_fresh_namespace(|_| {
        if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            eprintln!("skipped: no IPv6");
            return;
        }
        let pair = Pair::make(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        let mut diag = Diag::here().unwrap();
        for tuple in [pair.client_tuple(), pair.server_tuple()] {
            let found = diag.lookup(&tuple, None).unwrap().unwrap();
            assert_eq!((found.tuple, found.family), (tuple, Family::V6));
        }
        assert_eq!(dump(&mut diag, Family::V6, ALL).len(), 3);
    });
}

#[test]
fn a_socket_bound_to_an_interface_is_found_by_it_only() {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let mut diag = Diag::here().unwrap();
        let mut client = pair.client_tuple();
        SockRef::from(&pair.client)
            .bind_device(Some(b"lo"))
            .unwrap();
        assert_eq!(diag.lookup(&client, None).unwrap(), None);
        let shown = dump(&mut diag, Family::V4, 1 << TcpState::Established as u32);
        let bound = shown
            .iter()
            .find(|socket| socket.tuple.same_ends(&client))
            .unwrap();
        assert_ne!(bound.tuple.interface, 0);
        client.interface = bound.tuple.interface;
        let found = diag.lookup(&client, None).unwrap().unwrap();
        assert_eq!((found.tuple, found.cookie), (client, bound.cookie));
        // An interface is no hindrance to what is not bound.
        let mut server = pair.server_tuple();
        server.interface = client.interface;
        assert!(diag.lookup(&server, None).unwrap().is_some());
    });
}

#[test]
fn a_long_dump_comes_in_parts() {
    in_fresh_namespace(|_| {
        // The kernel gives at most 32 KiB at once, some 80 sockets with their tcp_info.
        let mut pairs = Vec::new();
        for _ in 0..60 {
            pairs.push(Pair::local());
        }
        let mut diag = Diag::here().unwrap();
        let shown = dump(&mut diag, Family::V4, 1 << TcpState::Established as u32);
        assert_eq!(shown.len(), 120);
        for tuple in pairs
            .iter()
            .flat_map(|pair| [pair.client_tuple(), pair.server_tuple()])
        {
            assert_eq!(
                shown.iter().filter(|socket| socket.tuple == tuple).count(),
                1
            );
        }
    });
}

#[test]
fn a_namespace_is_asked_from_outside() {
    let (give, take) = channel();
    let (finish, finished) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            in_fresh_namespace(move |fresh| {
                let pair = Pair::local();
                let file = fresh.file.try_clone().unwrap();
                let inode = fresh.inode;
                give.send((Namespace { inode, file }, pair.client_tuple()))
                    .unwrap();
                // An error is the end as well.
                assert!(finished.recv().is_err());
            });
        });
        let Ok((namespace, client)) = take.recv() else {
            return;
        };
        let mut diag = Diag::open(&namespace).unwrap();
        let found = diag.lookup(&client, None);
        let outside = Diag::here().unwrap().lookup(&client, None);
        // The one inside must be let go before anything can fail.
        drop(finish);
        assert_eq!(found.unwrap().unwrap().tuple, client);
        assert_eq!(outside.unwrap(), None);
    });
}

#[test]
fn a_tuple_of_two_families_is_none() {
    let Ok(mut diag) = Diag::here() else {
        eprintln!("skipped: no sock_diag");
        return;
    };
    let tuple = Tuple {
        local_address: Ipv4Addr::LOCALHOST.into(),
        remote_address: Ipv6Addr::LOCALHOST.into(),
        local_port: 1,
        remote_port: 2,
        interface: 0,
    };
    assert_eq!(diag.lookup(&tuple, None).unwrap(), None);
}

#[test]
fn who_gets_no_answer_does_not_hang_and_can_go_on() {
    let Ok(mut diag) = Diag::here() else {
        eprintln!("skipped: no sock_diag");
        return;
    };
    assert_eq!(diag.receive().unwrap_err(), Errno::EAGAIN);
    // A question that was given up: its answers are passed over.
    diag.send(&Request::dump(diag.sequence + 1000, Family::V4, 0))
        .unwrap();
    assert_eq!(
        diag.dump(Family::V4, 0, |_| {}).unwrap(),
        DumpOutcome::default()
    );
}

#[test]
fn what_the_kernel_says_becomes_advice() {
    let said = |errno| DiagError::refused(errno).to_string();
    assert!(said(libc::ENOENT).contains("modprobe tcp_diag"));
    assert!(said(libc::EPERM).contains("not permitted"));
    assert!(said(libc::EINVAL).contains("refuses"));
    assert!(matches!(
        DiagError::hearing(Errno::EAGAIN),
        DiagError::Timeout
    ));
}
