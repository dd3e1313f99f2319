//! A live tail in a terminal: it follows the width, shows its status, and leaves everything as it
//! was.

use std::{
    io::{Read as _, Write as _},
    num::NonZero,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, ensure};
use nix::sys::termios::{Termios, tcgetattr};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, SlavePty, native_pty_system};

use crate::support::{Check, namespace::Namespace, program::tcptrace, tests, wait_for};

tests![
    a_tail_follows_the_width_of_its_terminal_and_leaves_it_as_it_was,
    a_status_line_tells_of_what_happens_without_rows,
];

const ROWS: u16 = 40;

/// A tail in a terminal.
struct Terminal {
    /// What is typed. When it goes, it types an end of line.
    keys: Box<dyn std::io::Write + Send>,
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    written: Arc<Mutex<Vec<u8>>>,
    before: Termios,
    /// As long as this end is open too, the settings can be asked for.
    _slave: Box<dyn SlavePty + Send>,
}

const fn size(columns: u16) -> PtySize {
    PtySize {
        rows: ROWS,
        cols: columns,
        pixel_width: 0,
        pixel_height: 0,
    }
}

impl Terminal {
    fn tail(namespace: &Namespace, columns: u16, arguments: &[&str]) -> anyhow::Result<Self> {
        let pair = native_pty_system()
            .openpty(size(columns))
            .context("opening a terminal")?;
        let mut command = CommandBuilder::new(tcptrace(&[]).get_program());
        command.args(["tail", "--netns", &namespace.inode().to_string()]);
        command.args(arguments);
        command.env("LC_ALL", "C.UTF-8");
        command.env("TERM", "xterm");
        command.env_remove("NO_COLOR");
        let before = attributes(&*pair.master)?;
        let child = pair.slave.spawn_command(command)?;
        let mut reader = pair.master.try_clone_reader()?;
        let written = Arc::<Mutex<Vec<u8>>>::default();
        let writing = Arc::clone(&written);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                let mut written = writing.lock().unwrap_or_else(PoisonError::into_inner);
                written.extend_from_slice(&bytes[..count]);
            }
        });
        Ok(Self {
            keys: pair.master.take_writer()?,
            master: pair.master,
            child,
            written,
            before,
            _slave: pair.slave,
        })
    }

    /// What was written so far.
    fn text(&self) -> String {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Waits until so much of it can be read.
    fn wait_for(&self, what: &str, count: usize) -> Check {
        wait_for(what, || {
            Ok((self.text().matches(what).count() >= count).then_some(()))
        })
        .with_context(|| format!("{:?} was written", self.text()))
    }

    /// Types Ctrl-C and waits for its end.
    fn interrupt(&mut self) -> Check {
        self.keys.write_all(b"\x03")?;
        let status = wait_for("the tail to end", || Ok(self.child.try_wait()?))?;
        ensure!(status.success(), "{status:?}: {}", self.text());
        self.wait_for("connections seen", 1)
    }

    /// The terminal is as it was before.
    fn must_be_as_before(&self, columns: u16) -> anyhow::Result<String> {
        let after = attributes(&*self.master)?;
        ensure!(after == self.before, "{after:?} was {:?}", self.before);
        let number = |number| NonZero::new(number).context("a size");
        let mut emulator = vt100::Parser::new(number(ROWS)?, number(columns)?, 0);
        emulator.process(self.text().as_bytes());
        let screen = emulator.screen();
        ensure!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bold());
        ensure!(screen.fgcolor() == vt100::Color::Default);
        ensure!(screen.cursor_position().1 == 0, "the cursor is in a line");
        Ok(screen.contents())
    }
}

fn attributes(master: &(dyn MasterPty + Send)) -> anyhow::Result<Termios> {
    let fd = master.as_raw_fd().context("a descriptor")?;
    // SAFETY: the master keeps it open for as long as it lives.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Ok(tcgetattr(fd)?)
}

fn one_connection(namespace: &Namespace) -> Check {
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let (client, mut server) = namespace.pair(&listener)?;
    drop(client);
    server.read_to_end(&mut Vec::new())?;
    Ok(())
}

fn a_tail_follows_the_width_of_its_terminal_and_leaves_it_as_it_was() -> Check {
    let namespace = Namespace::new()?;
    let mut terminal = Terminal::tail(&namespace, 150, &["--color", "never"])?;
    terminal.wait_for("NOTES", 1)?;
    one_connection(&namespace)?;
    // Two ends of it.
    terminal.wait_for("graceful", 2)?;
    let wide = terminal.text();
    terminal.master.resize(size(40))?;
    one_connection(&namespace)?;
    terminal.wait_for("graceful", 4)?;
    let text = terminal.text();
    let narrow = text.strip_prefix(&wide).context("it goes on")?;
    // The status line is written over.
    for line in narrow.split(['\n', '\r']) {
        let line = line.trim_start_matches("\u{1b}[K");
        ensure!(line.chars().count() <= 40, "{line:?} is too long");
    }
    ensure!(narrow.contains("NOTES"), "no new headings: {narrow:?}");
    terminal.interrupt()?;
    let screen = terminal.must_be_as_before(150)?;
    ensure!(
        screen
            .trim_end()
            .ends_with("4 connections seen, 0 failed, 0 events lost"),
        "{screen}"
    );
    ensure!(
        !screen.contains("/s opened"),
        "the status is left: {screen}",
    );
    Ok(())
}

fn a_status_line_tells_of_what_happens_without_rows() -> Check {
    let namespace = Namespace::new()?;
    let arguments = ["--show", "transitions", "--state", "listen"];
    // Just too narrow for all of it.
    let mut terminal = Terminal::tail(&namespace, 60, &arguments)?;
    terminal.wait_for("0/s opened  0/s failed  0/s closed  0 open", 1)?;
    let (listener, _) = namespace.listen("127.0.0.1:0")?;
    let pair = namespace.pair(&listener)?;
    // Both ends are this host's.
    terminal.wait_for("  2 open", 1)?;
    drop(pair);
    terminal.wait_for("0/s opened  0/s failed  0/s closed  0 open", 2)?;
    terminal.interrupt()?;
    // The terminal has shown ^C behind it.
    let screen = terminal.must_be_as_before(60)?;
    ensure!(
        !screen.contains("/s opened"),
        "the status is left: {screen}",
    );
    Ok(())
}
