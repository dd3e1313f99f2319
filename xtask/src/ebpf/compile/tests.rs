//! Paths that must not be in an object.

use super::Paths;

#[test]
fn a_path_of_this_machine_is_found_and_a_remapped_one_is_not_mistaken_for_it() {
    let paths = |root: &str| Paths {
        root: root.into(),
        cargo_home: "/home/someone/.cargo".into(),
        registries: vec!["/home/someone/.cargo/registry/src/index".into()],
        rust_sources: vec!["/usr/lib/rustlib/src/rust".into()],
        bindings: String::new(),
    };
    let remapped =
        "\0./tcptrace-ebpf/src/main.rs\0crates/aya-ebpf-0.2.1/src/lib.rs\0rust/library\0";
    for (root, object, is_clean) in [
        (
            "/home/someone/tcptrace",
            "\0/home/someone/tcptrace/src/main.rs\0",
            false,
        ),
        (
            "/src",
            "a message/home/someone/.cargo/registry/src/index/aya/lib.rs",
            false,
        ),
        (
            "/src",
            "/usr/lib/rustlib/src/rust/library/core/src/option.rs\0",
            false,
        ),
        ("/src", "\0/src/tcptrace-ebpf/src/main.rs\0", false),
        ("/home/someone/tcptrace", remapped, true),
        ("/src", remapped, true),
        ("/tcptrace-ebpf", remapped, true),
    ] {
        let outcome = paths(root).check(object.as_bytes());
        assert_eq!(outcome.is_ok(), is_clean, "{root} {object:?}: {outcome:?}");
    }
}
