//! What the programs need, asked of this kernel's own BTF and of kernels that moved things.

use std::path::PathBuf;

use tcptrace_common::sock_common;

use super::*;
use crate::probe::layout::{KERNEL_BTF, KernelTypes};

#[test]
fn this_kernel_has_every_field_and_sock_common_where_it_is_compiled_in() {
    let path = Path::new(KERNEL_BTF);
    if !path.exists() {
        println!("skipped: this kernel has no {KERNEL_BTF}");
        return;
    }
    let tracepoints = [
        "inet_sock_set_state",
        "tcp_receive_reset",
        "no_such_tracepoint",
    ];
    let types = KernelTypes::read(path, &tracepoints, &["inet_csk_accept"]).unwrap();
    assert_eq!(types.missing(), []);
    assert!(types.has_tracepoint("inet_sock_set_state"));
    assert!(types.has_tracepoint("tcp_receive_reset"));
    assert!(!types.has_tracepoint("no_such_tracepoint"));

    let btf = Btf::parse(
        read(path).unwrap(),
        &["sock_common", "btf_trace_tcp_receive_reset"],
    )
    .unwrap();
    assert_eq!(
        btf.offset("sock_common", "skc_state", 1).unwrap() as usize,
        sock_common::SKC_STATE
    );
    assert_eq!(
        btf.offset("sock_common", "skc_cookie", 8).unwrap() as usize,
        sock_common::SKC_COOKIE
    );
    // What the loader gets has the same number.
    let name = "btf_trace_tcp_receive_reset";
    let brief = Btf::parse(types.named_only(), &[name]).unwrap();
    assert_eq!(
        brief.typedef_id(name).unwrap(),
        btf.typedef_id(name).unwrap()
    );
}

/// A file of its own for each test, gone afterwards.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn new(name: &str, bytes: &[u8]) -> Self {
        let name = format!("tcptrace-test-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // A file left behind is no reason to fail.
        drop(std::fs::remove_file(&self.0));
    }
}

/// A kernel that has `struct sock_common` and nothing else, `moved` 8 bytes further than usual.
fn kernel_with_moved(moved: &str) -> Builder {
    let mut types = Builder::default();
    let byte = types.int("unsigned char", 1);
    let members = sock_common::ALL.map(|(name, offset, width)| {
        let offset = if name == moved { offset + 8 } else { offset };
        let bits = u32::try_from(offset * 8).unwrap();
        (name, types.array(byte, width), bits)
    });
    types.structure("sock_common", 136, &members);
    types
}

#[test]
fn a_sock_common_that_moved_is_refused_by_the_fields_name() {
    for (name, offset, _) in sock_common::ALL {
        let file = TemporaryFile::new(name, &kernel_with_moved(name).bytes());
        let error = KernelTypes::read(&file.0, &[], &[]).err().unwrap();
        let moved = offset + 8;
        let text = format!(
            "the kernel's struct sock_common has no field {name} at byte {offset} (it is at {moved})"
        );
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn a_kernel_that_lacks_a_struct_is_refused_by_its_name() {
    let file = TemporaryFile::new("lacks", &kernel_with_moved("").bytes());
    let error = KernelTypes::read(&file.0, &[], &[]).err().unwrap();
    assert_eq!(error.to_string(), "the kernel has no struct sock");
}

#[test]
fn a_renamed_field_costs_its_group_and_no_more() {
    let Ok(bytes) = std::fs::read(KERNEL_BTF) else {
        println!("skipped: this kernel has no {KERNEL_BTF}");
        return;
    };
    for (field, what) in [
        ("sk_uid", "a socket's user"),
        ("sk_cgrp_data", "a socket's cgroup"),
        ("group_leader", "a task's process"),
        ("snd_wnd", "the fields of a closing socket"),
        ("rskq_defer_accept", "a listener's TCP_DEFER_ACCEPT"),
    ] {
        let file = TemporaryFile::new(field, &renamed(&bytes, field));
        let types = KernelTypes::read(&file.0, &[], &[]).unwrap();
        let missing: Vec<_> = types.missing().iter().map(|group| group.what).collect();
        assert_eq!(missing, [what], "without {field}");
    }
}

/// The same types with another name for a field.
fn renamed(btf: &[u8], field: &str) -> Vec<u8> {
    let name = format!("\0{field}\0");
    let at = btf
        .windows(name.len())
        .position(|window| window == name.as_bytes())
        .expect("a field of that name");
    let mut btf = btf.to_vec();
    btf[at + 1] = b'X';
    btf
}
