//! Sockets of this very process.

use std::{net::TcpListener, os::fd::AsRawFd as _, os::linux::fs::MetadataExt as _};

use super::*;

#[test]
fn a_socket_of_this_process_is_found_under_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let inode = fs::metadata(format!("/proc/self/fd/{}", listener.as_raw_fd()))
        .unwrap()
        .st_ino();
    let found = find(7);
    assert_eq!(found.began_ns, 7);
    if NamespaceKind::Pid.is_initial() == Some(true) {
        let (pid, comm) = found.by_inode[&inode];
        assert_eq!(pid, std::process::id());
        let name = fs::read("/proc/self/comm").unwrap();
        assert_eq!(comm, padded(name.strip_suffix(b"\n").unwrap()));
    } else {
        assert!(found.by_inode.is_empty());
    }
}

#[test]
fn a_search_answers_once() {
    let mut search = OwnerSearch::default();
    assert!(!search.is_under_way());
    search.begin(9);
    let found = loop {
        assert!(search.is_under_way());
        if let Some(found) = search.poll() {
            break found;
        }
        std::thread::yield_now();
    };
    assert_eq!(found.began_ns, 9);
    assert!(!search.is_under_way());
    assert!(search.poll().is_none());
}

#[test]
fn a_name_is_cut_where_the_kernel_cuts_it() {
    assert_eq!(padded(b"nginx"), *b"nginx\0\0\0\0\0\0\0\0\0\0\0");
    assert_eq!(padded(b"0123456789abcdefg"), *b"0123456789abcde\0");
}
