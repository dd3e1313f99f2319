//! Which paths may not stand in an object.

use super::Paths;

/// A machine whose workspace lies at `workspace`.
fn paths(workspace: &str) -> Paths {
    Paths {
        root: workspace.into(),
        cargo_home: "/home/someone/.cargo".into(),
        registries: vec!["/home/someone/.cargo/registry/src/index".into()],
        rust_sources: vec!["/usr/lib/rustlib/src/rust".into()],
        bindings: String::new(),
    }
}

#[test]
fn a_path_of_this_machine_is_found_wherever_it_stands() {
    let paths = paths("/home/someone/tcptrace");
    for object in [
        "\0/home/someone/tcptrace/tcptrace-ebpf/src/main.rs\0",
        "a message/home/someone/.cargo/registry/src/index/aya-ebpf-0.2.1/src/lib.rs",
        "/usr/lib/rustlib/src/rust/library/core/src/option.rs\0",
    ] {
        let error = paths.check(object.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("of this machine"), "{error}");
    }
}

#[test]
fn a_remapped_path_is_not_mistaken_for_one() {
    let object = "\0./tcptrace-ebpf/src/main.rs\0crates/aya-ebpf-0.2.1/src/lib.rs\0rust/library\0";
    for workspace in ["/home/someone/tcptrace", "/src", "/tcptrace-ebpf"] {
        paths(workspace).check(object.as_bytes()).unwrap();
    }
    assert!(
        paths("/src")
            .check(b"\0/src/tcptrace-ebpf/src/main.rs\0")
            .is_err()
    );
}
