//! A program that does nothing at inet_sock_set_state: what any program costs there.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
};

use anyhow::Context as _;
use serde_json::json;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_PROG_TYPE_RAW_TRACEPOINT: u32 = 17;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The same for BPF_RAW_TRACEPOINT_OPEN.
#[repr(C)]
struct Open {
    name: u64,
    prog_fd: u32,
    reserved: u32,
}

/// Attaches it until standard input ends, and then reports its runs as the kernel counted them
/// (`kernel.bpf_stats_enabled`).
pub(crate) fn attach() -> anyhow::Result<()> {
    let program = load().context("loading an empty program (are you root?)")?;
    let _link = open(c"inet_sock_set_state", &program).context("attaching the empty program")?;
    println!("{}", json!({ "attached": true }));
    io::copy(&mut io::stdin(), &mut io::sink())?;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))?;
    let number = |name: &str| -> anyhow::Result<u64> {
        let value = info.lines().find_map(|line| line.strip_prefix(name));
        Ok(value
            .with_context(|| format!("no {name} in {info}"))?
            .trim()
            .parse()?)
    };
    println!(
        "{}",
        json!({ "runs": number("run_cnt:")?, "ns": number("run_time_ns:")? })
    );
    Ok(())
}

fn load() -> io::Result<OwnedFd> {
    // r0 = 0; exit
    let instructions: [u64; 2] = [0xb7, 0x95];
    let license = c"GPL";
    bpf(
        BPF_PROG_LOAD,
        &Load {
            prog_type: BPF_PROG_TYPE_RAW_TRACEPOINT,
            insn_cnt: 2,
            insns: instructions.as_ptr() as u64,
            license: license.as_ptr() as u64,
        },
    )
}

fn open(tracepoint: &CStr, program: &OwnedFd) -> io::Result<OwnedFd> {
    bpf(
        BPF_RAW_TRACEPOINT_OPEN,
        &Open {
            name: tracepoint.as_ptr() as u64,
            prog_fd: program.as_raw_fd().cast_unsigned(),
            reserved: 0,
        },
    )
}

/// Calls bpf(2) for a command that returns a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: bpf(2) reads the attributes and what they point to, all of which outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = i32::try_from(answer).map_err(io::Error::other)?;
    // SAFETY: the kernel just gave it out.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
