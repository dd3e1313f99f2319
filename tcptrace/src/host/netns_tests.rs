//! Namespaces are found, entered and told apart; what holds none is passed over.

use super::*;

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
fn the_own_namespace_is_the_first_and_each_comes_once() {
    let mut found = Vec::new();
    find(|namespace| found.push(namespace.id)).unwrap();
    let own = Namespace::own().unwrap();
    assert_eq!(found[0], own.id);
    let inodes: HashSet<NetnsId> = found.iter().copied().collect();
    assert_eq!(inodes.len(), found.len());
}

#[test]
fn the_own_namespace_can_be_entered_without_rights() {
    let own = Namespace::own().unwrap();
    let inside = own.enter(|| Namespace::own().map(|inside| inside.id));
    assert_eq!(inside.unwrap().unwrap(), own.id);
}

#[test]
fn a_path_to_no_network_namespace_is_passed_over() {
    let found = std::cell::RefCell::new(Vec::new());
    let mut visit = |namespace: Namespace| found.borrow_mut().push(namespace.id);
    let mut search = NamespaceSearch::new(&mut visit);
    for path in ["/proc/version", "/proc/none", "/proc/self/ns/pid"] {
        let error = search.visit_path(7, Path::new(path)).unwrap_err();
        assert!(has_vanished(&error), "{path}: {error}");
    }
    search.visit_process(Path::new("/proc/none"));
    assert_eq!(found.borrow().len(), 0);
    assert!(search.refused_processes.is_empty());
    for (errno, vanished) in [
        (libc::EACCES, false),
        (libc::EMFILE, false),
        (libc::ESRCH, true),
        (libc::ENOENT, true),
    ] {
        assert_eq!(has_vanished(&io::Error::from_raw_os_error(errno)), vanished);
    }
    search.visit_path(9, Path::new(OWN)).unwrap();
    let own = found.borrow()[0];
    search.visit_path(own.inode, Path::new(OWN)).unwrap();
    assert_eq!(found.borrow().len(), 1);
}

#[test]
fn a_refused_process_is_elsewhere_unless_its_namespace_was_visited() {
    let mut visit = |_: Namespace| {};
    let mut search = NamespaceSearch::new(&mut visit);
    search.refused_processes = ["/proc/self", "/proc/none"].map(PathBuf::from).into();
    assert_eq!(search.elsewhere(), 1);
    search.visit_path(0, Path::new(OWN)).unwrap();
    assert_eq!(search.elsewhere(), 0);
}
