//! How the committed streams look: the real binary replays them, at several widths, with and
//! without UTF-8, into files that were looked at; and into a terminal.
//!
//! `looks/FORMAT.txt` is what was seen. `TCPTRACE_BLESS=1` writes it anew; what changed is then for
//! the reviewer to judge.

use std::{
    fmt::Write as _,
    fs,
    io::Read as _,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use tcptrace::testing::{
    Block, LossPlace, Name, Reader, events, push_event, write_clock, write_end, write_events,
    write_hook, write_loss, write_name, write_start, write_time,
};
use unicode_width::UnicodeWidthStr as _;

const BLESS: &str = "TCPTRACE_BLESS";
const WIDTHS: [u16; 4] = [40, 80, 120, 200];
const UTF8: &str = "C.UTF-8";
const ASCII: &str = "C";

/// One of each kind of opening, end and failure.
const SCENARIOS: [&str; 14] = [
    "active_open",
    "passive_open_ipv6",
    "half_close_by_us",
    "half_close_by_the_peer",
    "simultaneous_open",
    "simultaneous_close",
    "orphaned_fin_wait2_with_late_fin",
    "refused_by_rst",
    "syn_timeout",
    "host_unreachable",
    "no_local_port",
    "reset_in_established",
    "unread_data",
    "keepalive_timeout",
];

fn stream(scenario: &str) -> PathBuf {
    let streams = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/streams/6.12");
    streams.join(scenario).with_extension("cap")
}

/// `tcptrace replay` in a locale.
fn replay(locale: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tcptrace"))
        .arg("replay")
        .args(arguments)
        .arg(file)
        .env("LC_ALL", locale)
        .env("TZ", "UTC")
        .env_remove("NO_COLOR")
        .output()
        .expect("the command can be run");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// A stream in which events were lost, after its first block.
fn with_losses(scenario: &str) -> tempfile::NamedTempFile {
    rewrite(scenario, |bytes| bytes, None, true)
}

/// A stream with other events, one more name, and losses.
fn rewrite(
    scenario: &str,
    event: impl Fn(Vec<u8>) -> Vec<u8>,
    name: Option<Name>,
    lose: bool,
) -> tempfile::NamedTempFile {
    let stream = fs::read(stream(scenario)).expect("a stream");
    let (mut reader, header) = Reader::open(&stream[..]).expect("a header");
    let mut out = Vec::new();
    write_start(&header, &mut out);
    let mut name = name;
    while let Some(block) = reader.next().expect("a block") {
        match block {
            Block::Header(_) => panic!("a second header"),
            Block::Clock(reading) => {
                write_clock(reading, &mut out);
                if let Some(name) = name.take() {
                    write_name(&name, &mut out);
                }
            }
            Block::Events(payload) => {
                let mut changed = Vec::new();
                for bytes in events(&payload) {
                    push_event(&event(bytes.expect("an event").to_vec()), &mut changed);
                }
                write_events(&changed, &mut out);
                if lose {
                    write_loss(LossPlace::Ring, 1_234, None, &mut out);
                }
            }
            Block::Loss {
                place,
                events,
                kind,
            } => write_loss(place, events, kind, &mut out),
            Block::Hook {
                witness,
                attached,
                time_ns,
            } => write_hook(witness, attached, time_ns, &mut out),
            Block::Name(name) => write_name(&name, &mut out),
            Block::Time { monotonic_ns } => write_time(monotonic_ns, &mut out),
            Block::End { monotonic_ns } => write_end(monotonic_ns, &mut out),
        }
    }
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), out).expect("it can be written");
    file
}

/// Compares with what was looked at.
fn must_look_as_before(name: &str, seen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/looks")
        .join(name);
    if std::env::var_os(BLESS).is_some() {
        fs::write(&path, seen).expect("it can be written");
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let different = golden
        .lines()
        .zip(seen.lines())
        .enumerate()
        .find(|(_, (golden, seen))| golden != seen);
    assert!(
        golden == seen,
        "{name} looks different, first at {different:?}. If it should, {BLESS}=1 takes it over."
    );
}

/// Every scenario in every width and locale, no line longer than it may be.
fn in_each_width(arguments: &[&str]) -> String {
    let mut seen = String::new();
    for locale in [UTF8, ASCII] {
        for width in WIDTHS {
            writeln!(seen, "\n==== {width} columns, LC_ALL={locale}").expect("memory");
            let width_text = width.to_string();
            let arguments = [arguments, &["--width", &width_text]].concat();
            let losses = with_losses("active_open");
            let files = SCENARIOS.map(stream);
            let files = files.iter().map(PathBuf::as_path).chain([losses.path()]);
            for file in files {
                let said = replay(locale, &arguments, file);
                for line in said.lines() {
                    assert!(line.width() <= usize::from(width), "{width}: {line:?}");
                }
                assert!(locale == UTF8 || said.is_ascii(), "{said:?}");
                seen.push_str(&said);
            }
        }
    }
    seen
}

#[test]
fn tables_look_as_before() {
    let seen = in_each_width(&["--show", "handshakes,connections,releases"]);
    must_look_as_before("table.txt", &seen);
}

#[test]
fn tables_of_transitions_with_summaries_and_chosen_columns_look_as_before() {
    let mut seen = in_each_width(&[
        "--show",
        "transitions",
        "--summary",
        "1s",
        "--time",
        "epoch",
    ]);
    seen.push_str(&in_each_width(&[
        "--columns",
        "time,remote,verdict,handshake,accept_wait,duration,sent,received,retransmits,rtt,closed_by,netns,uid,id",
        "--time",
        "relative",
        "--numeric",
        "--show",
        "connections",
    ]));
    must_look_as_before("table-chosen.txt", &seen);
}

#[test]
fn diagrams_look_as_before() {
    let seen = in_each_width(&["--format", "diagram", "--show", "connections,releases"]);
    must_look_as_before("diagram.txt", &seen);
}

/// They are data: neither the width nor the locale changes them.
#[test]
fn json_and_csv_look_as_before_whatever_the_terminal() {
    for format in ["json", "csv"] {
        let mut seen = String::new();
        let arguments = ["--format", format, "--summary", "1s", "--show"];
        let arguments = [&arguments[..], &["handshakes,connections,releases"]].concat();
        for file in SCENARIOS.map(stream) {
            let said = replay(UTF8, &arguments, &file);
            for (locale, width) in [(ASCII, "40"), (UTF8, "80"), (ASCII, "200")] {
                let narrow = [&arguments[..], &["--width", width]].concat();
                assert_eq!(replay(locale, &narrow, &file), said);
            }
            seen.push_str(&said);
        }
        must_look_as_before(&format!("{format}.txt"), &seen);
    }
}

/// The README's pictures: streams as a terminal shows them.
#[test]
fn the_readmes_screens_are_of_this_program() {
    let colourful = |arguments: &[&str], scenarios: &[&str]| {
        let mut seen = String::new();
        for scenario in scenarios {
            let arguments = [&["--color", "always", "--width", "150"], arguments].concat();
            let said = replay(UTF8, &arguments, &stream(scenario));
            // One screen has its headings once.
            let first = said.lines().next().unwrap_or_default();
            let known = seen.starts_with(first);
            for line in said
                .lines()
                .skip(usize::from(known && first.contains("TIME")))
            {
                writeln!(seen, "{line}").expect("memory");
            }
        }
        anstyle_svg::Term::new().render_svg(&seen)
    };
    let rows = [
        "active_open",
        "half_close_by_us",
        "refused_by_rst",
        "unread_data",
        "reset_in_established",
        "syn_retransmitted",
        "syn_timeout",
        "keepalive_timeout",
    ];
    must_look_as_before("../../../docs/tail.svg", &colourful(&[], &rows));
    let diagram = colourful(
        &["--format", "diagram"],
        &["half_close_by_us", "unread_data"],
    );
    must_look_as_before("../../../docs/diagram.svg", &diagram);
}

/// What the program writes to a terminal of this size, and how it ends.
fn in_a_terminal(locale: &str, arguments: &[&str], file: &Path, columns: u16) -> Vec<u8> {
    let size = PtySize {
        rows: 60,
        cols: columns,
        ..PtySize::default()
    };
    let pair = native_pty_system().openpty(size).expect("a terminal");
    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tcptrace"));
    command.arg("replay");
    command.args(arguments);
    command.arg(file);
    command.env("LC_ALL", locale);
    command.env("TZ", "UTC");
    command.env("TERM", "xterm");
    command.env_remove("NO_COLOR");
    let mut child = pair.slave.spawn_command(command).expect("it starts");
    drop(pair.slave);
    let mut reader = pair.master.try_clone_reader().expect("a reader");
    let mut written = Vec::new();
    drop(reader.read_to_end(&mut written));
    let status = child.wait().expect("it ends");
    // The kernel reports the end of the last writer (EIO) without another look at what was written
    // since the reader's last one (`n_tty_read`), so a reader that is held up there misses it. All
    // is written now.
    drop(reader.read_to_end(&mut written));
    assert!(status.success(), "{status:?}");
    written
}

/// Removes the escape sequences that the program itself sends: colours, and to erase a line.
fn without_own_sequences(written: &str) -> String {
    let mut left = String::new();
    let mut rest = written;
    while let Some(at) = rest.find("\u{1b}[") {
        left.push_str(&rest[..at]);
        rest = &rest[at + 2..];
        let end = rest
            .find(|character: char| !character.is_ascii_digit() && character != ';')
            .expect("a sequence has an end");
        assert!(matches!(&rest[end..=end], "m" | "K"), "{written:?}");
        rest = &rest[end + 1..];
    }
    left + rest
}

#[test]
fn no_process_name_reaches_the_terminal_as_a_control() {
    let names: Vec<Vec<u8>> = (1..=255_u8)
        .collect::<Vec<_>>()
        .chunks(15)
        .map(<[u8]>::to_vec)
        // Sequences of UTF-8: C1 controls, directions, an end of line, a byte order mark.
        .chain([
            "\u{9b}31mred\u{9c}".as_bytes().to_vec(),
            "a\u{202e}b\u{2066}c".as_bytes().to_vec(),
            "a\u{2028}b\u{feff}c".as_bytes().to_vec(),
            b"\x1b]0;title\x07".to_vec(),
            b"\x1b[2J\x1b[1;1H".to_vec(),
        ])
        .collect();
    let formats: [&[&str]; 5] = [
        &["--format", "table"],
        &["--columns", "process,cgroup,unit,remote,notes"],
        &["--format", "diagram"],
        &["--format", "json"],
        &["--format", "csv"],
    ];
    for name in names {
        let text = String::from_utf8_lossy(&name).into_owned();
        let file = rewrite(
            "active_open",
            |mut event| {
                let ours = b"tt-scenarios\0\0\0\0";
                if let Some(at) = event.windows(16).position(|window| window == ours) {
                    event[at..at + 16].fill(0);
                    event[at..at + name.len()].copy_from_slice(&name);
                }
                event
            },
            Some(Name::Cgroup {
                id: 1,
                path: format!("/{text}.service"),
            }),
            false,
        );
        for arguments in formats {
            let written = in_a_terminal(UTF8, arguments, file.path(), 120);
            let written = String::from_utf8(written).expect("UTF-8 reaches the terminal");
            let left = without_own_sequences(&written).replace("\r\n", "\n");
            let hostile = left.chars().find(|character| {
                (character.is_control() && *character != '\n')
                    || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{feff}')
            });
            assert!(hostile.is_none(), "{hostile:?} of {name:?} in {written:?}");
            assert!(left.contains("192.0.2.2"), "nothing was shown: {left:?}");
            let shows_cgroups = arguments[1] != "table" && arguments[1] != "diagram";
            assert!(!shows_cgroups || left.contains(".service"), "{left:?}");
        }
    }
}

fn emulator(columns: u16) -> vt100::Parser {
    let size = |number| NonZero::new(number).expect("a size");
    vt100::Parser::new(size(60), size(columns), 0)
}

#[test]
fn no_row_wraps_in_a_terminal_and_it_is_left_as_it_was() {
    for columns in [20, 40, 80, 120, 250] {
        for (format, locale) in [
            ("table", UTF8),
            ("table", ASCII),
            ("diagram", UTF8),
            ("diagram", ASCII),
        ] {
            let file = stream("half_close_by_us");
            let arguments = ["--format", format, "--color", "always"];
            let written = in_a_terminal(locale, &arguments, &file, columns);
            let text = String::from_utf8(written.clone()).expect("UTF-8");
            assert!(locale == UTF8 || text.is_ascii(), "{text:?}");
            // The first and the last line are messages, of any length.
            let rows: Vec<_> = text
                .lines()
                .filter(|line| !line.contains("tcptrace: "))
                .collect();
            let mut terminal = emulator(columns);
            let rows = rows[..rows.len() - 1].join("\r\n");
            terminal.process(rows.as_bytes());
            let screen = terminal.screen();
            for row in 0..60 {
                assert!(
                    !screen.row_wrapped(row),
                    "{columns} columns: {}",
                    screen.contents()
                );
            }
            let mut terminal = emulator(columns);
            terminal.process(&written);
            let screen = terminal.screen();
            assert!(!screen.alternate_screen() && !screen.hide_cursor());
            assert_eq!(screen.fgcolor(), vt100::Color::Default);
            assert!(!screen.bold() && screen.contents().contains("1 connections seen"));
        }
    }
}
