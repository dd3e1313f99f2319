//! Where a setting of the daemon comes from: the command line, else the environment, else a file,
//! else its default. All are checked alike.
//!
//! A setting has the name of its flag: `--web.listen-address` is `TCPTRACE_WEB_LISTEN_ADDRESS` in
//! the environment, and `listen-address` in the table `web` of the TOML file. An empty variable
//! counts as unset.

use std::{env, ffi::OsString, fs, path::Path};

use clap::{
    ArgMatches, Command as ClapCommand, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue, ErrorKind},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Cli, Command};
use crate::text::visible_lines;

/// The command that has settings.
const DAEMON: &str = "daemon";
/// Flags that are no settings.
const NO_SETTINGS: [&str; 4] = ["config", "check-config", "help", "version"];

/// The command line, with the settings of the environment and a file.
#[derive(Clone, Debug)]
pub struct Settings {
    matches: ArgMatches,
}

impl Settings {
    /// Reads the settings from all sources. Fails when an argument, a variable or the file is not
    /// valid, and for `--help`.
    pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<(Self, Cli), clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let command = Cli::command().mut_subcommand(DAEMON, with_environment);
        let (settings, cli) = Self::parse(command.clone(), &arguments)
            .map_err(|error| with_variable(error, &command, &arguments))?;
        let Command::Daemon(daemon) = &cli.command else {
            return Ok((settings, cli));
        };
        let Some(path) = &daemon.config else {
            return Ok((settings, cli));
        };
        let mut whole = command.clone();
        // Otherwise the usage would lack the program's name.
        whole.build();
        let mut refuse = |why: String| {
            let daemon = whole.find_subcommand_mut(DAEMON);
            let why = visible_lines(&format!("--config {}: {why}", path.display()));
            match daemon {
                Some(daemon) => daemon.error(ErrorKind::ValueValidation, why),
                None => clap::Error::raw(ErrorKind::ValueValidation, why),
            }
        };
        let entries = read_file(path, &command).map_err(&mut refuse)?;
        let command = command.mut_subcommand(DAEMON, |mut daemon| {
            for entry in &entries {
                let values = entry.values.clone();
                daemon = daemon.mut_arg(&entry.id, |setting| setting.default_values(values));
            }
            daemon
        });
        // Everything before the file's settings is valid.
        Self::parse(command, &arguments).map_err(|error| {
            let flag = long_of(&error).unwrap_or_default();
            let entry = entries.iter().find(|entry| entry.name == flag);
            let line = entry.map_or_else(String::new, |entry| format!("line {}: ", entry.line));
            refuse(line + &brief(&error))
        })
    }

    fn parse(command: ClapCommand, arguments: &[OsString]) -> Result<(Self, Cli), clap::Error> {
        let matches = command.try_get_matches_from(arguments)?;
        let cli = Cli::from_arg_matches(&matches)?;
        Ok((Self { matches }, cli))
    }

    /// Returns the names of the settings that differ.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let raw = |settings: &Self, id: &str| -> Vec<OsString> {
            let daemon = settings.matches.subcommand_matches(DAEMON);
            let values = daemon.and_then(|daemon| daemon.try_get_raw(id).ok().flatten());
            values.into_iter().flatten().map(OsString::from).collect()
        };
        let command = Cli::command();
        known(&command)
            .into_iter()
            .filter(|(_, id)| raw(self, id) != raw(other, id))
            .map(|(name, _)| name)
            .collect()
    }
}

/// Returns the error of a command line in one line, without the usage.
pub fn brief(error: &clap::Error) -> String {
    let text = error.to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_owned()
}

/// Returns the flag of an error, as clap shows it.
fn flag_of(error: &clap::Error) -> Option<String> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => Some(flag.clone()),
        Some(_) | None => None,
    }
}

/// Returns its long name.
fn long_of(error: &clap::Error) -> Option<String> {
    let flag = flag_of(error)?;
    let long = flag.trim_start_matches('-').split([' ', '=']).next()?;
    Some(long.to_owned())
}

/// Names the variable of an error for which clap names only the flag.
fn with_variable(
    mut error: clap::Error,
    command: &ClapCommand,
    arguments: &[OsString],
) -> clap::Error {
    let Some((flag, long)) = flag_of(&error).zip(long_of(&error)) else {
        return error;
    };
    let is_typed = arguments.iter().any(|argument| {
        let argument = argument.to_string_lossy();
        let rest = argument.strip_prefix("--").unwrap_or_default();
        rest.strip_prefix(&*long)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    });
    let daemon = command.find_subcommand(DAEMON);
    let variable = daemon
        .into_iter()
        .flat_map(ClapCommand::get_arguments)
        .find(|argument| argument.get_long() == Some(&*long))
        .and_then(|argument| argument.get_env())
        .filter(|name| env::var_os(name).is_some());
    if let (false, Some(variable)) = (is_typed, variable) {
        let named = format!("{} ({flag})", variable.to_string_lossy());
        error.insert(ContextKind::InvalidArg, ContextValue::String(named));
    }
    error
}

/// Lets each setting come from a variable.
fn with_environment(daemon: ClapCommand) -> ClapCommand {
    daemon.mut_args(|argument| match argument.get_long() {
        Some(long) if !NO_SETTINGS.contains(&long) || long == "config" => {
            let name = format!("TCPTRACE_{}", long.to_uppercase().replace(['.', '-'], "_"));
            // Compose and Helm create empty variables for settings that are not set.
            match env::var_os(&name).is_some_and(|value| value.is_empty()) {
                true => argument,
                false => argument.env(name).hide_env(true),
            }
        }
        _ => argument,
    })
}

/// Returns the daemon's settings: name, and clap's id.
fn known(command: &ClapCommand) -> Vec<(String, String)> {
    let daemon = command.find_subcommand(DAEMON);
    let arguments = daemon.into_iter().flat_map(ClapCommand::get_arguments);
    arguments
        .filter_map(|argument| {
            let long = argument.get_long()?;
            let is_setting = !NO_SETTINGS.contains(&long);
            is_setting.then(|| (long.to_owned(), argument.get_id().to_string()))
        })
        .collect()
}

/// A setting of a file.
struct Entry {
    name: String,
    /// clap's id.
    id: String,
    /// The values, as they would be typed.
    values: Vec<String>,
    /// The line of its name, from 1.
    line: usize,
}

fn read_file(path: &Path, command: &ClapCommand) -> Result<Vec<Entry>, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let table = DeTable::parse(&text).map_err(|error| error.to_string())?;
    let known = known(command);
    let mut entries = Vec::new();
    for (name, place, value) in flatten(table.get_ref(), "") {
        let line = 1 + text[..place].matches('\n').count();
        let at_line = |why: String| format!("line {line}: {why}");
        let Some((_, id)) = known.iter().find(|(known, _)| *known == name) else {
            return Err(at_line(unknown(&name, &known)));
        };
        entries.push(Entry {
            id: id.clone(),
            values: as_typed(&name, value).map_err(at_line)?,
            name,
            line,
        });
    }
    Ok(entries)
}

/// Returns the values with their full names, nested tables joined by dots, and the offset of each
/// name.
fn flatten<'a>(table: &'a DeTable<'_>, above: &str) -> Vec<(String, usize, &'a DeValue<'a>)> {
    let mut all = Vec::new();
    for (key, value) in table {
        let name = format!("{above}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(below) => all.extend(flatten(below, &format!("{name}."))),
            value @ (DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)) => all.push((name, key.span().start, value)),
        }
    }
    all
}

fn as_typed(name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let one = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(|number| number.to_string())
            .map_err(|_| format!("{name}: {number} is too large")),
        DeValue::Boolean(is_set) => Ok(is_set.to_string()),
        DeValue::Float(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => {
            Err(format!(
                "{name}: {} is neither text nor a whole number nor true or false, nor a list of them",
                value.type_str()
            ))
        }
    };
    if let DeValue::Array(values) = value {
        return values.iter().map(Spanned::get_ref).map(one).collect();
    }
    Ok(vec![one(value)?])
}

/// Returns the error of an unknown setting, with the nearest name.
fn unknown(name: &str, known: &[(String, String)]) -> String {
    let nearness = |known: &str| strsim::jaro_winkler(name, known);
    let nearest = known
        .iter()
        .map(|(known, _)| (nearness(known), known))
        .max_by(|one, other| one.0.total_cmp(&other.0));
    match nearest {
        Some((near, known)) if near > 0.7 => {
            format!("unknown setting {name}; did you mean {known}?")
        }
        _ => format!("unknown setting {name}; tcptrace daemon --help lists the settings"),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
