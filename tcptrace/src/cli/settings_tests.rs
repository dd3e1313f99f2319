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
            "line 1: there is no setting ring-sise; is ring-size meant?",
        ),
        (
            "[web]\nlisten_address = \"a\"",
            "line 2: there is no setting web.listen_address; is web.listen-address meant?",
        ),
        (
            "# All of it.\r\n\r\nring-size = 4096\ncolour = \"red\"",
            "line 4: there is no setting colour; tcptrace daemon --help names them",
        ),
        (
            "log-level = \"loud\"",
            "line 1: invalid value 'loud' for '--log-level <LEVEL>' [possible values: ",
        ),
        ("config = \"other\"", "there is no setting config"),
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
