//! What `cargo xtask bench` measures with: load on the kernel's TCP, an empty program to compare
//! with, streams of events, and what a command costs.
//!
//! Each prints one line of JSON.

mod empty;
mod events;
mod parts;
mod sockets;

use std::{ffi::OsString, path::PathBuf, process};

use anyhow::{Context as _, ensure};
use clap::Parser;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::json;

/// What `cargo xtask bench` measures with.
#[derive(Parser)]
enum Load {
    /// Makes a listener and closes it, so many times.
    Listen {
        /// How many times.
        count: u32,
    },
    /// Connects where nobody listens, so many times.
    Refused {
        /// How many times.
        count: u32,
    },
    /// Connects, accepts and closes as fast as possible.
    Connections {
        /// How long, seconds.
        seconds: f64,
    },
    /// Holds so many established connections until standard input ends.
    Hold {
        /// How many.
        count: u32,
    },
    /// Holds them in this process and this network namespace.
    HoldHere {
        /// How many.
        count: u32,
    },
    /// Attaches an empty program to inet_sock_set_state until standard input ends.
    Empty,
    /// Writes a capture: connections of which so many are open at a time.
    Events {
        /// How many events.
        count: u64,
        /// How many connections are open at a time.
        live: u64,
    },
    /// Measures reading, decoding, tracking and rendering of a capture.
    Parts {
        /// The capture.
        file: PathBuf,
    },
    /// Runs a command and reports its time and memory.
    Measure {
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<OsString>,
    },
}

fn main() -> anyhow::Result<()> {
    match Load::parse() {
        Load::Listen { count } => sockets::repeat(count, sockets::listen),
        Load::Refused { count } => sockets::repeat(count, sockets::refused),
        Load::Connections { seconds } => sockets::connections(seconds),
        Load::Hold { count } => sockets::hold(count),
        Load::HoldHere { count } => sockets::hold_here(count),
        Load::Empty => empty::attach(),
        Load::Events { count, live } => events::write(count, live),
        Load::Parts { file } => parts::measure(&file),
        Load::Measure { command } => measure(&command),
    }
}

/// Runs a command with our standard input, and reports seconds and bytes.
fn measure(command: &[OsString]) -> anyhow::Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let status = process::Command::new(program)
        .args(arguments)
        .stdout(process::Stdio::null())
        .status()?;
    ensure!(status.success(), "{program:?} failed: {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    println!(
        "{}",
        json!({
            "user_s": seconds(usage.user_time()),
            "system_s": seconds(usage.system_time()),
            "peak_bytes": usage.max_rss() * 1024,
        })
    );
    Ok(())
}
