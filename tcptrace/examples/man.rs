//! Writes the man pages, one for each command: `cargo run --example man DIRECTORY`.

use std::{env, ffi::OsString, fs, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use tcptrace::Cli;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [directory] = &arguments[..] else {
        eprintln!("usage: man DIRECTORY");
        return ExitCode::from(2);
    };
    let directory = Path::new(directory);
    let written = fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "error: writing man pages to {}: {error}",
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}
