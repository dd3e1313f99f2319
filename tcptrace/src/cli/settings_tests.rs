use std::io::Write as _;

use super::*;

/// The settings with this file, and these arguments.
fn read(file: &str, arguments: &[&str]) -> Result<(Settings, super::super::DaemonArgs), String> {
    let mut path = tempfile::NamedTempFile::new().expect("a file");
    path.write_all(file.as_bytes()).expect("it can be written");
    let begin = ["tcptrace", "daemon", "--config"].map(OsString::from);
    let arguments = arguments.iter().map(OsString::from);
    let all = begin
        .into_iter()
        .chain([path.path().as_os_str().to_owned()])
        .chain(arguments);
    let (settings, cli) = Settings::read(all).map_err(|error| error.to_string())?;
    let Command::Daemon(daemon) = cli.command else {
        panic!("another command");
    };
    Ok((settings, daemon))
}

const FILE: &str = "\
poll-interval = \"5s\"
ring-size = \"16MiB\"
without = [\"fentry\", \"iter\"]

[web]
listen-address = [\"127.0.0.1:1\", \"[::1]:2\"]
systemd-socket = true

[metrics]
max-ports = 4
";

#[test]
fn a_file_sets_what_the_command_line_does_not() {
    let (_, daemon) = read(FILE, &["--poll-interval", "7s"]).expect("valid");
    assert_eq!(daemon.max_ports, 4);
    assert_eq!(daemon.probe.ring_size, 16 << 20);
    assert_eq!(daemon.probe.without.len(), 2);
    assert_eq!(daemon.listen_addresses.len(), 2);
    assert!(daemon.systemd_socket);
    assert_eq!(
        daemon.poll_interval.0,
        Some(std::time::Duration::from_secs(7))
    );
    // What neither sets has its default.
    assert_eq!(daemon.telemetry_path, "/metrics");
}

#[test]
fn a_changed_setting_is_named() {
    let (before, _) = read(FILE, &[]).expect("valid");
    let (after, _) = read(&FILE.replace("= 4", "= 5"), &["--log-level", "debug"]).expect("valid");
    assert_eq!(before.differences(&before), [""; 0]);
    assert_eq!(
        before.differences(&after),
        ["metrics.max-ports", "log-level"]
    );
}

#[test]
fn an_invalid_file_is_refused_with_the_reason() {
    for (file, why) in [
        (
            "ring-sise = 1",
            "line 1: unknown setting ring-sise; did you mean ring-size?",
        ),
        (
            "[web]\nlisten_address = \"a\"",
            "line 2: unknown setting web.listen_address; did you mean web.listen-address?",
        ),
        (
            "# All of it.\r\n\r\nring-size = 4096\ncolour = \"red\"",
            "line 4: unknown setting colour; tcptrace daemon --help lists the settings",
        ),
        (
            "log-level = \"loud\"",
            "line 1: invalid value 'loud' for '--log-level <LEVEL>' [possible values: ",
        ),
        ("config = \"other\"", "unknown setting config"),
        (
            "\n[metrics]\nmax-ports = 70000",
            "line 3: invalid value '70000' for '--metrics.max-ports <N>'",
        ),
        (
            "poll-interval = 1.5",
            "line 1: poll-interval: float is neither text nor a whole number",
        ),
        ("poll-interval = 0x8000000000000000", "is too large"),
        (
            "metrics.cgroup-pattern = [\"(a\"]",
            "line 1: invalid value '(a' for '--metrics.cgroup-pattern <REGEX>'",
        ),
        (
            "metrics.cgroup-pattern = \"a\"",
            "it captures nothing: put parentheses around the label",
        ),
        ("poll-interval = [[1]]", "poll-interval: array is neither"),
        ("poll-interval = ", "TOML parse error at line 1"),
    ] {
        let error = read(file, &[]).err().unwrap_or_default();
        assert!(
            error.contains("--config /") && error.contains(why),
            "{file}: {error}"
        );
        assert!(error.contains("Usage: tcptrace daemon"), "{error}");
    }
    let missing = ["tcptrace", "daemon", "--config", "/nonexistent"].map(OsString::from);
    let error = Settings::read(missing).expect_err("no file").to_string();
    assert!(
        error.contains("--config /nonexistent: No such file"),
        "{error}"
    );
}

#[test]
fn every_setting_has_a_variable() {
    let command = Cli::command().mut_subcommand(DAEMON, with_environment);
    let daemon = command.find_subcommand(DAEMON).expect("it is there");
    let variables: Vec<String> = daemon
        .get_arguments()
        .filter_map(|argument| Some(argument.get_env()?.to_string_lossy().into_owned()))
        .collect();
    assert_eq!(variables.len(), known(&command).len() + 1, "{variables:?}");
    for name in [
        "TCPTRACE_CONFIG",
        "TCPTRACE_WEB_LISTEN_ADDRESS",
        "TCPTRACE_RING_SIZE",
    ] {
        assert!(
            variables.iter().any(|variable| variable == name),
            "{variables:?}"
        );
    }
}

/// docs/configuration.md, made from the command line.
fn page() -> String {
    let mut page = "# Configuration\n\n\
        The settings of `tcptrace daemon`. A flag wins over an environment variable, and a variable over the TOML file of\n\
        `--config FILE` (or `TCPTRACE_CONFIG`). An empty variable counts as unset. A setting with a dot in its name is in a\n\
        table: `--web.listen-address` is `listen-address` in `[web]`. A list is an array in TOML and has commas elsewhere.\n\n\
        SIGHUP reloads the settings. Those with *reload* apply at once; for the others the log says that a restart is\n\
        needed. Invalid settings change nothing. `tcptrace daemon --check-config` checks them and exits.\n\n\
        | flag | variable | TOML | default | applies | meaning |\n|---|---|---|---|---|---|\n"
        .to_owned();
    let mut command = Cli::command().mut_subcommand(DAEMON, with_environment);
    command.build();
    let daemon = command.find_subcommand(DAEMON).expect("the daemon");
    for (name, id) in known(&command) {
        let setting = daemon
            .get_arguments()
            .find(|argument| argument.get_id() == id.as_str())
            .expect("a setting");
        let takes_value = setting.get_action().takes_values();
        let value = setting.get_value_names().unwrap_or_default().join(" ");
        let flag = match takes_value {
            true => format!("--{name} {value}"),
            false => format!("--{name}"),
        };
        let variable = setting.get_env().expect("a variable").to_string_lossy();
        let toml = match name.rsplit_once('.') {
            Some((table, key)) => format!("`[{table}]` `{key}`"),
            None => format!("`{name}`"),
        };
        let default: Vec<_> = setting
            .get_default_values()
            .iter()
            .map(|value| format!("`{}`", value.to_string_lossy()))
            .collect();
        let default = match (&*name, takes_value) {
            // A tail has another one.
            ("log-level", _) => "`info`".to_owned(),
            (_, true) => default.join(", "),
            (_, false) => "off".to_owned(),
        };
        let applies = if name == "log-level" {
            "reload"
        } else {
            "restart"
        };
        let help = setting.get_help().expect("a help text").to_string();
        let mut help = help.replace('\n', " ").replace('|', "\\|");
        let values: Vec<_> = setting
            .get_possible_values()
            .iter()
            .map(|value| format!("`{}`", value.get_name()))
            .collect();
        if takes_value && !values.is_empty() {
            help = format!("{help}: {}", values.join(", "));
        }
        let row =
            format!("| `{flag}` | `{variable}` | {toml} | {default} | {applies} | {help} |\n");
        page.push_str(&row);
    }
    page.push_str("\nThe file of `--web.config.file` is read again when it changes; see [Operations](operations.md#settings).\n");
    page
}

/// `TCPTRACE_BLESS=1` rewrites it.
#[test]
fn the_documentation_has_every_setting() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    if env::var_os("TCPTRACE_BLESS").is_some() {
        fs::write(path, page()).expect("it can be written");
    }
    let text = fs::read_to_string(path).unwrap_or_default();
    assert!(
        text == page(),
        "docs/configuration.md: TCPTRACE_BLESS=1 rewrites it"
    );
}
