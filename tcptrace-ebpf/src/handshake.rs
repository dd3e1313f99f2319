//! How a passive handshake began: carried over from the request to the child, or remembered from
//! the SYN. The child itself does not know.

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TIMEOUT_INIT, bpf_sock_ops},
    helpers::{bpf_get_netns_cookie, bpf_ktime_get_ns},
    programs::SockOpsContext,
};
use tcptrace_common::{
    FAMILY_INET6, HANDSHAKE_ACK_DATA, HANDSHAKE_ACK_SEEN, LAYOUT_DEFER, OPEN_DEFER_KNOWN,
    OPEN_DEFERRED, OPEN_FAST, OPEN_REQUEST_SEEN, PassiveOpenEvent, SynKey,
    sock_common::{SKC_V6_DADDR, SKC_V6_RCV_SADDR},
};

use crate::{
    access::{Access, Probe},
    maps::{SYNS, has, layout, scratch},
    socket::{Socket, Tcp},
};

/// Where a TCP header has its flags, and the SYN among them (RFC 9293 §3.1).
const TCP_FLAGS_AT: u64 = 13;
const TCP_FLAG_SYN: u8 = 2;
/// Where it has its own length, in words of 4 bytes, in the upper half.
const TCP_DATA_OFFSET_AT: usize = 12;

/// Leaves what the request knows for the child that is about to be made.
#[inline(always)]
pub fn leave_request<A: Access>(listener: &Tcp<A>, request: *const u8, segment: *const u8) {
    let Some(scratch) = scratch() else {
        return;
    };
    // SAFETY: probe reads take any address; `scratch` is a map's value, and this CPU's.
    unsafe {
        let head: u64 = Probe::read(segment, layout!(request.skb_head) as usize, 0);
        let transport: u16 =
            Probe::read(segment, layout!(request.skb_transport_header) as usize, 0);
        let flags_at = head.wrapping_add(u64::from(transport) + TCP_FLAGS_AT);
        let flags: u8 = Probe::read(flags_at as *const u8, 0, 0);
        let mut open_flags = OPEN_REQUEST_SEEN;
        if has(LAYOUT_DEFER) {
            open_flags |= OPEN_DEFER_KNOWN;
        }
        if flags & TCP_FLAG_SYN != 0 {
            open_flags |= OPEN_FAST;
        }
        if listener.is_deferred() {
            open_flags |= OPEN_DEFERRED;
        }
        (*scratch).synack_us = Probe::read(request, layout!(request.snt_synack) as usize, 0);
        let again: u8 = Probe::read(request, layout!(request.num_retrans) as usize, 0);
        (*scratch).synack_retransmits = u32::from(again);
        (*scratch).listener = listener.socket().address();
        (*scratch).open_flags = open_flags;
    }
}

/// Writes what is known of the request into the event of its child.
#[inline(always)]
pub fn write_request<A: Access>(to: &mut PassiveOpenEvent, tcp: &Tcp<A>) {
    to.open_flags = 0;
    to.synack_us = 0;
    to.synack_retransmits = 0;
    to.reserved = 0;
    to.listener = 0;
    if let Some(scratch) = scratch() {
        // SAFETY: `scratch` is a map's value, and this CPU's.
        unsafe {
            if (*scratch).open_flags != 0 {
                to.open_flags = (*scratch).open_flags;
                to.synack_us = (*scratch).synack_us;
                to.synack_retransmits = (*scratch).synack_retransmits;
                to.listener = (*scratch).listener;
                (*scratch).open_flags = 0;
            }
        }
    }
    // Up to Linux 6.14 the child has its listener's accept queue until later, and no peer yet.
    if has(LAYOUT_DEFER) && to.open_flags == 0 && to.endpoints.remote_port == 0 {
        to.open_flags = OPEN_DEFER_KNOWN;
        if tcp.is_deferred() {
            to.open_flags |= OPEN_DEFERRED;
        }
    }
}

/// Notes whether the segment that completes a handshake carries data: the child's
/// SYN_RECV→ESTABLISHED follows at once.
#[inline(always)]
pub fn note_last_segment(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    // SAFETY: the verifier checks each load of the context and of the packet.
    unsafe {
        if (*ops).op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB {
            return;
        }
        let data = (&raw const (*ops).__bindgen_anon_3.skb_data)
            .read_volatile()
            .cast::<u8>();
        let end = (&raw const (*ops).__bindgen_anon_4.skb_data_end)
            .read_volatile()
            .cast::<u8>();
        if data.wrapping_add(TCP_DATA_OFFSET_AT + 1) > end {
            return;
        }
        let header = u32::from(*data.add(TCP_DATA_OFFSET_AT) >> 4) * 4;
        let length = (&raw const (*ops).skb_len).read_volatile();
        if let Some(scratch) = scratch() {
            (*scratch).handshake_flags = if length > header {
                HANDSHAKE_ACK_SEEN | HANDSHAKE_ACK_DATA
            } else {
                HANDSHAKE_ACK_SEEN
            };
        }
    }
}

/// What [`note_last_segment`] noted, and forgets it.
#[inline(always)]
pub fn take_last_segment() -> u32 {
    match scratch() {
        // SAFETY: `scratch` is a map's value, and this CPU's.
        Some(scratch) => unsafe { core::mem::take(&mut (*scratch).handshake_flags) },
        None => 0,
    }
}

/// Remembers when a SYN came in. `BPF_SOCK_OPS_TIMEOUT_INIT` is asked once for each request, of
/// the request itself; not for SYN cookies and Fast Open.
#[inline(always)]
pub fn remember_syn(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    // SAFETY: the verifier checks each load of the context.
    unsafe {
        if (*ops).op != BPF_SOCK_OPS_TIMEOUT_INIT || (*ops).is_fullsock != 0 {
            return;
        }
        let mut key = SynKey {
            local_port: (*ops).local_port as u16,
            // In network order, as if it were of 32 bits.
            remote_port: u32::from_be((*ops).remote_port) as u16,
            ..SynKey::default()
        };
        key.local_address[0] = (*ops).local_ip4;
        key.remote_address[0] = (*ops).remote_ip4;
        if layout!(request.net_cookie) != 0 {
            key.net_cookie = bpf_get_netns_cookie(ops.cast());
        }
        let now: u64 = bpf_ktime_get_ns();
        // An LRU map makes room; where it cannot, the time is not known.
        let _known = SYNS.insert(&key, &now, 0);
        if (*ops).family == u32::from(FAMILY_INET6) {
            // The family is the listener's: the SYN may be of IPv4 all the same, and the request
            // has only the addresses of its own. The other entry is nobody's, and goes.
            write_v6(&mut key, ops);
            let _known = SYNS.insert(&key, &now, 0);
        }
    }
}

#[inline(always)]
unsafe fn write_v6(key: &mut SynKey, ops: *const bpf_sock_ops) {
    // One load each: the verifier refuses to have the context's address computed.
    // SAFETY: the verifier checks each load of the context.
    unsafe {
        key.local_address = [
            (&raw const (*ops).local_ip6[0]).read_volatile(),
            (&raw const (*ops).local_ip6[1]).read_volatile(),
            (&raw const (*ops).local_ip6[2]).read_volatile(),
            (&raw const (*ops).local_ip6[3]).read_volatile(),
        ];
        key.remote_address = [
            (&raw const (*ops).remote_ip6[0]).read_volatile(),
            (&raw const (*ops).remote_ip6[1]).read_volatile(),
            (&raw const (*ops).remote_ip6[2]).read_volatile(),
            (&raw const (*ops).remote_ip6[3]).read_volatile(),
        ];
    }
}

/// When the SYN of a child came in, and forgets it; 0 when that is not known.
#[inline(always)]
pub fn take_syn<A: Access>(socket: &Socket<A>, local_port: u16) -> u64 {
    let key = SynKey {
        local_address: words(socket, SKC_V6_RCV_SADDR, socket.v4_local()),
        remote_address: words(socket, SKC_V6_DADDR, socket.v4_remote()),
        net_cookie: socket.net_cookie(),
        local_port,
        remote_port: socket.remote_port(),
        reserved: 0,
    };
    // SAFETY: the value is copied before anybody can change it; a torn one cannot be, for nobody
    // writes it twice.
    match unsafe { SYNS.get(&key) } {
        Some(&time) => {
            let _gone = SYNS.remove(&key);
            time
        }
        None => 0,
    }
}

/// An address as [`SynKey`] has it. A child of an IPv6 listener may be an IPv4 connection: the
/// request then is one of IPv4, and the child has a mapped address.
#[inline(always)]
fn words<A: Access>(socket: &Socket<A>, at: usize, v4: u32) -> [u32; 4] {
    if socket.family() != FAMILY_INET6 {
        return [v4, 0, 0, 0];
    }
    // SAFETY: 16 bytes either way.
    let words: [u32; 4] = unsafe { core::mem::transmute(socket.read_address(at)) };
    if words[0] == 0 && words[1] == 0 && words[2] == 0xffff_u32.to_be() {
        [words[3], 0, 0, 0]
    } else {
        words
    }
}
