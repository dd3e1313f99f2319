//! How a passive handshake began: carried over from the request to the child, or remembered from
//! the SYN. The child itself does not know.

use aya_ebpf::{
    bindings::{BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB, BPF_SOCK_OPS_TIMEOUT_INIT, bpf_sock_ops},
    helpers::{bpf_get_netns_cookie, bpf_ktime_get_ns},
    programs::SockOpsContext,
};
use tcptrace_common::{
    FAMILY_INET6, HANDSHAKE_ACK_DATA, HANDSHAKE_ACK_SEEN, LAYOUT_DEFER, OPEN_DEFER_KNOWN,
    OPEN_DEFERRED, OPEN_FAST, OPEN_REQUEST_SEEN, PassiveOpenEvent, SYN_AMBIGUOUS, SYN_BUCKETS,
    SYN_LIFE_NS, SYN_WAYS, SynBucket,
};

use crate::{
    access::{Access, Direct, Probe},
    maps::{SYNS, count_eviction, count_syn, has, layout, scratch},
    socket::Socket,
    tcp::Tcp,
};

/// The offset of a TCP header's flags, with the SYN (RFC 9293 §3.1).
const TCP_FLAGS_AT: u64 = 13;
const TCP_FLAG_SYN: u8 = 2;
const TCP_FLAG_FIN: u8 = 1;
const TCP_FLAG_RST: u8 = 4;
/// The offset of its length, in words of 4 bytes, in the upper half.
const TCP_DATA_OFFSET_AT: usize = 12;

/// Whether a TCP header has a RST.
#[inline(always)]
pub fn is_reset(header: *const u8) -> bool {
    // SAFETY: probe reads take any address.
    let flags: u8 = unsafe { Probe::read(header, TCP_FLAGS_AT as usize, 0) };
    flags & TCP_FLAG_RST != 0
}

/// Leaves the request's fields for the child that is about to be made.
#[inline(always)]
pub fn leave_request(listener: &Tcp<Direct>, request: *const u8, segment: *const u8) {
    let Some(scratch) = scratch() else {
        return;
    };
    // SAFETY: the function's arguments are of types that the verifier knows, and probe reads take
    // any address; `scratch` is a map's value, and this CPU's.
    unsafe {
        let head: u64 = Probe::read(segment, layout!(request.skb_head) as usize, 0);
        let transport: u16 =
            Direct::read(segment, layout!(request.skb_transport_header) as usize, 0);
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
        let again: u8 = Direct::read(request, layout!(request.num_retrans) as usize, 0);
        (*scratch).synack_retransmits = u32::from(again);
        (*scratch).listener = listener.socket().address();
        let request = Socket::<Direct>::new(request);
        (*scratch).net = listener.socket().net();
        (*scratch).listener_ports = listener.socket().ports();
        (*scratch).request_ports = request.ports();
        (*scratch).open_flags = open_flags;
    }
}

/// Writes the request's fields into the event of its child.
#[inline(always)]
pub fn write_request<A: Access>(to: &mut PassiveOpenEvent, tcp: &Tcp<A>) {
    to.open_flags = 0;
    to.synack_us = 0;
    to.synack_retransmits = 0;
    to.bind_flags = tcp.bind_flags();
    to.listener = 0;
    if let Some(scratch) = scratch() {
        // SAFETY: `scratch` is a map's value, and this CPU's.
        unsafe {
            let socket = tcp.socket();
            let ports = socket.ports();
            let is_its_own = (*scratch).net == socket.net()
                && (ports == (*scratch).listener_ports || ports == (*scratch).request_ports);
            if (*scratch).open_flags != 0 && is_its_own {
                to.open_flags = (*scratch).open_flags;
                to.synack_us = (*scratch).synack_us;
                to.synack_retransmits = (*scratch).synack_retransmits;
                to.listener = (*scratch).listener;
            }
            (*scratch).open_flags = 0;
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

/// A passive handshake is completing: leaves what is known of its SYN, and of the segment that
/// completes it, for the child's SYN_RECV→ESTABLISHED, which follows at once.
#[inline(always)]
pub fn leave_last_segment(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    // SAFETY: the verifier checks each load of the context.
    unsafe {
        // A Fast Open child is reported at its SYN.
        if (*ops).op != BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB
            || (*ops).skb_tcp_flags & u32::from(TCP_FLAG_SYN) != 0
        {
            return;
        }
        let Some(scratch) = scratch() else {
            return;
        };
        (*scratch).child = (&raw const (*ops).__bindgen_anon_2.sk).read_volatile() as u64;
        (*scratch).syn_ns = take_syn(ops);
        (*scratch).handshake_flags = last_segment(ops);
    }
}

/// `HANDSHAKE_*` bits: whether the segment carries what TCP_DEFER_ACCEPT waits for, data or a FIN.
#[inline(always)]
unsafe fn last_segment(ops: *const bpf_sock_ops) -> u32 {
    // SAFETY: the verifier checks each load of the context and of the packet.
    unsafe {
        let data = (&raw const (*ops).__bindgen_anon_3.skb_data)
            .read_volatile()
            .cast::<u8>();
        let end = (&raw const (*ops).__bindgen_anon_4.skb_data_end)
            .read_volatile()
            .cast::<u8>();
        if data.wrapping_add(TCP_DATA_OFFSET_AT + 1) > end {
            return 0;
        }
        let header = u32::from(*data.add(TCP_DATA_OFFSET_AT) >> 4) * 4;
        let length = (&raw const (*ops).skb_len).read_volatile();
        let fin = (*ops).skb_tcp_flags & u32::from(TCP_FLAG_FIN) != 0;
        if length > header || fin {
            HANDSHAKE_ACK_SEEN | HANDSHAKE_ACK_DATA
        } else {
            HANDSHAKE_ACK_SEEN
        }
    }
}

/// Takes what [`leave_last_segment`] left for this child: when the SYN arrived, or 0, and
/// `HANDSHAKE_*` bits.
#[inline(always)]
pub fn take_last_segment<A: Access>(child: &Socket<A>) -> (u64, u32) {
    if let Some(scratch) = scratch() {
        // SAFETY: `scratch` is a map's value, and this CPU's.
        unsafe {
            if (*scratch).child == child.address() {
                (*scratch).child = 0;
                return ((*scratch).syn_ns, (*scratch).handshake_flags);
            }
        }
    }
    (0, 0)
}

/// Remembers when a SYN arrived, and counts it. `BPF_SOCK_OPS_TIMEOUT_INIT` is called once for each
/// request; not for SYN cookies and Fast Open.
#[inline(always)]
pub fn remember_syn(ctx: &SockOpsContext) {
    let ops = ctx.ops;
    // SAFETY: the verifier checks each load of the context; a bucket is a map's value. Two CPUs may
    // write to one place at once: their times are then the same but for that moment.
    unsafe {
        if (*ops).op != BPF_SOCK_OPS_TIMEOUT_INIT || (*ops).is_fullsock != 0 {
            return;
        }
        count_syn((*ops).local_port as u16);
        let tag = syn_tag(ops);
        let Some(bucket) = bucket_of(tag) else {
            return;
        };
        let mut now = bpf_ktime_get_ns() & !SYN_AMBIGUOUS;
        let mut way = 0;
        let mut before = u64::MAX;
        for other in 0..SYN_WAYS {
            let time = (*bucket).time_ns[other];
            if time != 0 && (*bucket).tag[other] == tag {
                (way, before) = (other, time);
                break;
            }
            if time < before {
                (way, before) = (other, time);
            }
        }
        let way = way & (SYN_WAYS - 1);
        if before != 0 && now.wrapping_sub(before) < SYN_LIFE_NS {
            if (*bucket).tag[way] != tag {
                count_eviction();
            } else if layout!(request.netns_cookie) == 0 {
                // Its request is gone, or another namespace has the same addresses.
                now |= SYN_AMBIGUOUS;
            }
        }
        (*bucket).tag[way] = tag;
        (*bucket).time_ns[way] = now;
    }
}

/// Takes when the SYN of a handshake arrived; 0 when not known.
#[inline(always)]
unsafe fn take_syn(ops: *mut bpf_sock_ops) -> u64 {
    // SAFETY: the verifier checks each load of the context; a bucket is a map's value.
    unsafe {
        let tag = syn_tag(ops);
        let Some(bucket) = bucket_of(tag) else {
            return 0;
        };
        for way in 0..SYN_WAYS {
            let time = (*bucket).time_ns[way];
            if time != 0 && (*bucket).tag[way] == tag {
                (*bucket).time_ns[way] = 0;
                return if time & SYN_AMBIGUOUS == 0 { time } else { 0 };
            }
        }
        0
    }
}

/// Returns a hash of the connection of a context. The family is the listener's: an IPv4 address may
/// be mapped, in the request as in the child.
#[inline(always)]
unsafe fn syn_tag(ops: *mut bpf_sock_ops) -> u64 {
    // One load each: the verifier refuses two at once, and to have the context's address computed.
    // SAFETY: the verifier checks each load of the context.
    unsafe {
        let local_port = (&raw const (*ops).local_port).read_volatile();
        let remote_port = (&raw const (*ops).remote_port).read_volatile();
        let seed = u64::from(layout!(request.syn_seed));
        let mut hash = mix(seed, word(local_port, remote_port));
        if layout!(request.netns_cookie) != 0 {
            hash = mix(hash, bpf_get_netns_cookie(ops.cast()));
        }
        if (*ops).family == u32::from(FAMILY_INET6) {
            let local = [
                (&raw const (*ops).local_ip6[0]).read_volatile(),
                (&raw const (*ops).local_ip6[1]).read_volatile(),
                (&raw const (*ops).local_ip6[2]).read_volatile(),
                (&raw const (*ops).local_ip6[3]).read_volatile(),
            ];
            let remote = [
                (&raw const (*ops).remote_ip6[0]).read_volatile(),
                (&raw const (*ops).remote_ip6[1]).read_volatile(),
                (&raw const (*ops).remote_ip6[2]).read_volatile(),
                (&raw const (*ops).remote_ip6[3]).read_volatile(),
            ];
            if local[0] == 0 && local[1] == 0 && local[2] == 0xffff_u32.to_be() {
                return mix(hash, word(local[3], remote[3]));
            }
            hash = mix(hash, word(local[0], local[1]));
            hash = mix(hash, word(local[2], local[3]));
            hash = mix(hash, word(remote[0], remote[1]));
            mix(hash, word(remote[2], remote[3]))
        } else {
            let local = (&raw const (*ops).local_ip4).read_volatile();
            let remote = (&raw const (*ops).remote_ip4).read_volatile();
            mix(hash, word(local, remote))
        }
    }
}

#[inline(always)]
fn word(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// A step of a hash: the multiplier is 2^64 divided by the golden ratio.
#[inline(always)]
fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ hash >> 32
}

/// Returns the bucket of a connection's SYN.
#[inline(always)]
fn bucket_of(tag: u64) -> Option<*mut SynBucket> {
    SYNS.get_ptr_mut(tag as u32 & (SYN_BUCKETS - 1))
}
