//! The commands of the documentation run.

#[path = "../documented/mod.rs"]
mod documented;

use std::{collections::BTreeSet, fs};

use anyhow::{Context, ensure};

use crate::support::{
    Check, ignored,
    program::{Running, tcptrace},
    tests,
};

tests![the_commands_of_the_documentation_run];

/// Each command in the order of the pages, so that a capture is there when it is replayed.
fn the_commands_of_the_documentation_run() -> Check {
    if !documented::root().join("README.md").exists() {
        return Err(ignored("the repository is not on this machine"));
    }
    let directory = tempfile::tempdir()?;
    let mut done = BTreeSet::new();
    for page in documented::pages() {
        let text = fs::read_to_string(&page)?;
        for mut arguments in text.lines().filter_map(documented::command) {
            let more: &[&str] = match arguments.first().map(String::as_str) {
                Some("tail") => &["--duration", "100ms"],
                Some("capture") => {
                    // A shorter one does.
                    if let Some(time) = arguments.iter_mut().find(|word| *word == "30s") {
                        "100ms".clone_into(time);
                    }
                    &[]
                }
                Some("daemon") => &["--check-config"],
                _ => &[],
            };
            arguments.extend(more.iter().map(ToString::to_string));
            if !done.insert(arguments.clone()) {
                continue;
            }
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let mut command = tcptrace(&arguments);
            let output = Running::to_end(command.current_dir(directory.path()))?;
            output
                .must_end_with(0)
                .with_context(|| format!("{}: {arguments:?}", page.display()))?;
        }
    }
    ensure!(done.len() > 15, "{} commands", done.len());
    Ok(())
}
