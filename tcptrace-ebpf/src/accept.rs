//! From a file descriptor to its socket, for kernels where `inet_csk_accept` cannot be traced.

use aya_ebpf::{helpers::bpf_get_current_task, programs::TracePointContext};
use tcptrace_common::{FAMILY_INET, FAMILY_INET6};

use crate::{
    access::{Access, Probe},
    emit,
    maps::layout,
    socket::Socket,
};

/// accept() or accept4() returns.
#[inline(always)]
pub fn returned(ctx: &TracePointContext) {
    // SAFETY: a probe read of the record, at the place that its format gives.
    let Ok(fd) = (unsafe { ctx.read_at::<i64>(layout!(file.exit_ret) as usize) }) else {
        return;
    };
    if fd < 0 {
        return;
    }
    let Some(sk) = socket_of(fd as u64) else {
        return;
    };
    let socket = Socket::<Probe>::new(sk);
    let family = socket.family();
    if (family == FAMILY_INET || family == FAMILY_INET6) && socket.is_tcp() {
        // A descriptor does not tell its listener.
        emit::accept(socket, 0);
    }
}

/// Returns the `struct sock` behind a descriptor of the current task. Another thread can have
/// closed it since the call ended: what is there must point back.
#[inline(always)]
pub fn socket_of(fd: u64) -> Option<*const u8> {
    // SAFETY: probe reads take any address.
    unsafe {
        let read =
            |base: u64, offset: u32| -> u64 { Probe::read(base as *const u8, offset as usize, 0) };
        let task = bpf_get_current_task();
        let files = read(task, layout!(file.files));
        let table = read(files, layout!(file.fdt));
        let most: u32 = Probe::read(table as *const u8, layout!(file.max_fds) as usize, 0);
        if fd >= u64::from(most) {
            return None;
        }
        let array = read(table, layout!(file.fd));
        let file: u64 = Probe::read(array.wrapping_add(fd * 8) as *const u8, 0, 0);
        socket_of_file(file)
    }
}

/// Returns the `struct sock` behind an open file, if it is a socket's: what is there must point
/// back.
#[inline(always)]
pub fn socket_of_file(file: u64) -> Option<*const u8> {
    if file == 0 {
        return None;
    }
    // SAFETY: probe reads take any address.
    unsafe {
        let read =
            |base: u64, offset: u32| -> u64 { Probe::read(base as *const u8, offset as usize, 0) };
        let socket = read(file, layout!(file.private_data));
        if socket == 0 || read(socket, layout!(file.socket_file)) != file {
            return None;
        }
        let sk = read(socket, layout!(file.socket_sk));
        (sk != 0).then_some(sk as *const u8)
    }
}
