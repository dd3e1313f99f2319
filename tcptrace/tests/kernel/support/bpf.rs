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
const BPF_CGROUP_INET4_CONNECT: u32 = 10;
/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR`.
const SOCK_ADDR: u32 = 18;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// `BPF_PROG_TYPE_SK_LOOKUP`.
const SK_LOOKUP: u32 = 30;
/// `BPF_SK_LOOKUP`.
const BPF_SK_LOOKUP: u32 = 36;
const BPF_MAP_CREATE: libc::c_int = 0;
const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_MAP_TYPE_SOCKMAP: u32 = 15;

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
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
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
    load_to_attach(kind, 0, instructions)
}

fn load_to_attach(
    kind: u32,
    expected_attach_type: u32,
    instructions: &[u64],
) -> io::Result<OwnedFd> {
    // Before Linux 5.11 programs are charged to it; elsewhere a refusal does not matter.
    setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY).ok();
    let license = c"GPL";
    let attributes = Load {
        prog_type: kind,
        insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        insns: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        expected_attach_type,
        ..Load::default()
    };
    Ok(own(bpf(BPF_PROG_LOAD, &attributes)?))
}

/// One instruction: operation, destination, source, offset, immediate.
const fn instruction(code: u8, registers: u8, offset: i16, immediate: i32) -> u64 {
    code as u64
        | (registers as u64) << 8
        | (offset.cast_unsigned() as u64) << 16
        | (immediate.cast_unsigned() as u64) << 32
}

/// Until it is dropped, what comes to a port of a network namespace goes to this listener, whoever
/// listens there.
pub(crate) struct Steering {
    _link: OwnedFd,
}

impl Steering {
    /// Attaches an sk_lookup program to a namespace.
    pub(crate) fn of_port(
        namespace: &impl AsRawFd,
        port: u16,
        listener: &impl AsRawFd,
    ) -> io::Result<Self> {
        let map = own(bpf(BPF_MAP_CREATE, &[BPF_MAP_TYPE_SOCKMAP, 4, 8, 1, 0])?);
        let (key, value) = (0_u32, listener.as_raw_fd() as u64);
        let element = [
            map.as_raw_fd() as u64,
            std::ptr::from_ref(&key) as u64,
            std::ptr::from_ref(&value) as u64,
            0,
        ];
        bpf(BPF_MAP_UPDATE_ELEM, &element)?;
        let program = load_to_attach(
            SK_LOOKUP,
            BPF_SK_LOOKUP,
            &[
                instruction(0xbf, 0x16, 0, 0),               // r6 = r1
                instruction(0x61, 0x12, 60, 0),              // r2 = r1->local_port
                instruction(0x55, 0x02, 14, port.into()),    // if r2 != port goto pass
                instruction(0x62, 0x0a, -4, 0),              // key = 0
                instruction(0x18, 0x11, 0, map.as_raw_fd()), // r1 = map
                instruction(0, 0, 0, 0),
                instruction(0xbf, 0xa2, 0, 0), // r2 = &key
                instruction(0x07, 0x02, 0, -4),
                instruction(0x85, 0, 0, 1),    // r0 = bpf_map_lookup_elem
                instruction(0x15, 0x00, 7, 0), // if r0 == 0 goto pass
                instruction(0xbf, 0x07, 0, 0), // r7 = r0
                instruction(0xbf, 0x61, 0, 0),
                instruction(0xbf, 0x72, 0, 0),
                instruction(0xb7, 0x03, 0, 0),
                instruction(0x85, 0, 0, 124), // bpf_sk_assign(r6, r7, 0)
                instruction(0xbf, 0x71, 0, 0),
                instruction(0x85, 0, 0, 86),   // bpf_sk_release(r7)
                instruction(0xb7, 0x00, 0, 1), // pass: return SK_PASS
                instruction(0x95, 0, 0, 0),
            ],
        )?;
        let link = [
            program.as_raw_fd().cast_unsigned(),
            namespace.as_raw_fd().cast_unsigned(),
            BPF_SK_LOOKUP,
            0,
        ];
        Ok(Self {
            _link: own(bpf(BPF_LINK_CREATE, &link)?),
        })
    }
}

fn own(fd: i32) -> OwnedFd {
    // SAFETY: the kernel just gave it out.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A program of a cgroup, beside those of others. Dropping it detaches it.
pub(crate) struct OfCgroup {
    cgroup: File,
    program: OwnedFd,
    attach_type: u32,
}

impl OfCgroup {
    /// Attaches a sock_ops program.
    pub(crate) fn attach(cgroup: &Path, program: OwnedFd) -> io::Result<Self> {
        Self::attach_as(cgroup, program, BPF_CGROUP_SOCK_OPS)
    }

    /// Forbids connect() over IPv4.
    pub(crate) fn forbid_connect(cgroup: &Path) -> io::Result<Self> {
        let program = load_to_attach(
            SOCK_ADDR,
            BPF_CGROUP_INET4_CONNECT,
            &[
                instruction(0xb7, 0x00, 0, 0), // r0 = 0
                instruction(0x95, 0x00, 0, 0), // exit
            ],
        )?;
        Self::attach_as(cgroup, program, BPF_CGROUP_INET4_CONNECT)
    }

    /// As programs that know no links are attached: with `BPF_F_ALLOW_MULTI`.
    fn attach_as(cgroup: &Path, program: OwnedFd, attach_type: u32) -> io::Result<Self> {
        let attached = Self {
            cgroup: File::open(cgroup)?,
            program,
            attach_type,
        };
        bpf(BPF_PROG_ATTACH, &attached.attributes(BPF_F_ALLOW_MULTI))?;
        Ok(attached)
    }

    fn attributes(&self, attach_flags: u32) -> Attach {
        Attach {
            target_fd: self.cgroup.as_raw_fd().cast_unsigned(),
            attach_bpf_fd: self.program.as_raw_fd().cast_unsigned(),
            attach_type: self.attach_type,
            attach_flags,
        }
    }
}

impl Drop for OfCgroup {
    fn drop(&mut self) {
        if let Err(error) = bpf(BPF_PROG_DETACH, &self.attributes(0)) {
            eprintln!("a cgroup's program could not be detached: {error}");
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
