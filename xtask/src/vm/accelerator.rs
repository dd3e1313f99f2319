//! What runs a guest's instructions: the processor itself, where it really does, or QEMU.

use std::{fmt, fs, path::Path, process::Stdio, thread, time::Duration};

use anyhow::{Context as _, Result};

use super::{
    archive::make_directory,
    machine::{bare, stop},
    stopwatch::Stopwatch,
    tools::QEMU,
};

/// What runs with the help of the hardware shows that in less.
const PROOF: Duration = Duration::from_secs(5);

/// What runs a guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU.
    Emulation,
}

impl fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Kvm => "with KVM",
            Self::Emulation => "emulated",
        })
    }
}

impl Accelerator {
    /// The hardware's help if it is more than a promise. Some hosts have /dev/kvm, and a machine
    /// on it never executes anything: so one is asked to boot from a disk that only says 16.
    pub(crate) fn find(directory: &Path) -> Result<Self> {
        /// A boot sector: mov dx, 0xf4; mov al, 16; out dx, al; hlt; jmp.
        const CODE: [u8; 9] = [0xba, 0xf4, 0x00, 0xb0, 0x10, 0xee, 0xf4, 0xeb, 0xfd];
        /// The exit status that QEMU's device for this makes of it.
        const STATUS: i32 = 16 << 1 | 1;
        if !Path::new("/dev/kvm").exists() {
            return Ok(Self::Emulation);
        }
        make_directory(directory)?;
        let disk = directory.join("probe.img");
        let mut sector = [0; 512];
        sector[..CODE.len()].copy_from_slice(&CODE);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        fs::write(&disk, sector).with_context(|| format!("cannot write {}", disk.display()))?;

        let mut command = bare(Self::Kvm);
        command
            .args(["-m", "16"])
            .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=1", "-drive"])
            .arg(format!("file={},format=raw,if=floppy", disk.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot run {QEMU}"))?;
        let watch = Stopwatch::start();
        while watch.elapsed() < PROOF {
            if let Some(status) = child.try_wait()? {
                let works = status.code() == Some(STATUS);
                return Ok(if works { Self::Kvm } else { Self::Emulation });
            }
            thread::sleep(Duration::from_millis(20));
        }
        stop(&mut child)?;
        Ok(Self::Emulation)
    }
}
