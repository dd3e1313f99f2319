//! Which settings of a workspace count.

use super::{
    super::{lock, scratch::Scratch},
    read,
};

#[test]
fn holds_what_reaches_the_ebpf_build() {
    let workspace = Scratch::workspace("settings");
    let lock = lock::closure(workspace.path()).unwrap();
    let settings = read(workspace.path(), &lock).unwrap();
    let entries: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    assert_eq!(
        entries,
        [
            "profile.release.lto = \"thin\"",
            "profile.release.package.tcptrace-ebpf = { debug = 2 }",
            "workspace.dependencies.tcptrace-common = { path = \"tcptrace-common\" }",
            "workspace.package.edition = \"2024\"",
            "workspace.package.version = \"0.1.0\"",
            "workspace.resolver = \"3\"",
        ]
    );
}
