//! The `tcptrace` command: parses, runs, and turns errors into exit statuses.
//!
//! 0: done (a closed pipe and Ctrl-C are done). 1: it failed. 2: bad arguments.

use std::{io::IsTerminal, process::ExitCode};

use clap::{CommandFactory, Parser, error::ErrorKind};
use tcptrace::{
    capture, check,
    cli::{Cli, Command, LogLevel},
    config::{CaptureConfig, ConfigError, DaemonConfig, ReplayConfig, TailConfig},
    daemon, tail,
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<ConfigError>() {
            Some(error) => {
                let error = Cli::command().error(ErrorKind::ValueValidation, error);
                // Nothing is left to do when standard error is closed.
                drop(error.print());
                ExitCode::from(2)
            }
            None => {
                eprintln!("tcptrace: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Tail(args) => {
            log_to_stderr(args.probe.log_level.unwrap_or(LogLevel::Warn));
            tail::run(TailConfig::new(*args)?)?;
        }
        Command::Daemon(args) => {
            log_to_stderr(args.probe.log_level.unwrap_or(LogLevel::Info));
            daemon::run(DaemonConfig::new(args)?)?;
        }
        Command::Capture(args) => {
            log_to_stderr(args.probe.log_level.unwrap_or(LogLevel::Warn));
            capture::run(&CaptureConfig::new(args)?)?;
        }
        Command::Replay(args) => {
            log_to_stderr(LogLevel::Warn);
            capture::replay::run(ReplayConfig::new(*args))?;
        }
        Command::Check(args) => return Ok(check::run(args.strict)),
    }
    Ok(ExitCode::SUCCESS)
}

fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Off => LevelFilter::OFF,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let stderr = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    // What the loader says of its own work is for those who work on it.
    let quiet = if level == LevelFilter::TRACE {
        level
    } else {
        level.min(LevelFilter::WARN)
    };
    let targets = Targets::new()
        .with_default(level)
        .with_target("aya", quiet)
        .with_target("aya_obj", quiet);
    tracing_subscriber::registry()
        .with(stderr)
        .with(targets)
        .init();
}
