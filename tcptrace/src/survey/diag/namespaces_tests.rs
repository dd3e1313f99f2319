//! Namespaces are found, entered and told apart; what holds none is passed over.

use std::{process::Command, sync::mpsc::channel};

use nix::{
    mount::{MsFlags, mount},
    sched::unshare,
};

use super::*;
use crate::survey::diag::socket::tests::in_fresh_namespace;

#[test]
fn a_name_is_a_number_in_brackets() {
    assert_eq!(number(b"net:[4026531840]"), Some(4_026_531_840));
    for other in [
        "mnt:[4026531840]",
        "net:[]",
        "net:[4026531840",
        "net:[4294967296]",
        "/",
        "",
    ] {
        assert_eq!(number(other.as_bytes()), None, "{other}");
    }
}

#[test]
fn a_mount_of_a_network_namespace_is_known_by_its_line() {
    let line = |root: &str, place: &str, kind: &str| {
        net_mount(
            format!("361 25 0:4 {root} {place} rw shared:12 master:3 - {kind} {kind} rw")
                .as_bytes(),
        )
    };
    assert_eq!(
        line("net:[4026532200]", "/run/netns/a\\040b\\134", "nsfs"),
        Some((4_026_532_200, PathBuf::from("/run/netns/a b\\")))
    );
    assert_eq!(line("mnt:[4026532200]", "/run/snapd/ns/a", "nsfs"), None);
    assert_eq!(line("net:[4026532200]", "/mnt", "ext4"), None);
    assert_eq!(line("/", "/", "ext4"), None);
    assert_eq!(net_mount(b""), None);
    assert_eq!(net_mount(b"361 25 0:4 net:[4026532200] /run/netns/a"), None);
}

#[test]
fn only_whole_escapes_are_undone() {
    assert_eq!(unescape(b"a\\0"), b"a\\0");
    assert_eq!(unescape(b"\\999\\011"), b"\\999\t");
    assert_eq!(unescape(b"\\777"), b"\\777");
}

#[test]
fn the_own_namespace_is_the_first_and_each_comes_once() {
    let found = find().unwrap();
    let own = Namespace::own().unwrap();
    assert_eq!(found.namespaces[0].inode, own.inode);
    let inodes: HashSet<u32> = found.namespaces.iter().map(|one| one.inode).collect();
    assert_eq!(inodes.len(), found.namespaces.len());
}

#[test]
fn the_own_namespace_can_be_entered_without_rights() {
    let own = Namespace::own().unwrap();
    let inside = own.enter(|| Namespace::own().map(|inside| inside.inode));
    assert_eq!(inside.unwrap().unwrap(), own.inode);
}

#[test]
fn work_runs_inside_and_the_caller_stays_outside() {
    let (give, take) = channel();
    in_fresh_namespace(move |fresh| {
        let file = fresh.file.try_clone().unwrap();
        give.send(Namespace {
            inode: fresh.inode,
            file,
        })
        .unwrap();
    });
    let Ok(fresh) = take.recv() else { return };
    let outside = Namespace::own().unwrap().inode;
    let inside = fresh.enter(|| Namespace::own().unwrap().inode).unwrap();
    assert_eq!(inside, fresh.inode);
    assert_ne!(inside, outside);
    assert_eq!(Namespace::own().unwrap().inode, outside);
}

#[test]
fn what_is_no_namespace_is_not_taken() {
    let mut search = Search {
        device: Namespace::own().unwrap().file.metadata().unwrap().dev(),
        seen: HashSet::new(),
        found: Found {
            namespaces: Vec::new(),
            refused: 0,
        },
    };
    search.take(7, Path::new("/proc/version"));
    search.take(8, Path::new("/proc/none"));
    search.look_at_process(Path::new("/proc/none/ns/net"));
    assert_eq!(
        (search.found.namespaces.len(), search.found.refused),
        (0, 0)
    );
    for errno in [libc::EACCES, libc::EMFILE, libc::ESRCH, libc::ENOENT] {
        search.count(&io::Error::from_raw_os_error(errno));
    }
    assert_eq!(search.found.refused, 2);
    search.take(9, Path::new(OWN));
    search.take(search.found.namespaces[0].inode, Path::new(OWN));
    assert_eq!(search.found.namespaces.len(), 1);
}

#[test]
fn what_a_process_holds_is_found_and_once() {
    let (give, take) = channel();
    in_fresh_namespace(move |fresh| {
        // Two of them: it is to be found once.
        let children = [(); 2].map(|()| Command::new("sleep").arg("60").spawn().unwrap());
        give.send((fresh.inode, children)).unwrap();
    });
    let Ok((inode, children)) = take.recv() else {
        return;
    };
    let found = find();
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let found = found.unwrap().namespaces;
    assert_eq!(found.iter().filter(|one| one.inode == inode).count(), 1);
    assert_ne!(found[0].inode, inode);
}

#[test]
fn what_a_mount_holds_is_found() {
    in_fresh_namespace(|fresh| {
        let none = None::<&str>;
        // A mount namespace of this thread's own: nothing has to be undone.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/mnt", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        let place = Path::new("/mnt/a name");
        File::create(place).unwrap();
        mount(Some(OWN), place, none, MsFlags::MS_BIND, none).unwrap();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let found = find().unwrap().namespaces;
        assert_ne!(found[0].inode, fresh.inode);
        assert!(found.iter().any(|one| one.inode == fresh.inode));
    });
}
