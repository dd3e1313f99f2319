//! From a fresh clone to the first row.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Bench,
    load::Usage,
    page::{Table, machine},
};
use crate::{command, workspace::Workspace};

/// A port where nobody is expected to listen.
const NOBODY: u16 = 1;

pub(super) fn measure(bench: &Bench, workspace: &Workspace) -> Result<String> {
    let clone = bench.scratch.join("clone");
    remove(&clone)?;
    let start = Instant::now();
    command::run(
        Command::new("git")
            .args(["clone", "--quiet"])
            .arg(workspace.root())
            .arg(&clone),
    )?;
    let usage = first_row(bench, &clone)?;
    let elapsed = start.elapsed().as_secs_f64();
    let programs = built(&clone.join("target"))?;
    remove(&clone)?;
    let mut table = Table::new(&["", "time", "processor", "crates compiled"]);
    table.row([
        "`git clone`, `cargo xtask run tail`".to_owned(),
        format!("{elapsed:.0} s"),
        format!("{:.0} s", usage.user_s + usage.system_s),
        programs.to_string(),
    ]);
    Ok(format!(
        "## From a clone to the first row\n\n{}.\nOnce, with the crates' sources downloaded before. A release build.\n\n{}",
        machine(),
        table.finish()
    ))
}

/// Runs the tail until it has shown a connection.
fn first_row(bench: &Bench, clone: &Path) -> Result<Usage> {
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                // It is refused, which is a row.
                drop(TcpStream::connect((Ipv4Addr::LOCALHOST, NOBODY)));
                thread::sleep(Duration::from_millis(20));
            }
        });
        let usage = bench.load.usage_in(
            clone,
            &["cargo", "xtask", "run", "tail", "--count", "1"].map(AsRef::as_ref),
        );
        ended.store(true, Ordering::Relaxed);
        usage
    })
}

/// Returns how many crates were compiled, build scripts and procedural macros included.
fn built(target: &Path) -> Result<usize> {
    let mut count = 0;
    for profile in ["debug", "release"] {
        let fingerprints = target.join(profile).join(".fingerprint");
        count += fs::read_dir(&fingerprints)
            .with_context(|| fingerprints.display().to_string())?
            .count();
    }
    ensure!(count > 0, "nothing was compiled");
    Ok(count)
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| directory.display().to_string())
        }
        _ => Ok(()),
    }
}
