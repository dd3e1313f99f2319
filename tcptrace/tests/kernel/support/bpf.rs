//! eBPF programs of a few instructions, for what a test needs beside tcptrace's own.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
};

use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_ATTACH: libc::c_int = 8;
const BPF_PROG_DETACH: libc::c_int = 9;
const BPF_CGROUP_SOCK_OPS: u32 = 3;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `BPF_PROG_TYPE_TRACEPOINT`.
pub(super) const TRACEPOINT: u32 = 5;
/// `BPF_PROG_TYPE_SOCK_OPS`.
pub(crate) const SOCK_OPS: u32 = 13;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a program; each instruction as the kernel lays it out, little end first.
pub(crate) fn load(kind: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    // Before Linux 5.11 programs are charged to it; elsewhere a refusal does not matter.
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).ok();
    let license = c"GPL";
    let attributes = Load {
        prog_type: kind,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &attributes)?;
    // SAFETY: the kernel just gave it out.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A sock_ops program of a cgroup, beside those of others. Dropping it detaches it.
pub(crate) struct OfCgroup {
    cgroup: File,
    program: OwnedFd,
}

impl OfCgroup {
    /// Attaches it as programs that know no links are: with `BPF_F_ALLOW_MULTI`.
    pub(crate) fn attach(cgroup: &Path, program: OwnedFd) -> io::Result<Self> {
        let attached = Self {
            cgroup: File::open(cgroup)?,
            program,
        };
        bpf(BPF_PROG_ATTACH, &attached.attributes(BPF_F_ALLOW_MULTI))?;
        Ok(attached)
    }

    fn attributes(&self, attach_flags: u32) -> Attach {
        Attach {
            target_fd: self.cgroup.as_raw_fd().cast_unsigned(),
            attach_bpf_fd: self.program.as_raw_fd().cast_unsigned(),
            attach_type: BPF_CGROUP_SOCK_OPS,
            attach_flags,
        }
    }
}

impl Drop for OfCgroup {
    fn drop(&mut self) {
        if let Err(error) = bpf(BPF_PROG_DETACH, &self.attributes(0)) {
            eprintln!("a sock_ops program could not be detached: {error}");
        }
    }
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<i32> {
    // SAFETY: bpf(2) reads the attributes and what they point to, all of which outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(answer).map_err(io::Error::other)
}
