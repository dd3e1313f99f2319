//! Which packages of a lock file count.

use super::{super::scratch::Scratch, closure};

#[test]
fn holds_what_the_programs_need_and_nothing_else() {
    let workspace = Scratch::workspace("lock");
    let closure = closure(workspace.path()).unwrap();
    let entries: Vec<String> = closure
        .iter()
        .map(|(name, id)| format!("{name}: {id}"))
        .collect();
    assert_eq!(
        entries,
        [
            "aya-ebpf 0.2.1: aa",
            "both 1.0.0: bb",
            "tcptrace-common 0.1.0: of this workspace",
            "tcptrace-ebpf 0.1.0: of this workspace",
            "two 1.0.0: f1",
            "two 2.0.0: git+https://example.org/two#0123456789abcdef",
        ]
    );
}

#[test]
fn a_lock_file_without_an_entry_is_an_error_that_names_it() {
    let workspace = Scratch::workspace("lock-lacks");
    workspace.replace("Cargo.lock", "name = \"both\"", "name = \"other\"");
    let error = closure(workspace.path()).unwrap_err().to_string();
    assert!(error.contains("has no entry for both"), "{error}");
}
