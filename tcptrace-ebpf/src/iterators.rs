//! The iterators: over TCP sockets, and over the open files of tasks.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_seq_write;
use tcptrace_common::{FAMILY_INET, FAMILY_INET6};

use crate::{
    accept,
    access::{Access as _, Direct, Probe},
    emit,
    maps::layout,
    socket::Socket,
};

/// The first member of every iteration (`struct bpf_iter_meta`), by its own first member, the
/// `struct seq_file`.
type Meta = *const *mut c_void;

/// Puts a byte into the iterator's output, so that its reader gets as many sockets at a time as
/// bytes.
///
/// # Safety
///
/// `meta` is the context's.
#[inline(always)]
unsafe fn count(meta: Meta) {
    let byte = 0_u8;
    // SAFETY: the verifier checks the load; the helper reads one byte.
    unsafe { bpf_seq_write(meta.read_volatile().cast(), (&raw const byte).cast(), 1) };
}

/// The argument of an iterator over TCP sockets (`struct bpf_iter__tcp`).
#[repr(C)]
struct TcpIteration {
    meta: Meta,
    sk_common: *const u8,
}

/// A socket that exists.
///
/// # Safety
///
/// Called by the kernel.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
unsafe extern "C" fn seed(ctx: *const TcpIteration) -> i32 {
    // SAFETY: the verifier checks the load.
    let sk = unsafe { (&raw const (*ctx).sk_common).read_volatile() };
    if sk.is_null() {
        return 0;
    }
    // The iterator passes a sock_common, whatever socket it belongs to.
    if let Some(tcp) = Socket::<Direct>::new(sk).tcp() {
        emit::seed(tcp);
        // SAFETY: the context's.
        unsafe { count((&raw const (*ctx).meta).read_volatile()) };
    }
    0
}

/// The argument of an iterator over the open files of tasks (`struct bpf_iter__task_file`).
#[repr(C)]
struct FileIteration {
    meta: Meta,
    task: *const u8,
    fd: u64,
    file: *const u8,
}

/// A process holds a TCP socket of another network namespace: walks over namespaces may not find
/// it.
///
/// # Safety
///
/// Called by the kernel.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
unsafe extern "C" fn held(ctx: *const FileIteration) -> i32 {
    // SAFETY: the verifier checks the loads, and probe reads take any address.
    unsafe {
        let task = (&raw const (*ctx).task).read_volatile();
        let file = (&raw const (*ctx).file).read_volatile();
        if task.is_null() || file.is_null() || layout!(task.nsproxy) == 0 {
            return 0;
        }
        let Some(sk) = accept::socket_of_file(file as u64) else {
            return 0;
        };
        let socket = Socket::<Probe>::new(sk);
        let family = socket.family();
        if (family != FAMILY_INET && family != FAMILY_INET6) || !socket.is_tcp() {
            return 0;
        }
        let proxy: u64 = Probe::read(task, layout!(task.nsproxy) as usize, 0);
        let own: u64 = Probe::read(proxy as *const u8, layout!(task.net_ns) as usize, 0);
        if own != socket.net() {
            emit::held(socket);
            count((&raw const (*ctx).meta).read_volatile());
        }
    }
    0
}
