//! What the kernel tells of each program that is loaded.

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use aya::programs::Program;

/// What the kernel tells of a program, kept open to be read often. It outlives the program's
/// being detached.
pub(super) struct ProgramInfo {
    pub(super) name: String,
    info: File,
    _program: OwnedFd,
}

impl ProgramInfo {
    pub(super) fn open(name: &str, program: &Program) -> Option<Self> {
        let program = program.fd().ok()?.as_fd().try_clone_to_owned().ok()?;
        let info = File::open(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
        Some(Self {
            name: name.to_owned(),
            info,
            _program: program,
        })
    }

    /// Runs that the kernel skipped; `None` where it does not count them (before 5.12).
    pub(super) fn misses(&self) -> Option<u64> {
        let mut text = [0; 512];
        let length = self.info.read_at(&mut text, 0).ok()?;
        recursion_misses(str::from_utf8(&text[..length]).ok()?)
    }
}

/// `bpf_prog_show_fdinfo` has it since 5.12.
fn recursion_misses(info: &str) -> Option<u64> {
    let misses = info
        .lines()
        .find_map(|line| line.strip_prefix("recursion_misses:"))?;
    misses.trim().parse().ok()
}
