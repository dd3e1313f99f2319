//! What is noticed of a change.

use super::{super::scratch::Scratch, Inputs};

/// What is said after `change` was made to a workspace.
fn changes(name: &str, change: impl FnOnce(&Scratch)) -> Vec<String> {
    let workspace = Scratch::workspace(name);
    let before = Inputs::read(workspace.path()).unwrap();
    change(&workspace);
    let after = Inputs::read(workspace.path()).unwrap();
    let changes = after.changes_since(&before);
    assert_eq!(changes.is_empty(), before.sha256 == after.sha256);
    changes
}

#[test]
fn one_character_of_a_source_is_noticed() {
    let changes = changes("source", |workspace| {
        workspace.replace("tcptrace-common/src/lib.rs", "no_std", "no_sta");
    });
    assert_eq!(changes, ["tcptrace-common/src/lib.rs changed"]);
}

#[test]
fn a_file_more_or_less_is_noticed() {
    let changes = changes("files", |workspace| {
        workspace.write("tcptrace-ebpf/src/hooks/open.rs", "");
        workspace.write("tcptrace-ebpf/build.rs", "fn main() {}");
        std::fs::remove_file(workspace.path().join("tcptrace-ebpf/src/main.rs")).unwrap();
    });
    assert_eq!(
        changes,
        [
            "tcptrace-ebpf/build.rs is new",
            "tcptrace-ebpf/src/hooks/open.rs is new",
            "tcptrace-ebpf/src/main.rs is gone",
        ]
    );
}

#[test]
fn a_dependency_and_a_setting_are_noticed() {
    let changes = changes("dependency", |workspace| {
        workspace.replace("Cargo.lock", "version = \"0.2.1\"", "version = \"0.2.2\"");
        workspace.replace("Cargo.toml", "\"thin\"", "\"fat\"");
    });
    assert_eq!(
        changes,
        [
            "Cargo.toml: profile.release.lto changed",
            "Cargo.lock: aya-ebpf 0.2.2 is new",
            "Cargo.lock: aya-ebpf 0.2.1 is gone",
        ]
    );
}

#[test]
fn what_only_the_daemon_or_a_test_uses_is_no_input() {
    let changes = changes("daemon", |workspace| {
        workspace.replace("Cargo.lock", "checksum = \"dd\"", "checksum = \"d0\"");
        workspace.replace("Cargo.lock", "checksum = \"ee\"", "checksum = \"e0\"");
        workspace.replace("Cargo.toml", "daemon-only = \"1\"", "daemon-only = \"2\"");
        workspace.write("tcptrace-common/tests/events.rs", "");
        workspace.write("tcptrace-ebpf/src/.main.rs.swp", "");
    });
    assert_eq!(changes, Vec::<String>::new());
}

#[test]
fn a_hash_that_was_edited_by_hand_is_noticed() {
    let workspace = Scratch::workspace("edited");
    let now = Inputs::read(workspace.path()).unwrap();
    let recorded = Inputs {
        sha256: "0".repeat(64),
        ..now.clone()
    };
    assert_eq!(now.changes_since(&recorded).len(), 1);
}
