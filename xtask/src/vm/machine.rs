//! A virtual machine: QEMU with one processor, a kernel, its file system, and a serial line.

use std::{
    ffi::OsString,
    fmt,
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{console::GREETING, stopwatch::Stopwatch, streams::IN_GUEST, tools::QEMU};

/// The processor that is emulated. After CMPXCHG16B, which the kernel's allocator uses where it can,
/// QEMU 7.2 may leave rubbish in the flags, and an interrupt then saves it: boots of Linux 6.12 died
/// of double faults there.
const EMULATED: &str = "qemu64,-cx16";
/// In MiB. The tests' file system is in it.
const MEMORY: &str = "1024";

/// What runs a guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accelerator {
    /// QEMU emulates the processor. Works on every machine.
    #[default]
    Tcg,
    /// The processor itself. Only on request: /dev/kvm is there on many machines whose nested
    /// virtualisation is incomplete, and a guest then dies at an instruction that no probe ran.
    Kvm,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcg => "emulated",
            Self::Kvm => "with KVM",
        })
    }
}

/// How long a machine may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// One whose first process has not spoken by then does not boot.
    pub(crate) greeting: Duration,
    /// One that says nothing for so long has stopped.
    pub(crate) silence: Duration,
    /// One that talks for so long never ends.
    pub(crate) life: Duration,
}

/// A machine that can be switched on.
pub(crate) struct Machine {
    /// What it runs on.
    pub(crate) accelerator: Accelerator,
    /// Its kernel.
    pub(crate) image: PathBuf,
    /// Its file system.
    pub(crate) initramfs: PathBuf,
    /// What the kernel hands on to the first process.
    pub(crate) arguments: Vec<String>,
    /// Where the streams go that the tests store, if they are to.
    pub(crate) streams: Option<PathBuf>,
    /// When it is stopped.
    pub(crate) limits: Limits,
}

/// How a machine's life ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was switched off, or QEMU ended.
    Off,
    /// QEMU printed this error. It may leave a machine standing that will never run again.
    Broken(String),
    /// Its first process did not speak for so long, and it was stopped.
    Unbooted(Duration),
    /// It said nothing for so long, and was stopped.
    Silent(Duration),
    /// It did not end for so long, and was stopped.
    Endless(Duration),
}

/// What a machine left.
#[derive(Debug)]
pub(crate) struct Life {
    /// All that came over the serial line, and QEMU's own complaints.
    pub(crate) console: String,
    /// How it ended.
    pub(crate) end: End,
    /// How long it took.
    pub(crate) took: Duration,
}

impl Machine {
    /// Switches it on and waits for its end.
    pub(crate) fn run(&self) -> Result<Life> {
        let mut command = bare(self.accelerator);
        command
            .args(["-m", MEMORY, "-serial", "stdio", "-kernel"])
            .arg(&self.image)
            .arg("-initrd")
            .arg(&self.initramfs)
            .args(["-append", &self.command_line()]);
        if let Some(streams) = &self.streams {
            let mut line = OsString::from("file:");
            line.push(streams);
            command.arg("-serial").arg(line);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let watch = Stopwatch::start();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {QEMU}"))?;
        let (sender, pieces) = channel();
        if let Some(serial) = child.stdout.take() {
            let sender = sender.clone();
            thread::spawn(move || hear(serial, &sender));
        }
        if let Some(errors) = child.stderr.take() {
            thread::spawn(move || hear_errors(errors, &sender));
        }
        let mut console = Vec::new();
        let end = listen(&pieces, self.limits, &watch, &mut console);
        stop(&mut child)?;
        // What was still under way: the readers end with QEMU.
        for piece in pieces {
            piece.write_to(&mut console);
        }
        Ok(Life {
            console: String::from_utf8_lossy(&console).into_owned(),
            end,
            took: watch.elapsed(),
        })
    }

    /// The kernel's command line: quiet but for what ends it, and what is after the hyphens is the
    /// first process's.
    fn command_line(&self) -> String {
        let record = self.streams.as_ref().map(|_| format!(" {IN_GUEST}"));
        format!(
            "console=ttyS0 loglevel=3 oops=panic panic=-1 rdinit=/init TCPTRACE_TEST_GUEST=1{} --{}",
            record.unwrap_or_default(),
            self.arguments
                .iter()
                .map(|argument| format!(" \"{argument}\""))
                .collect::<String>()
        )
    }
}

/// Something that was said.
enum Piece {
    /// Over the serial line.
    Serial(Vec<u8>),
    /// A line of QEMU itself.
    Qemu(String),
}

impl Piece {
    fn write_to(&self, console: &mut Vec<u8>) {
        match self {
            Self::Serial(bytes) => console.extend(bytes),
            Self::Qemu(line) => {
                console.extend(line.as_bytes());
                console.push(b'\n');
            }
        }
    }
}

/// Passes on what comes over the serial line.
fn hear(mut serial: impl Read, sender: &Sender<Piece>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = serial.read(&mut buffer) {
        if sender
            .send(Piece::Serial(buffer[..length].to_vec()))
            .is_err()
        {
            break;
        }
    }
}

/// Passes on what QEMU itself prints.
fn hear_errors(errors: impl Read, sender: &Sender<Piece>) {
    for line in BufReader::new(errors).lines().map_while(Result::ok) {
        if sender.send(Piece::Qemu(line)).is_err() {
            break;
        }
    }
}

/// Takes what a machine says until it ends or should have.
fn listen(
    pieces: &Receiver<Piece>,
    limits: Limits,
    watch: &Stopwatch,
    console: &mut Vec<u8>,
) -> End {
    let mut greeted = false;
    loop {
        let patience = match greeted {
            true => limits.silence,
            false => limits.greeting.saturating_sub(watch.elapsed()),
        };
        match pieces.recv_timeout(patience) {
            Ok(piece) => {
                piece.write_to(console);
                match piece {
                    Piece::Serial(_) => {
                        greeted = greeted || contains(console, GREETING.as_bytes());
                    }
                    // A processor's feature that is not emulated, for one.
                    Piece::Qemu(line) if line.contains("warning:") => {}
                    Piece::Qemu(line) => return End::Broken(line),
                }
            }
            Err(RecvTimeoutError::Timeout) if greeted => return End::Silent(limits.silence),
            Err(RecvTimeoutError::Timeout) => return End::Unbooted(limits.greeting),
            Err(RecvTimeoutError::Disconnected) => return End::Off,
        }
        if watch.elapsed() > limits.life {
            return End::Endless(limits.life);
        }
    }
}

fn contains(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}

/// QEMU with nothing but a processor: with two, tests would race for no gain on a small host.
fn bare(accelerator: Accelerator) -> Command {
    let mut command = Command::new(QEMU);
    let accelerator = match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accelerator::Tcg => ["-accel", "tcg", "-cpu", EMULATED],
    };
    command.args(accelerator).args(["-smp", "1"]).args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-nic",
        "none",
    ]);
    command.stdin(Stdio::null());
    command
}

/// Ends QEMU, if it has not ended.
fn stop(child: &mut Child) -> Result<()> {
    if child
        .try_wait()
        .context("cannot look after QEMU")?
        .is_none()
    {
        // A child that ends between the two is no failure.
        child.kill().ok();
        child.wait().context("cannot wait for QEMU")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const PATIENT: Limits = Limits {
        greeting: LONG,
        silence: LONG,
        life: LONG,
    };

    /// Listens to a machine of which only the wire is there. What it returns of the wire is kept,
    /// so that the machine is not off.
    fn heard(
        limits: Limits,
        machine: impl FnOnce(Sender<Piece>) -> Option<Sender<Piece>>,
    ) -> (End, String) {
        let (sender, pieces) = channel();
        let mut console = Vec::new();
        let _kept = machine(sender);
        let end = listen(&pieces, limits, &Stopwatch::start(), &mut console);
        (end, String::from_utf8(console).expect("text"))
    }

    fn say(machine: &Sender<Piece>, text: &str) {
        let piece = Piece::Serial(text.as_bytes().to_vec());
        machine.send(piece).expect("a listener");
    }

    #[test]
    fn a_machine_that_goes_off_has_been_heard_to_its_end() {
        let said = heard(PATIENT, |machine| {
            say(&machine, "one");
            say(&machine, "two");
            None
        });
        assert_eq!(said, (End::Off, "onetwo".to_owned()));
    }

    #[test]
    fn a_machine_that_does_not_boot_is_given_up() {
        let limits = Limits {
            greeting: Duration::from_millis(1),
            ..PATIENT
        };
        let said = heard(limits, |machine| {
            say(&machine, "SeaBIOS");
            Some(machine)
        });
        assert_eq!(said, (End::Unbooted(limits.greeting), "SeaBIOS".to_owned()));
    }

    #[test]
    fn a_machine_that_falls_silent_is_given_up() {
        let limits = Limits {
            silence: Duration::from_millis(1),
            ..PATIENT
        };
        let said = heard(limits, |machine| {
            let (first, second) = GREETING.split_at(5);
            say(&machine, first);
            say(&machine, second);
            Some(machine)
        });
        assert_eq!(said, (End::Silent(limits.silence), GREETING.to_owned()));
    }

    #[test]
    fn a_machine_that_never_ends_is_given_up() {
        let limits = Limits {
            life: Duration::ZERO,
            ..PATIENT
        };
        let said = heard(limits, |machine| {
            say(&machine, "one");
            Some(machine)
        });
        assert_eq!(said, (End::Endless(limits.life), "one".to_owned()));
    }

    #[test]
    fn an_error_of_qemu_ends_the_wait_at_once_and_a_warning_does_not() {
        let warning = "qemu-system-x86_64: warning: TCG does not support this";
        let error = "KVM internal error. Suberror: 1";
        let (end, console) = heard(PATIENT, |machine| {
            for line in [warning, error] {
                machine
                    .send(Piece::Qemu(line.to_owned()))
                    .expect("a listener");
            }
            Some(machine)
        });
        assert_eq!(end, End::Broken(error.to_owned()));
        assert_eq!(console, format!("{warning}\n{error}\n"));
    }

    #[test]
    fn arguments_reach_the_first_process_whole() {
        let machine = Machine {
            accelerator: Accelerator::Tcg,
            image: PathBuf::new(),
            initramfs: PathBuf::new(),
            arguments: vec!["--exact".to_owned(), "a test".to_owned()],
            streams: None,
            limits: PATIENT,
        };
        let line = machine.command_line();
        assert!(line.ends_with(" -- \"--exact\" \"a test\""), "{line}");
    }
}
