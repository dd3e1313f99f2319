//! A virtual machine: QEMU with one processor, a kernel, its file system, and a serial line.

use std::{
    ffi::OsString,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use super::{accelerator::Accelerator, stopwatch::Stopwatch, streams::IN_GUEST, tools::QEMU};

/// The processor that is emulated. After CMPXCHG16B, which the kernel's allocator uses where it can,
/// QEMU 7.2 may leave rubbish in the flags, and an interrupt then saves it: boots of Linux 6.12 died
/// of double faults there.
const EMULATED: &str = "qemu64,-cx16";
/// In MiB. The tests' file system is in it.
const MEMORY: &str = "1024";

/// How long a machine may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was switched off, or QEMU ended.
    Off,
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
        let (mut reader, writer) = std::io::pipe().context("cannot make a pipe")?;
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
        command
            .stdout(writer.try_clone().context("cannot share a pipe")?)
            .stderr(writer);
        let watch = Stopwatch::start();
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {QEMU}"))?;
        // It holds the writing ends, and the pipe must end with QEMU.
        drop(command);

        let (sender, pieces) = channel();
        let listener = thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    break;
                }
            }
        });
        let mut console = Vec::new();
        let end = listen(&pieces, self.limits, &watch, &mut console);
        stop(&mut child)?;
        // Its end follows from QEMU's.
        drop(listener);
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

/// Takes what a machine says until it ends or should have.
fn listen(
    pieces: &Receiver<Vec<u8>>,
    limits: Limits,
    watch: &Stopwatch,
    console: &mut Vec<u8>,
) -> End {
    loop {
        match pieces.recv_timeout(limits.silence) {
            Ok(piece) => console.extend(piece),
            Err(RecvTimeoutError::Timeout) => return End::Silent(limits.silence),
            Err(RecvTimeoutError::Disconnected) => return End::Off,
        }
        if watch.elapsed() > limits.life {
            return End::Endless(limits.life);
        }
    }
}

/// QEMU with nothing but a processor: with two, tests would race for no gain on a small host.
pub(super) fn bare(accelerator: Accelerator) -> Command {
    let mut command = Command::new(QEMU);
    let accelerator = match accelerator {
        Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        Accelerator::Emulation => ["-accel", "tcg", "-cpu", EMULATED],
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
pub(super) fn stop(child: &mut Child) -> Result<()> {
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
    use std::sync::mpsc::Sender;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    /// Listens to a machine of which only the wire is there.
    fn heard(limits: Limits, machine: impl FnOnce(Sender<Vec<u8>>)) -> (End, Vec<u8>) {
        let (sender, pieces) = channel();
        let mut console = Vec::new();
        machine(sender);
        let end = listen(&pieces, limits, &Stopwatch::start(), &mut console);
        (end, console)
    }

    #[test]
    fn a_machine_that_goes_off_has_been_heard_to_its_end() {
        let limits = Limits {
            silence: LONG,
            life: LONG,
        };
        let said = heard(limits, |machine| {
            machine.send(b"one".to_vec()).expect("a listener");
            machine.send(b"two".to_vec()).expect("a listener");
        });
        assert_eq!(said, (End::Off, b"onetwo".to_vec()));
    }

    #[test]
    fn a_machine_that_falls_silent_is_given_up() {
        let limits = Limits {
            silence: Duration::from_millis(1),
            life: LONG,
        };
        let mut kept = None;
        let said = heard(limits, |machine| {
            machine.send(b"one".to_vec()).expect("a listener");
            kept = Some(machine);
        });
        assert_eq!(said, (End::Silent(limits.silence), b"one".to_vec()));
    }

    #[test]
    fn a_machine_that_never_ends_is_given_up() {
        let limits = Limits {
            silence: LONG,
            life: Duration::ZERO,
        };
        let mut kept = None;
        let said = heard(limits, |machine| {
            machine.send(b"one".to_vec()).expect("a listener");
            kept = Some(machine);
        });
        assert_eq!(said, (End::Endless(limits.life), b"one".to_vec()));
    }

    #[test]
    fn arguments_reach_the_first_process_whole() {
        let machine = Machine {
            accelerator: Accelerator::Emulation,
            image: PathBuf::new(),
            initramfs: PathBuf::new(),
            arguments: vec!["--exact".to_owned(), "a test".to_owned()],
            streams: None,
            limits: Limits {
                silence: LONG,
                life: LONG,
            },
        };
        let line = machine.command_line();
        assert!(line.ends_with(" -- \"--exact\" \"a test\""), "{line}");
    }
}
