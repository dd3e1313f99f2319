//! A virtual machine: QEMU with one processor, a kernel, its file system, and a serial line.

use std::{
    ffi::OsString,
    io::{PipeReader, Read as _, pipe},
    path::PathBuf,
    process::{Command, Stdio},
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Architecture, streams::IN_GUEST};

/// In MiB. It contains the tests' file system.
const MEMORY: &str = "1024";
/// A guest without output for this long has stopped. The slowest test starts tcptrace five times on
/// one emulated processor, which takes minutes on a busy host.
const SILENCE: Duration = Duration::from_secs(300);
/// A guest that runs this long never ends: all tests take a few minutes, on an emulated foreign
/// processor some more.
const LIFE: Duration = Duration::from_secs(40 * 60);

/// What runs a guest's instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Accelerator {
    /// QEMU emulates the processor. Works on every machine.
    #[default]
    Tcg,
    /// The processor itself. Only on request: many machines have /dev/kvm but incomplete nested
    /// virtualisation, and a guest then dies at an arbitrary instruction.
    Kvm,
}

/// A machine to run.
pub(crate) struct Machine<'a> {
    pub(crate) architecture: Architecture,
    pub(crate) accelerator: Accelerator,
    pub(crate) image: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// What the kernel passes to the first process.
    pub(crate) arguments: &'a [String],
    /// Where the tests' streams go, if they are stored.
    pub(crate) streams: Option<PathBuf>,
}

/// The result of a machine's run.
#[derive(Debug)]
pub(crate) struct Life {
    /// The output of the serial line, and QEMU's own messages.
    pub(crate) console: String,
    /// Why it was stopped, if it did not end by itself.
    pub(crate) stopped: Option<String>,
    pub(crate) took: Duration,
}

impl Machine<'_> {
    /// Starts it and waits for its end.
    #[expect(
        clippy::disallowed_methods,
        reason = "the daemon's time comes in events; a virtual machine's comes from the clock"
    )]
    pub(crate) fn run(&self) -> Result<Life> {
        let started = Instant::now();
        let (reader, writer) = pipe().context("cannot make a pipe")?;
        let mut command = self.qemu();
        command
            .stdin(Stdio::null())
            .stdout(writer.try_clone().context("cannot share the pipe")?)
            .stderr(writer);
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {}", self.architecture.names().qemu))?;
        // It holds the writing ends, and the pipe must end when QEMU does.
        drop(command);
        let (sender, pieces) = channel();
        thread::spawn(move || hear(reader, &sender));
        let mut console = Vec::new();
        let stopped = loop {
            match pieces.recv_timeout(SILENCE) {
                Ok(piece) => console.extend(piece),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {
                    break Some(format!("nothing was heard for {} s", SILENCE.as_secs()));
                }
            }
            if started.elapsed() > LIFE {
                break Some(format!("it did not end in {} s", LIFE.as_secs()));
            }
        };
        // One that has ended cannot be killed, and need not be.
        child.kill().ok();
        child.wait().context("cannot wait for QEMU")?;
        // What had not arrived yet.
        console.extend(pieces.into_iter().flatten());
        Ok(Life {
            console: String::from_utf8_lossy(&console).into_owned(),
            stopped,
            took: started.elapsed(),
        })
    }

    /// Returns QEMU with one processor: with two, tests would race for no gain on a small host.
    fn qemu(&self) -> Command {
        let mut command = Command::new(self.architecture.names().qemu);
        command.args(match (self.accelerator, self.architecture) {
            (Accelerator::Kvm, _) => ["-accel", "kvm", "-cpu", "host"],
            // After CMPXCHG16B, which the kernel's allocator uses if possible, QEMU 7.2 may leave
            // wrong flags, which an interrupt then saves: boots of Linux 6.12 died of double faults
            // there.
            (Accelerator::Tcg, Architecture::Amd64) => ["-accel", "tcg", "-cpu", "qemu64,-cx16"],
            (Accelerator::Tcg, Architecture::Arm64) => ["-accel", "tcg", "-cpu", "cortex-a72"],
        });
        if self.architecture == Architecture::Arm64 {
            command.args(["-machine", "virt"]);
        }
        command
            .args(["-smp", "1", "-m", MEMORY])
            .args(["-nodefaults", "-no-user-config", "-no-reboot"])
            .args(["-display", "none", "-nic", "none", "-serial", "stdio"])
            .arg("-kernel")
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
    }

    /// Returns the kernel's command line: quiet except for fatal errors; what follows the hyphens
    /// is for the first process.
    pub(super) fn command_line(&self) -> String {
        let record = self.streams.as_ref().map(|_| format!(" {IN_GUEST}"));
        let arguments = self
            .arguments
            .iter()
            .map(|argument| format!(" \"{argument}\""));
        format!(
            "console={} loglevel=3 oops=panic panic=-1 rdinit=/init TCPTRACE_TEST_GUEST=1{} --{}",
            self.architecture.names().serial_line,
            record.unwrap_or_default(),
            arguments.collect::<String>()
        )
    }
}

/// Passes on a machine's output, unfinished lines too: if it stops, the last one names the test.
fn hear(mut from: PipeReader, to: &Sender<Vec<u8>>) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        if to.send(buffer[..length].to_vec()).is_err() {
            break;
        }
    }
}
