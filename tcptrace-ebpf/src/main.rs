//! The eBPF programs: entry points of a few lines each.
//!
//! No connection is remembered here. Each program reads, stamps and emits; user space says what it
//! means. Everything stays within what the verifier of Linux 5.10 accepts.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod accept;
mod access;
mod connect;
mod copies;
mod emit;
mod function;
mod handshake;
mod iterators;
mod maps;
mod socket;
mod task;
mod tcp;

use aya_ebpf::{
    macros::{btf_tracepoint, fentry, fexit, sock_ops, tracepoint},
    programs::{
        BtfTracePointContext, FEntryContext, FExitContext, SockOpsContext, TracePointContext,
    },
};
use aya_log_ebpf::{debug, warn};
use tcptrace_common::{
    FAMILY_INET, KIND_RESET_RECEIVED, KIND_RESET_SENT, LAYOUT_SOCKET, REASON_NONE,
    RECOVERED_RESET_RECEIVED, RECOVERED_RESET_SENT, TcpState,
};

use crate::{
    access::{Access as _, Direct, Probe},
    copies::{First, Occasion, Pass, Second},
    maps::{has, layout, scratch},
    socket::{Record, Socket},
    task::Process,
};

/// Any transition of any socket, with BTF: `inet_sk_set_state`, `inet_sk_state_store`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state_btf(ctx: BtfTracePointContext) -> i32 {
    set_state::<First>(&ctx)
}

/// The same where the first copy was skipped.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state_second(ctx: BtfTracePointContext) -> i32 {
    set_state::<Second>(&ctx)
}

#[inline(always)]
fn set_state<C: Pass>(ctx: &BtfTracePointContext) -> i32 {
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    let (old, new) = (old as u8, new as u8);
    let sk: *const u8 = ctx.arg(0);
    if !Occasion::transition(sk, old, new).is_for::<C>() {
        return 0;
    }
    let socket = Socket::<Direct>::new(sk);
    if !socket.is_tcp() {
        debug!(ctx, "protocol {} is not TCP", socket.protocol());
        return 0;
    }
    let Some(tcp) = socket.tcp() else {
        // bpf_skc_to_tcp_sock refuses nothing with protocol 6, as far as is known. (The socket's
        // address cannot be logged: the verifier allows no arithmetic with a pointer.)
        warn!(
            ctx,
            "a socket of protocol 6 and state {} is no tcp_sock",
            socket.state()
        );
        return 0;
    };
    emit::transition::<_, C>(socket, tcp, old, new);
    0
}

/// The same from the classic tracepoint, for kernels without BTF.
#[tracepoint]
pub fn set_state_classic(ctx: TracePointContext) -> u32 {
    let Some(record) = Record::read(&ctx) else {
        warn!(&ctx, "the tracepoint's record could not be read");
        return 0;
    };
    if !record.is_tcp() {
        return 0;
    }
    if has(LAYOUT_SOCKET) {
        let socket = Socket::<Probe>::new(record.socket());
        emit::transition::<_, First>(socket, socket.as_tcp(), record.old(), record.new());
    } else {
        emit::transition_of_record(&record);
    }
    0
}

/// The kernel acts on a received RST; before the transition it causes.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn receive_reset(ctx: BtfTracePointContext) -> i32 {
    reset_received::<First>(&ctx)
}

/// The same where the first copy was skipped.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn receive_reset_second(ctx: BtfTracePointContext) -> i32 {
    reset_received::<Second>(&ctx)
}

#[inline(always)]
fn reset_received<C: Pass>(ctx: &BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    if Occasion::reset(sk, RECOVERED_RESET_RECEIVED).is_for::<C>() {
        let socket = Socket::<Direct>::new(sk);
        emit::reset::<_, C>(socket, KIND_RESET_RECEIVED, REASON_NONE);
    }
    0
}

/// The kernel sends a RST: for a full socket, a timewait socket or no socket at all.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn send_reset(ctx: BtfTracePointContext) -> i32 {
    reset_sent::<First>(&ctx)
}

/// The same where the first copy was skipped.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn send_reset_second(ctx: BtfTracePointContext) -> i32 {
    reset_sent::<Second>(&ctx)
}

#[inline(always)]
fn reset_sent<C: Pass>(ctx: &BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    if sk.is_null() || !Occasion::reset(sk, RECOVERED_RESET_SENT).is_for::<C>() {
        return 0;
    }
    let socket = Socket::<Direct>::new(sk);
    let reason = if layout!(function.reset_has_reason) != 0 {
        ctx.arg(2)
    } else {
        REASON_NONE
    };
    emit::reset::<_, C>(socket, KIND_RESET_SENT, reason);
    0
}

/// A listener makes a child: the request's last moment, just before LISTEN→SYN_RECV.
#[fentry(function = "tcp_create_openreq_child")]
pub fn create_child(ctx: FEntryContext) -> i32 {
    // Only TCP has listeners.
    if let Some(listener) = Socket::<Direct>::new(ctx.arg(0)).tcp() {
        handshake::leave_request(&listener, ctx.arg(1), ctx.arg(2));
    }
    0
}

/// A SYN arrives, or the segment that completes a handshake, for kernels where
/// `tcp_create_openreq_child` cannot be traced.
#[sock_ops]
pub fn syn(ctx: SockOpsContext) -> u32 {
    handshake::remember_syn(&ctx);
    handshake::leave_last_segment(&ctx);
    1
}

/// accept() returns a connection to a process: `struct sock *inet_csk_accept(…)`.
#[fexit(function = "inet_csk_accept")]
pub fn accept(ctx: FExitContext) -> i32 {
    let sk = function::answer(&ctx, layout!(function.accept_parameters)) as *const u8;
    if !sk.is_null() {
        let socket = Socket::<Probe>::new(sk);
        if socket.is_tcp() {
            let listener: *const u8 = ctx.arg(0);
            emit::accept(socket, listener as u64);
        }
    }
    0
}

/// The same where functions cannot be traced.
#[tracepoint]
pub fn accept_exit(ctx: TracePointContext) -> u32 {
    accept::returned(&ctx);
    0
}

/// The same for accept4().
#[tracepoint]
pub fn accept4_exit(ctx: TracePointContext) -> u32 {
    accept::returned(&ctx);
    0
}

/// TCP's own connect over IPv4: `int tcp_v4_connect(sk, address, length)`.
#[fexit(function = "tcp_v4_connect")]
pub fn connect_v4(ctx: FExitContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    // An IPv6 socket's connect to a mapped address comes here too.
    if Socket::<Probe>::new(sk).family() == FAMILY_INET {
        connect::failed(
            sk,
            ctx.arg(1),
            length(&ctx),
            function::answer(&ctx, 3),
            false,
        );
    }
    0
}

/// The same over IPv6.
#[fexit(function = "tcp_v6_connect")]
pub fn connect_v6(ctx: FExitContext) -> i32 {
    connect::failed(
        ctx.arg(0),
        ctx.arg(1),
        length(&ctx),
        function::answer(&ctx, 3),
        false,
    );
    0
}

/// The result of a cgroup's programs for a connect over IPv4: `int tcp_v4_pre_connect(sk, address,
/// length)`.
#[fexit(function = "tcp_v4_pre_connect")]
pub fn pre_connect_v4(ctx: FExitContext) -> i32 {
    connect::failed(
        ctx.arg(0),
        ctx.arg(1),
        length(&ctx),
        function::answer(&ctx, 3),
        true,
    );
    0
}

/// The same over IPv6.
#[fexit(function = "tcp_v6_pre_connect")]
pub fn pre_connect_v6(ctx: FExitContext) -> i32 {
    connect::failed(
        ctx.arg(0),
        ctx.arg(1),
        length(&ctx),
        function::answer(&ctx, 3),
        true,
    );
    0
}

/// The result of the security modules for a connect: `int security_socket_connect(socket, address,
/// length)`.
#[fexit(function = "security_socket_connect")]
pub fn security_connect(ctx: FExitContext) -> i32 {
    let result = function::answer(&ctx, 3);
    if result as i32 != 0 {
        let socket: *const u8 = ctx.arg(0);
        // SAFETY: a probe read.
        let sk: *const u8 =
            unsafe { Probe::read(socket, layout!(file.socket_sk) as usize, core::ptr::null()) };
        connect::failed(sk, ctx.arg(1), length(&ctx), result, true);
    }
    0
}

/// The third argument of the functions that connect() calls: the length of the address.
#[inline(always)]
fn length(ctx: &FExitContext) -> u64 {
    let length: i32 = ctx.arg(2);
    length as u32 as u64
}

/// The exit of connect(), where functions cannot be traced.
#[tracepoint]
pub fn connect_exit(ctx: TracePointContext) -> u32 {
    connect::returned(&ctx);
    0
}

/// A timewait socket is to take over, or there is no room for it: `struct inet_timewait_sock
/// *inet_twsk_alloc(sk, dr, state)`.
#[fexit(function = "inet_twsk_alloc")]
pub fn timewait(ctx: FExitContext) -> i32 {
    let socket = Socket::<Probe>::new(ctx.arg(0));
    if socket.is_tcp() {
        let substate: i32 = ctx.arg(2);
        emit::timewait(socket, function::answer(&ctx, 3), substate as u8);
    }
    0
}

/// A segment reaches a timewait socket: notes the socket's state.
#[fentry(function = "tcp_timewait_state_process")]
pub fn timewait_begin(ctx: FEntryContext) -> i32 {
    let socket = Socket::<Probe>::new(ctx.arg(0));
    if let Some(scratch) = scratch() {
        // SAFETY: `scratch` is a map's value, and this CPU's.
        unsafe {
            (*scratch).timewait = socket.address();
            (*scratch).timewait_state = u32::from(socket.substate());
        }
    }
    0
}

/// The segment was processed: reports what became of the timewait socket, if it changed.
#[fexit(function = "tcp_timewait_state_process")]
pub fn timewait_end(ctx: FExitContext) -> i32 {
    let socket = Socket::<Probe>::new(ctx.arg(0));
    if let Some(scratch) = scratch() {
        // SAFETY: `scratch` is a map's value, and this CPU's.
        let before = unsafe {
            if (*scratch).timewait != socket.address() {
                return 0;
            }
            (*scratch).timewait = 0;
            (*scratch).timewait_state as u8
        };
        let status = function::answer(&ctx, layout!(function.timewait_parameters)) as u32;
        const TCP_TW_RST: u32 = 1;
        let reset = socket.is_unhashed() && handshake::is_reset(ctx.arg(2));
        // After a RST it may be freed: only NULL in it means anything.
        let after = if reset { before } else { socket.substate() };
        let refused = before == TcpState::FinWait2.raw() && status == TCP_TW_RST;
        if after != before || refused || reset {
            emit::timewait_step(socket, before, after, status, reset);
        }
    }
    0
}

/// A SYN-ACK is retransmitted; the socket is the listener.
#[btf_tracepoint(function = "tcp_retransmit_synack")]
pub fn retransmit_synack(ctx: BtfTracePointContext) -> i32 {
    emit::synack_retransmit(Socket::<Direct>::new(ctx.arg(0)));
    0
}

/// A task changes its name, by exec or itself.
#[btf_tracepoint(function = "task_rename")]
pub fn process_rename(ctx: BtfTracePointContext) -> i32 {
    let process = Process::read(ctx.arg(0));
    if process.is_leader() && process.may_listen() {
        emit::renamed(&process, ctx.arg(1));
    }
    0
}

/// The current thread exits, and perhaps its process with it.
#[btf_tracepoint(function = "sched_process_exit")]
pub fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let process = Process::read(ctx.arg(0));
    if process.may_listen() && process.is_over() {
        emit::exited();
    }
    0
}

/// A cgroup is created, and no process can be in it yet: `(struct cgroup *, const char *path)`.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_made(ctx: BtfTracePointContext) -> i32 {
    let cgroup: *const u8 = ctx.arg(0);
    // SAFETY: probe reads take any address.
    let hierarchy: u32 = unsafe {
        let root: u64 = Probe::read(cgroup, layout!(sock.cgroup_root) as usize, 0);
        Probe::read(root as *const u8, layout!(sock.hierarchy_id) as usize, 1)
    };
    if hierarchy == 0 {
        emit::cgroup_made(socket::cgroup_id(cgroup), ctx.arg(1));
    }
    0
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: nothing here can panic; the verifier would refuse the loop of a real handler.
    unsafe { core::hint::unreachable_unchecked() }
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
