//! Writes the man pages: `cargo xtask man DIRECTORY`.

mod page;

use std::{env, ffi::OsString, fs, io, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use tcptrace::Cli;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    let [directory] = &arguments[..] else {
        eprintln!("usage: man DIRECTORY");
        return ExitCode::from(2);
    };
    let directory = Path::new(directory);
    match write(directory) {
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

/// Writes a page for each command, and those made from the documentation.
fn write(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    clap_mangen::generate_to(Cli::command(), directory)?;
    for page in page::PAGES {
        let file = format!("{}.{}", page.name, page.section);
        fs::write(directory.join(file), page.render())?;
    }
    Ok(())
}
