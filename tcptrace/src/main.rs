//! The `tcptrace` command: parses, runs, and turns errors into exit statuses.
//!
//! 0: done, also after a closed pipe or Ctrl-C. 1: failed. 2: invalid arguments or settings,
//! including the files they name.

#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

use std::{env, io::Write as _, process::ExitCode};

use clap::{CommandFactory, error::ErrorKind};
use tcptrace::{
    CaptureConfig, Cli, Command, ConfigError, DaemonConfig, ExplainConfig, LogFormat, LogLevel,
    LogStyle, ReplayConfig, Settings, Stop, TailConfig, brief,
    command::{capture, check, completions, daemon, explain, replay, tail},
    log_to_stderr, stdio,
};
use tracing::Level;

fn main() -> ExitCode {
    let (settings, cli) = match Settings::read(env::args_os()) {
        Ok(read) => read,
        Err(error) => return print(&error),
    };
    let name = cli.command.name();
    match run(cli.command, settings) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<ConfigError>() {
            Some(error) => print(&usage_error(name, error)),
            None => {
                // If this cannot be written either, the status tells.
                drop(stdio::eprint_line(format_args!("tcptrace: {error:#}")));
                ExitCode::FAILURE
            }
        },
    }
}

/// Returns an error of a command's arguments, with that command's usage.
fn usage_error(name: &str, error: &ConfigError) -> clap::Error {
    let mut cli = Cli::command();
    // Otherwise the usage would lack the program's name.
    cli.build();
    match cli.find_subcommand_mut(name) {
        Some(command) => command.error(ErrorKind::ValueValidation, error),
        None => cli.error(ErrorKind::ValueValidation, error),
    }
}

/// Prints help, the version, or what is wrong with the arguments.
fn print(error: &clap::Error) -> ExitCode {
    let printed = error.print().and_then(|()| std::io::stdout().flush());
    match printed {
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe && !error.use_stderr() => {
            drop(stdio::eprint_line(format_args!(
                "tcptrace: writing to standard output: {why}"
            )));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::from(if error.use_stderr() { 2 } else { 0 }),
    }
}

fn run(command: Command, settings: Settings) -> anyhow::Result<ExitCode> {
    match command {
        Command::Tail(args) => {
            let level = args.probe.log_level.unwrap_or(LogLevel::Warn);
            drop(log_to_stderr(level, LogStyle::Message));
            tail::run(TailConfig::new(*args)?, &Stop::on_signals()?)?;
        }
        Command::Daemon(args) => {
            let is_check = args.check_config;
            let level = args.probe.log_level;
            let format = args.log_format;
            let config = DaemonConfig::new(args)?;
            if is_check {
                daemon::check_files(&config)?;
                stdio::print("the settings are valid\n")?;
                return Ok(ExitCode::SUCCESS);
            }
            let style = LogStyle::Log(format);
            let set_level = log_to_stderr(level.unwrap_or(LogLevel::Info), style);
            let reload = move || reload(&settings, &set_level);
            let ended = daemon::run(config, &Stop::on_signals()?, reload);
            if let (Err(error), LogFormat::Json) = (&ended, format)
                && tracing::enabled!(Level::ERROR)
            {
                // Readers of the log expect JSON up to the last line.
                tracing::error!("{error:#}");
                let is_setting = error.downcast_ref::<ConfigError>().is_some();
                return Ok(ExitCode::from(if is_setting { 2 } else { 1 }));
            }
            ended?;
        }
        Command::Capture(args) => {
            let level = args.probe.log_level.unwrap_or(LogLevel::Warn);
            drop(log_to_stderr(level, LogStyle::Message));
            capture::run(&CaptureConfig::new(args)?, &Stop::on_signals()?)?;
        }
        Command::Replay(args) => {
            drop(log_to_stderr(LogLevel::Warn, LogStyle::Message));
            // A signal ends it at once: nothing is traced.
            let _stop = Stop::on_signals()?;
            replay::run(ReplayConfig::new(*args)?)?;
        }
        Command::Check(args) => return check::run(args.strict),
        Command::Explain(args) => {
            let config = ExplainConfig::new(&args)?;
            explain::run(config.topic, config.width, config.ascii)?;
        }
        Command::Completions(args) => completions::run(args.shell)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Reads the daemon's settings again. The log level changes at once; returns the names of the other
/// settings that changed.
fn reload(settings: &Settings, set_level: &impl Fn(LogLevel)) -> anyhow::Result<Vec<String>> {
    let read = Settings::read(env::args_os());
    let (now, cli) = read.map_err(|error| anyhow::anyhow!(brief(&error)))?;
    let Command::Daemon(args) = cli.command else {
        anyhow::bail!("the command line has changed");
    };
    let level = args.probe.log_level;
    DaemonConfig::new(args)?;
    let level = level.unwrap_or(LogLevel::Info);
    set_level(level);
    tracing::debug!("the log level is {level:?}");
    let mut changed = settings.differences(&now);
    changed.retain(|name| name != "log-level");
    Ok(changed)
}
