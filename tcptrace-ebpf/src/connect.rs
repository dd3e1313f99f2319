//! connect() calls that fail. An attempt that ends before SYN_SENT makes no transition.

use aya_ebpf::{
    helpers::{bpf_get_current_task_btf, bpf_probe_read_user, bpf_task_pt_regs},
    programs::TracePointContext,
};
use tcptrace_common::{ConnectFailedEvent, FAMILY_INET, FAMILY_INET6, RawEndpoints, TcpState};

use crate::{
    accept::socket_of,
    access::{Access, Probe},
    emit,
    maps::layout,
    socket::Socket,
};

/// `struct sockaddr_in` and what `struct sockaddr_in6` needs at least (`SIN6_LEN_RFC2133`).
const SOCKADDR_IN: u64 = 16;
const SOCKADDR_IN6: u64 = 24;
/// The kernel's own errors that no application sees (`include/linux/errno.h`).
const LARGEST_ERRNO: i64 = 511;

/// An attempt goes on, or has succeeded.
const EISCONN: i64 = 106;
const EALREADY: i64 = 114;
const EINPROGRESS: i64 = 115;

/// The address that was given to connect().
#[derive(Clone, Copy)]
#[repr(C)]
struct Address {
    family: u16,
    port: u16,
    v4: [u8; 4],
    v6: [u8; 16],
    scope: u32,
}

/// The exit of a function that connect() calls: `(sock, address, length)` and its result.
///
/// `policy`: a security module or a cgroup's program refused, before TCP was called.
#[inline(always)]
pub fn failed(sk: *const u8, address: *const u8, length: u64, result: u64, policy: bool) {
    let error = -i64::from(result as i32);
    if !(1..=LARGEST_ERRNO).contains(&error) {
        return;
    }
    let socket = Socket::<Probe>::new(sk);
    // A security module is called before the socket's state is checked.
    if !is_for_tcp(&socket) || socket.state() != TcpState::Close.raw() {
        return;
    }
    // SAFETY: probe reads take any address.
    let address: Address = unsafe {
        Address {
            family: Probe::read(address, 0, 0),
            port: Probe::read(address, 2, 0),
            v4: Probe::read(address, 4, [0; 4]),
            v6: Probe::read(address, 8, [0; 16]),
            scope: Probe::read(address, 24, 0),
        }
    };
    emit_failure(socket, address, length, error as u32, policy);
}

/// The exit of connect() itself, where functions cannot be traced.
#[inline(always)]
pub fn returned(ctx: &TracePointContext) {
    // SAFETY: a probe read of the record, at the place that its format gives.
    let Ok(result) = (unsafe { ctx.read_at::<i64>(layout!(file.exit_ret) as usize) }) else {
        return;
    };
    let error = -result;
    if !(1..=LARGEST_ERRNO).contains(&error)
        || matches!(error, EALREADY | EINPROGRESS | EISCONN)
        || layout!(file.call_second) == 0
    {
        return;
    }
    // SAFETY: helpers without other arguments than what they give each other, probe reads, and
    // reads of user memory that may fail.
    unsafe {
        let registers = bpf_task_pt_regs(bpf_get_current_task_btf()) as *const u8;
        let fd: u64 = Probe::read(registers, layout!(file.call_first) as usize, 0);
        let Some(sk) = socket_of(u64::from(fd as u32)) else {
            return;
        };
        let socket = Socket::<Probe>::new(sk);
        // After a SYN was sent, the error may be that of the earlier attempt: most are.
        if socket.has_tried_to_connect()
            || socket.state() != TcpState::Close.raw()
            || !is_for_tcp(&socket)
        {
            return;
        }
        let at: u64 = Probe::read(registers, layout!(file.call_second) as usize, 0);
        let read = |offset: u64| at.wrapping_add(offset);
        let Ok(family) = bpf_probe_read_user(at as *const u16) else {
            return;
        };
        let address = Address {
            family,
            port: bpf_probe_read_user(read(2) as *const u16).unwrap_or(0),
            v4: bpf_probe_read_user(read(4) as *const [u8; 4]).unwrap_or([0; 4]),
            v6: bpf_probe_read_user(read(8) as *const [u8; 16]).unwrap_or([0; 16]),
            scope: bpf_probe_read_user(read(24) as *const u32).unwrap_or(0),
        };
        emit_failure(socket, address, SOCKADDR_IN6, error as u32, false);
    }
}

#[inline(always)]
fn is_for_tcp(socket: &Socket<Probe>) -> bool {
    let family = socket.family();
    (family == FAMILY_INET || family == FAMILY_INET6) && socket.is_tcp()
}

#[inline(always)]
fn emit_failure(socket: Socket<Probe>, address: Address, length: u64, error: u32, policy: bool) {
    let family = socket.family();
    let least = if family == FAMILY_INET {
        SOCKADDR_IN
    } else {
        SOCKADDR_IN6
    };
    // A wrong family or a short address is an error of the application, not of the network.
    if address.family != family || length < least {
        return;
    }
    emit::connect_failed(socket, move |event: &mut ConnectFailedEvent| {
        write_remote(&address, &mut event.endpoints);
        event.error = error;
        event.policy = u32::from(policy);
    });
}

#[inline(always)]
fn write_remote(address: &Address, to: &mut RawEndpoints) {
    if address.family == FAMILY_INET {
        to.remote_address = [0; 16];
        to.remote_address[0] = address.v4[0];
        to.remote_address[1] = address.v4[1];
        to.remote_address[2] = address.v4[2];
        to.remote_address[3] = address.v4[3];
    } else {
        to.remote_address = address.v6;
        let link_local = address.v6[0] == 0xfe && address.v6[1] & 0xc0 == 0x80;
        if link_local && to.interface == 0 {
            to.interface = address.scope;
        }
    }
    to.remote_port = u16::from_be(address.port);
}
