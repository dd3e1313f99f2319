//! The eBPF programs: entry points of a few lines each.
//!
//! No connection is remembered here. Each program reads, stamps and emits; what it means is for
//! user space to say. Everything is kept within what the verifier of Linux 5.10 accepts.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod access;
mod emit;
mod maps;
mod socket;
mod task;

use aya_ebpf::{
    macros::{btf_tracepoint, tracepoint},
    programs::{BtfTracePointContext, TracePointContext},
};
use aya_log_ebpf::{debug, warn};
use tcptrace_common::{KIND_RESET_RECEIVED, KIND_RESET_SENT};

use crate::{
    access::{Direct, Probe},
    maps::layout,
    socket::{Record, Socket},
};

/// Any transition of any socket, with BTF: `inet_sk_set_state`, `inet_sk_state_store`.
#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn set_state_btf(ctx: BtfTracePointContext) -> i32 {
    let socket = Socket::<Direct>::new(ctx.arg(0));
    if !socket.is_tcp() {
        debug!(&ctx, "protocol {} is not TCP", socket.protocol());
        return 0;
    }
    let Some(tcp) = socket.tcp() else {
        // bpf_skc_to_tcp_sock refuses nothing that carries protocol 6, as far as is known. (The
        // socket's address cannot be logged: the verifier lets nobody take a pointer apart.)
        warn!(
            &ctx,
            "a socket of protocol 6 and state {} is no tcp_sock",
            socket.state()
        );
        return 0;
    };
    let old: i32 = ctx.arg(1);
    let new: i32 = ctx.arg(2);
    emit::transition(&socket, &tcp, old as u8, new as u8);
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
    if layout!(resolved) != 0 {
        let socket = Socket::<Probe>::new(record.socket());
        emit::transition(&socket, &socket.as_tcp(), record.old(), record.new());
    } else {
        emit::transition_of_record(&record);
    }
    0
}

/// The kernel acts on a RST that came in; before the transition it causes.
#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn receive_reset(ctx: BtfTracePointContext) -> i32 {
    let socket = Socket::<Direct>::new(ctx.arg(0));
    emit::reset(&socket, KIND_RESET_RECEIVED);
    0
}

/// The kernel sends a RST: for a full socket, a timewait socket or no socket at all.
#[btf_tracepoint(function = "tcp_send_reset")]
pub fn send_reset(ctx: BtfTracePointContext) -> i32 {
    let sk: *const u8 = ctx.arg(0);
    if sk.is_null() {
        return 0;
    }
    let socket = Socket::<Direct>::new(sk);
    emit::reset(&socket, KIND_RESET_SENT);
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
