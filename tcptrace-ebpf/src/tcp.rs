//! Reads a `struct tcp_sock`.

use core::ptr;

use aya_ebpf::helpers::{bpf_ktime_get_ns, bpf_skc_to_tcp_sock};
use tcptrace_common::{
    BIND_KNOWN, BIND_REUSEPORT, BIND_STEERED, BIND_TRANSPARENT, BIND_V6ONLY, CloseEvent,
    FIELDS_UNSENT, HANDSHAKE_FASTOPEN_CONNECT, HANDSHAKE_REPAIR, HANDSHAKE_SYN_DATA, LAYOUT_BIND,
    LAYOUT_DEFER, LAYOUT_TCP, SOCK_DEAD, SOCK_DONE, SOCK_HAS_SOCKET, SOCK_LINGER2_NEGATIVE,
    SOCK_REPAIR, SOCK_TIMEWAIT_FULL, TcpState, sock_common::*,
};

use crate::{
    access::{Access, Direct, Probe},
    maps::{has, layout},
    socket::Socket,
};

impl Socket<Direct> {
    /// Has the verifier accept this as a `tcp_sock`, without which it refuses those fields.
    #[inline(always)]
    pub fn tcp(&self) -> Option<Tcp<Direct>> {
        // SAFETY: the helper takes a pointer to a sock_common and returns NULL for others.
        let tcp = unsafe { bpf_skc_to_tcp_sock(self.sk.cast_mut().cast()) };
        (!tcp.is_null()).then(|| Tcp(Socket::new(tcp.cast_const().cast())))
    }
}

impl Socket<Probe> {
    /// The same socket, read as a `tcp_sock`.
    #[inline(always)]
    pub fn as_tcp(&self) -> Tcp<Probe> {
        Tcp(Self::new(self.sk))
    }
}

/// A `struct tcp_sock`.
#[derive(Clone, Copy)]
pub struct Tcp<A>(pub Socket<A>);

impl<A: Access> Tcp<A> {
    /// The same, as the `struct sock` that it begins with.
    #[inline(always)]
    pub fn socket(&self) -> &Socket<A> {
        &self.0
    }

    /// `inet_sport`: kept when `skc_num` is already cleared.
    #[inline(always)]
    pub fn local_port(&self) -> u16 {
        u16::from_be(self.0.field(layout!(sock.inet_sport), 0))
    }

    /// Smoothed round-trip time, microseconds.
    #[inline(always)]
    pub fn srtt_us(&self) -> u32 {
        if !has(LAYOUT_TCP) {
            return 0;
        }
        self.0.field(layout!(tcp.srtt_us), 0_u32) >> 3
    }

    #[inline(always)]
    pub fn retransmits(&self) -> u32 {
        if !has(LAYOUT_TCP) {
            return 0;
        }
        self.0.field(layout!(tcp.total_retrans), 0)
    }

    /// Whether a listener has `TCP_DEFER_ACCEPT`, or a child that still has its listener's. Only
    /// with [`LAYOUT_DEFER`].
    #[inline(always)]
    pub fn is_deferred(&self) -> bool {
        has(LAYOUT_DEFER) && self.0.field(layout!(tcp.rskq_defer_accept), 0_u8) != 0
    }

    /// `BIND_*` bits.
    #[inline(always)]
    pub fn bind_flags(&self) -> u32 {
        if !has(LAYOUT_BIND) {
            return 0;
        }
        let sk = &self.0;
        let bit = |byte: u32, mask: u32| u32::from(sk.field(byte, 0_u8)) & mask != 0;
        let mut flags = BIND_KNOWN;
        if bit(layout!(sock.reuseport), layout!(sock.reuseport_mask)) {
            flags |= BIND_REUSEPORT;
        }
        if bit(layout!(sock.ipv6only), layout!(sock.ipv6only_mask)) {
            flags |= BIND_V6ONLY;
        }
        if bit(layout!(sock.transparent), layout!(sock.transparent_mask)) {
            flags |= BIND_TRANSPARENT;
        }
        // SAFETY: a pointer of the type that the verifier knows, or any address with `Probe`.
        let lookup: *const u8 = unsafe {
            let net: *const u8 = A::read(sk.sk, SKC_NET, ptr::null());
            A::read(net, layout!(sock.net_lookup) as usize, ptr::null())
        };
        if !lookup.is_null() {
            flags |= BIND_STEERED;
        }
        flags
    }

    /// `HANDSHAKE_*` bits.
    #[inline(always)]
    pub fn handshake_flags(&self) -> u32 {
        let bit =
            |byte: u32, mask: u32| mask != 0 && u32::from(self.0.field(byte, 0_u8)) & mask != 0;
        let mut flags = 0;
        if bit(
            layout!(tcp.fastopen_connect),
            layout!(tcp.fastopen_connect_mask),
        ) {
            flags |= HANDSHAKE_FASTOPEN_CONNECT;
        }
        if bit(
            layout!(tcp.syn_data_acked),
            layout!(tcp.syn_data_acked_mask),
        ) {
            flags |= HANDSHAKE_SYN_DATA;
        }
        if self.is_in_repair() {
            flags |= HANDSHAKE_REPAIR;
        }
        flags
    }

    /// TCP_REPAIR is on.
    #[inline(always)]
    fn is_in_repair(&self) -> bool {
        let mask = layout!(tcp.repair_mask);
        mask != 0 && u32::from(self.0.field(layout!(tcp.repair), 0_u8)) & mask != 0
    }

    /// [`FIELDS_UNSENT`] at a transition to `new`. The kernel sets the state before it queues the
    /// FIN (`tcp_close_state`, `tcp_send_fin`).
    #[inline(always)]
    pub fn unsent(&self, new: u8) -> u8 {
        const FIN_WAIT1: u8 = TcpState::FinWait1.raw();
        const FIN_WAIT2: u8 = TcpState::FinWait2.raw();
        const LAST_ACK: u8 = TcpState::LastAck.raw();
        const CLOSING: u8 = TcpState::Closing.raw();
        if !has(LAYOUT_TCP) || !matches!(new, FIN_WAIT1 | FIN_WAIT2 | LAST_ACK | CLOSING) {
            return 0;
        }
        let sk = &self.0;
        let write_seq: u32 = sk.field(layout!(tcp.write_seq), 0);
        let snd_nxt: u32 = sk.field(layout!(tcp.snd_nxt), 0);
        let mut unsent = write_seq != snd_nxt;
        if matches!(new, FIN_WAIT1 | LAST_ACK) {
            let snd_una: u32 = sk.field(layout!(tcp.snd_una), 0);
            unsent |= write_seq.wrapping_sub(snd_una) >= sk.field(layout!(tcp.snd_wnd), 0);
            unsent |= self.is_held_back();
        }
        if unsent { FIELDS_UNSENT } else { 0 }
    }

    /// Whether the next segment may have to wait, though nothing else is to be sent and the peer
    /// has room (`tcp_write_xmit`): for the congestion window (some kernels exempt a FIN), for
    /// pacing, or because the queues below hold enough of this socket (`tcp_small_queue_check`).
    #[inline(always)]
    fn is_held_back(&self) -> bool {
        // Twice the least memory of a segment, the bound of `tcp_small_queue_check` at low rates.
        const FEW_BYTES: u64 = 2048;
        if layout!(tcp.snd_cwnd) == 0 {
            return true;
        }
        let sk = &self.0;
        let packets_out: u32 = sk.field(layout!(tcp.packets_out), 0);
        if packets_out == 0 {
            return false;
        }
        // tcp_packets_in_flight
        let in_flight = packets_out
            .wrapping_sub(sk.field(layout!(tcp.sacked_out), 0))
            .wrapping_sub(sk.field(layout!(tcp.lost_out), 0))
            .wrapping_add(sk.field(layout!(tcp.retrans_out), 0));
        let next_ns: u64 = sk.field(layout!(tcp.tcp_wstamp_ns), 0);
        let queued: u32 = sk.field(layout!(sock.sk_wmem_alloc), 0);
        let rate: u64 = sk.field(layout!(sock.sk_pacing_rate), 0);
        let shift: u8 = sk.field(layout!(sock.sk_pacing_shift), 0);
        let few = rate >> (shift & 63);
        let few = if few > FEW_BYTES { few } else { FEW_BYTES };
        in_flight >= sk.field(layout!(tcp.snd_cwnd), 0)
            // SAFETY: a helper without arguments.
            || next_ns > unsafe { bpf_ktime_get_ns() }
            || u64::from(queued) > few
    }

    /// Writes the fields of a closing socket.
    #[inline(always)]
    pub fn write_close(&self, to: &mut CloseEvent) {
        if !has(LAYOUT_TCP) {
            const FIELDS_AT: usize = core::mem::offset_of!(CloseEvent, bytes_sent);
            let fields = (&raw mut to.bytes_sent).cast::<u8>();
            // SAFETY: what follows the endpoints, to the end; zero is a value of every field.
            unsafe { ptr::write_bytes(fields, 0, size_of::<CloseEvent>() - FIELDS_AT) };
            return;
        }
        let sk = &self.0;
        let sent: u64 = sk.field(layout!(tcp.bytes_sent), 0);
        to.bytes_sent = sent.wrapping_sub(sk.field(layout!(tcp.bytes_retrans), 0));
        to.bytes_acked = sk.field(layout!(tcp.bytes_acked), 0);
        to.bytes_received = sk.field(layout!(tcp.bytes_received), 0);
        to.segments_sent = sk.field(layout!(tcp.segs_out), 0);
        to.segments_received = sk.field(layout!(tcp.segs_in), 0);
        to.retransmits = self.retransmits();
        to.srtt_us = self.srtt_us();
        to.error = sk.field(layout!(sock.sk_err), 0);
        let rcv_nxt: u32 = sk.field(layout!(tcp.rcv_nxt), 0);
        to.unread = rcv_nxt.wrapping_sub(sk.field(layout!(tcp.copied_seq), 0));
        let write_seq: u32 = sk.field(layout!(tcp.write_seq), 0);
        let snd_una: u32 = sk.field(layout!(tcp.snd_una), 0);
        let snd_nxt: u32 = sk.field(layout!(tcp.snd_nxt), 0);
        to.unacknowledged = write_seq.wrapping_sub(snd_una);
        to.in_flight = snd_nxt.wrapping_sub(snd_una);
        to.send_window = sk.field(layout!(tcp.snd_wnd), 0);
        to.shutdown = sk.field(layout!(sock.sk_shutdown), 0);
        to.probes_out = sk.field(layout!(tcp.icsk_probes_out), 0);
        // SOCK_DEAD and SOCK_DONE are bits 0 and 1 of sk_flags (enum sock_flags).
        let flags: u64 = sk.read(SKC_FLAGS, 0);
        let mut sock_flags = flags as u8 & (SOCK_DEAD | SOCK_DONE);
        if sk.field(layout!(sock.sk_socket), 0_u64) != 0 {
            sock_flags |= SOCK_HAS_SOCKET;
        }
        if sk.field(layout!(tcp.linger2), 0_i32) < 0 {
            sock_flags |= SOCK_LINGER2_NEGATIVE;
        }
        if sk.has_full_time_wait() {
            sock_flags |= SOCK_TIMEWAIT_FULL;
        }
        if self.is_in_repair() {
            sock_flags |= SOCK_REPAIR;
        }
        to.sock_flags = sock_flags;
        to.reserved = 0;
    }
}
