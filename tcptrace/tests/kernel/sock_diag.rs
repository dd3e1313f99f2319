//! The kernel's own table of sockets is asked, and its network namespaces are found.

#![expect(
    clippy::unwrap_used,
    reason = "what cannot be asked is the failure of the test, and panics say where"
)]

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::Duration,
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};
use socket2::SockRef;
use tcptrace::testing::{Diag, DiagFamily, DiagSocket, Namespace, Tuple, find};
use tcptrace_common::TcpState;

use crate::support::{
    self, Check, ignored,
    namespace::{bring_lo_up, in_thread},
    tests,
};

tests![
    a_dump_shows_both_ends_and_a_lookup_the_same,
    the_cookie_is_the_one_the_application_sees,
    a_socket_has_its_cgroup,
    after_both_closed_there_is_a_time_wait_minisocket,
    a_half_closed_orphan_is_a_fin_wait2_minisocket,
    a_lookup_of_a_gone_socket_does_not_find_its_listener,
    ipv4_over_an_ipv6_socket_is_found_by_its_ipv4_addresses,
    ipv6_is_found,
    a_socket_bound_to_an_interface_is_found_by_it_only,
    a_long_dump_comes_in_parts,
    a_namespace_is_asked_from_outside,
    a_tuple_of_two_families_is_none,
    work_runs_inside_and_the_caller_stays_outside,
    a_namespace_held_by_processes_is_found_once,
    a_namespace_held_by_a_mount_is_found,
];

const ALL: u32 = u32::MAX;

/// Runs `test` on a thread in a namespace of its own, in which there is no socket.
fn in_fresh_namespace(test: impl FnOnce(&Namespace) + Send) -> Check {
    in_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|why| ignored(format!("no network namespace can be made: {why}")))?;
        bring_lo_up()?;
        test(&Namespace::own()?);
        Ok(())
    })
}

fn require_ipv6() -> Check {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0))
        .map(drop)
        .map_err(|why| ignored(format!("no IPv6: {why}")))
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

fn dump(diag: &mut Diag, family: DiagFamily, states: u32) -> Vec<DiagSocket> {
    let mut sockets = Vec::new();
    let outcome = diag
        .dump(family, states, |socket| sockets.push(socket))
        .unwrap();
    assert!(outcome.is_complete(), "{outcome:?}");
    assert_eq!(outcome.sockets as usize, sockets.len());
    sockets
}

/// Waits until it is in that state; the kernel needs a moment for a FIN.
fn wait_for(diag: &mut Diag, tuple: &Tuple, state: Option<TcpState>) -> Option<DiagSocket> {
    let look = || {
        let found = diag.lookup(tuple, None)?;
        Ok((found.map(|socket| socket.state) == state).then_some(found))
    };
    support::wait_for(&format!("{state:?}"), look).unwrap()
}

fn a_dump_shows_both_ends_and_a_lookup_the_same() -> Check {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let mut diag = Diag::here().unwrap();
        let sockets = dump(&mut diag, DiagFamily::V4, 1 << TcpState::Established as u32);
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
        let listening = dump(&mut diag, DiagFamily::V4, 1 << TcpState::Listen as u32);
        assert_eq!(listening.len(), 1);
        assert_eq!(dump(&mut diag, DiagFamily::V4, ALL).len(), 3);
        assert_eq!(dump(&mut diag, DiagFamily::V6, ALL), []);
    })
}

fn the_cookie_is_the_one_the_application_sees() -> Check {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let shown = Diag::here()
            .unwrap()
            .lookup(&pair.client_tuple(), None)
            .unwrap()
            .unwrap();
        assert_eq!(SockRef::from(&pair.client).cookie().unwrap(), shown.cookie);
    })
}

fn a_socket_has_its_cgroup() -> Check {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let mut diag = Diag::here().unwrap();
        let found = diag.lookup(&pair.client_tuple(), None).unwrap().unwrap();
        // The attribute came with Linux 5.7, but only where the kernel has cgroups.
        if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            assert!(found.cgroup.is_some_and(|id| id > 0), "{found:?}");
        }
    })
}

fn after_both_closed_there_is_a_time_wait_minisocket() -> Check {
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
        assert_eq!(left.cgroup, None);
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
        let shown = dump(&mut diag, DiagFamily::V4, 1 << TcpState::TimeWait as u32);
        assert_eq!(shown.len(), 1);
        assert_eq!((shown[0].tuple, shown[0].cookie), (client, cookie));
    })
}

fn a_half_closed_orphan_is_a_fin_wait2_minisocket() -> Check {
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
        let shown = dump(&mut diag, DiagFamily::V4, 1 << TcpState::FinWait2 as u32);
        assert_eq!(
            shown.iter().map(|socket| socket.cookie).collect::<Vec<_>>(),
            [cookie]
        );
    })
}

fn a_lookup_of_a_gone_socket_does_not_find_its_listener() -> Check {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let (client, server) = (pair.client_tuple(), pair.server_tuple());
        let mut diag = Diag::here().unwrap();
        let listener = dump(&mut diag, DiagFamily::V4, 1 << TcpState::Listen as u32)[0];
        SockRef::from(&pair.client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(pair.client);
        drop(pair.server);
        wait_for(&mut diag, &client, None);
        wait_for(&mut diag, &server, None);
        assert_eq!(dump(&mut diag, DiagFamily::V4, ALL), [listener]);
        drop(pair.listener);
        assert_eq!(diag.lookup(&server, None).unwrap(), None);
    })
}

fn ipv4_over_an_ipv6_socket_is_found_by_its_ipv4_addresses() -> Check {
    require_ipv6()?;
    in_fresh_namespace(|_| {
        let pair = Pair::make(Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into());
        let server = pair.server_tuple();
        assert!(server.local_address.is_ipv4());
        let mut diag = Diag::here().unwrap();
        let shown = dump(&mut diag, DiagFamily::V6, 1 << TcpState::Established as u32);
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].tuple, server);
        let found = diag
            .lookup(&server, Some(shown[0].cookie))
            .unwrap()
            .unwrap();
        assert_eq!(
            (found.family, found.cookie),
            (DiagFamily::V6, shown[0].cookie)
        );
        // As a minisocket as well.
        drop(pair.server);
        drop(pair.client);
        let left = wait_for(&mut diag, &server, Some(TcpState::TimeWait)).unwrap();
        assert_eq!(
            (left.family, left.cookie),
            (DiagFamily::V6, shown[0].cookie)
        );
        assert!(left.is_minisocket());
    })
}

fn ipv6_is_found() -> Check {
    require_ipv6()?;
    in_fresh_namespace(|_| {
        let pair = Pair::make(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
        let mut diag = Diag::here().unwrap();
        for tuple in [pair.client_tuple(), pair.server_tuple()] {
            let found = diag.lookup(&tuple, None).unwrap().unwrap();
            assert_eq!((found.tuple, found.family), (tuple, DiagFamily::V6));
        }
        assert_eq!(dump(&mut diag, DiagFamily::V6, ALL).len(), 3);
    })
}

fn a_socket_bound_to_an_interface_is_found_by_it_only() -> Check {
    in_fresh_namespace(|_| {
        let pair = Pair::local();
        let mut diag = Diag::here().unwrap();
        let mut client = pair.client_tuple();
        SockRef::from(&pair.client)
            .bind_device(Some(b"lo"))
            .unwrap();
        assert_eq!(diag.lookup(&client, None).unwrap(), None);
        let shown = dump(&mut diag, DiagFamily::V4, 1 << TcpState::Established as u32);
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
    })
}

fn a_long_dump_comes_in_parts() -> Check {
    in_fresh_namespace(|_| {
        // The kernel gives at most 32 KiB at once, some 300 sockets.
        let mut pairs = Vec::new();
        for _ in 0..200 {
            pairs.push(Pair::local());
        }
        let mut diag = Diag::here().unwrap();
        let shown = dump(&mut diag, DiagFamily::V4, 1 << TcpState::Established as u32);
        assert_eq!(shown.len(), 400);
        for tuple in pairs
            .iter()
            .flat_map(|pair| [pair.client_tuple(), pair.server_tuple()])
        {
            assert_eq!(
                shown.iter().filter(|socket| socket.tuple == tuple).count(),
                1
            );
        }
    })
}

fn a_namespace_is_asked_from_outside() -> Check {
    let outside = Namespace::own()?;
    in_fresh_namespace(|fresh| {
        let client = Pair::local();
        let tuple = client.client_tuple();
        let from_outside = outside.enter(|| {
            let found = Diag::open(fresh).unwrap().lookup(&tuple, None).unwrap();
            let none = Diag::here().unwrap().lookup(&tuple, None).unwrap();
            (found.map(|socket| socket.tuple), none)
        });
        assert_eq!(from_outside.unwrap(), (Some(tuple), None));
    })
}

fn a_tuple_of_two_families_is_none() -> Check {
    in_fresh_namespace(|_| {
        let tuple = Tuple {
            local_address: Ipv4Addr::LOCALHOST.into(),
            remote_address: Ipv6Addr::LOCALHOST.into(),
            local_port: 1,
            remote_port: 2,
            interface: 0,
        };
        assert_eq!(Diag::here().unwrap().lookup(&tuple, None).unwrap(), None);
    })
}

fn work_runs_inside_and_the_caller_stays_outside() -> Check {
    let outside = Namespace::own()?;
    in_fresh_namespace(|fresh| {
        let inode = || Namespace::own().unwrap().id.inode;
        let work = || (fresh.enter(inode).unwrap(), inode());
        let (inside, caller) = outside.enter(work).unwrap();
        assert_eq!((inside, caller), (fresh.id.inode, outside.id.inode));
        assert_ne!(inside, caller);
    })
}

fn a_namespace_held_by_processes_is_found_once() -> Check {
    let outside = Namespace::own()?;
    let sleep = || Command::new("sleep").arg("60").spawn();
    match sleep() {
        Ok(mut child) => {
            child.kill()?;
            child.wait()?;
        }
        Err(why) => return Err(ignored(format!("sleep cannot be run: {why}"))),
    }
    in_fresh_namespace(|fresh| {
        // Two of them: it is to be found once.
        let children = [(); 2].map(|()| sleep().unwrap());
        let found = outside.enter(|| {
            let mut found = Vec::new();
            find(|namespace| found.push(namespace.id.inode)).map(|_| found)
        });
        let found = found.unwrap();
        for mut child in children {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let found = found.unwrap();
        let count = found.iter().filter(|&&one| one == fresh.id.inode).count();
        assert_eq!(count, 1);
        assert_ne!(found[0], fresh.id.inode);
    })
}

fn a_namespace_held_by_a_mount_is_found() -> Check {
    const OWN: &str = "/proc/thread-self/ns/net";
    in_fresh_namespace(|fresh| {
        let none = None::<&str>;
        // A mount namespace of this thread's own: nothing has to be undone.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path();
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let place = place.join("a name");
        File::create(&place).unwrap();
        mount(Some(OWN), &place, none, MsFlags::MS_BIND, none).unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let mut found = Vec::new();
        find(|namespace| found.push(namespace.id.inode)).unwrap();
        assert_ne!(found[0], fresh.id.inode);
        assert!(found.contains(&fresh.id.inode));
        umount2(directory.path(), MntFlags::MNT_DETACH).unwrap();
    })
}
