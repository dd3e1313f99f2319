//! Reading a socket: `struct sock`, `struct tcp_sock`, or the classic tracepoint's record.

use core::{marker::PhantomData, ptr};

use aya_ebpf::programs::TracePointContext;
use tcptrace_common::{
    FAMILY_INET, FAMILY_INET6, FIELDS_TCP, FIELDS_USER, LAYOUT_CGROUP, LAYOUT_CGROUP_TYPED,
    LAYOUT_NETNS, LAYOUT_TCP, LAYOUT_USER, RawEndpoints, TcpState, sock_common::*,
};

use crate::{
    access::{Access, Direct, Probe},
    maps::{has, layout},
};

const IPPROTO_TCP: u16 = 6;
const TCP_TIME_WAIT: u8 = 6;
const TCP_NEW_SYN_RECV: u8 = 12;

/// A `struct sock`, or what shares its `struct sock_common`.
#[derive(Clone, Copy)]
pub struct Socket<A> {
    pub sk: *const u8,
    access: PhantomData<A>,
}

impl<A: Access> Socket<A> {
    #[inline(always)]
    pub fn new(sk: *const u8) -> Self {
        Self {
            sk,
            access: PhantomData,
        }
    }

    /// The kernel's address: the socket's identity until it is freed.
    #[inline(always)]
    pub fn address(&self) -> u64 {
        self.sk as u64
    }

    #[inline(always)]
    pub fn read<T: Copy>(&self, offset: usize, zero: T) -> T {
        // SAFETY: `sk` is the tracepoint's argument, or any address with `Probe`.
        unsafe { A::read(self.sk, offset, zero) }
    }

    #[inline(always)]
    pub fn field<T: Copy>(&self, offset: u32, zero: T) -> T {
        self.read(offset as usize, zero)
    }

    /// `sk_protocol`.
    #[inline(always)]
    pub fn protocol(&self) -> u16 {
        self.field(layout!(sock.sk_protocol), 0)
    }

    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.protocol() == IPPROTO_TCP
    }

    /// Whether it is neither a timewait nor a request socket, so that the fields past `sock_common`
    /// exist.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV
    }

    #[inline(always)]
    pub fn state(&self) -> u8 {
        self.read(SKC_STATE, 0)
    }

    #[inline(always)]
    pub fn family(&self) -> u16 {
        self.read(SKC_FAMILY, 0)
    }

    #[inline(always)]
    pub fn cookie(&self) -> u64 {
        self.read(SKC_COOKIE, 0)
    }

    /// The user; 0 if it cannot be read, which [`known_fields`](Self::known_fields) tells.
    #[inline(always)]
    pub fn uid(&self) -> u32 {
        if !has(LAYOUT_USER) {
            return 0;
        }
        self.field(layout!(sock.sk_uid), 0)
    }

    /// `FIELDS_*` bits of a full socket.
    #[inline(always)]
    pub fn known_fields() -> u8 {
        let mut fields = 0;
        if has(LAYOUT_USER) {
            fields |= FIELDS_USER;
        }
        if has(LAYOUT_TCP) {
            fields |= FIELDS_TCP;
        }
        fields
    }

    /// The cgroup's id; 0 if the pointer is none (before 5.15 bit 0 marks other contents).
    #[inline(always)]
    pub fn cgroup(&self) -> u64 {
        if !has(LAYOUT_CGROUP) {
            return 0;
        }
        // SAFETY: pointers of types that the verifier knows.
        if A::TYPED && has(LAYOUT_CGROUP_TYPED) {
            unsafe {
                let cgroup: *const u8 =
                    Direct::read(self.sk, layout!(sock.sk_cgrp_data) as usize, ptr::null());
                if cgroup.is_null() {
                    return 0;
                }
                let kn: *const u8 =
                    Direct::read(cgroup, layout!(sock.cgroup_kn) as usize, ptr::null());
                return Direct::read(kn, layout!(sock.kernfs_node_id) as usize, 0);
            }
        }
        // SAFETY: probe reads take any address; a plain load of what may be no pointer would give
        // one, whose bits the verifier does not let a program see.
        unsafe {
            let cgroup: u64 = Probe::read(self.sk, layout!(sock.sk_cgrp_data) as usize, 0);
            if cgroup == 0 || cgroup & 1 != 0 {
                return 0;
            }
            cgroup_id(cgroup as *const u8)
        }
    }

    /// The inode of the file by which a process holds it; 0 without one.
    #[inline(always)]
    pub fn inode(&self) -> u64 {
        if layout!(sock.socket_inode) == 0 {
            return 0;
        }
        // SAFETY: probe reads take any address.
        unsafe {
            let socket: u64 = Probe::read(self.sk, layout!(sock.sk_socket) as usize, 0);
            if socket == 0 {
                return 0;
            }
            Probe::read(socket as *const u8, layout!(sock.socket_inode) as usize, 0)
        }
    }

    /// The namespace's inode number and its cookie; 0 for what cannot be read.
    #[inline(always)]
    fn write_netns(&self, to: &mut RawEndpoints) {
        to.netns = 0;
        to.netns_cookie = 0;
        if !has(LAYOUT_NETNS) {
            return;
        }
        // SAFETY: a pointer of the type that the verifier knows, or any address with `Probe`.
        unsafe {
            let net: *const u8 = A::read(self.sk, SKC_NET, ptr::null());
            to.netns = A::read(net, layout!(sock.net_ns_inum) as usize, 0);
            if layout!(sock.net_cookie) != 0 {
                let cookie: u64 = A::read(net, layout!(sock.net_cookie) as usize, 0);
                to.netns_cookie = if cookie >> 32 == 0 { cookie as u32 } else { 0 };
            }
        }
    }

    /// `skc_net`.
    #[inline(always)]
    pub fn net(&self) -> u64 {
        self.read(SKC_NET, 0)
    }

    /// `skc_dport` and `skc_num` in one word.
    #[inline(always)]
    pub fn ports(&self) -> u32 {
        self.read(SKC_DPORT, 0)
    }

    /// Whether it leaves a state from which TIME_WAIT is entered, and there may be no room for
    /// that: the kernel tries to allocate just before (`tcp_time_wait`, `inet_twsk_alloc`).
    #[inline(always)]
    pub fn has_full_time_wait(&self) -> bool {
        // What may come and go between the attempt and this check.
        const MARGIN: u32 = 64;
        const FIN_WAIT2: u8 = TcpState::FinWait2.raw();
        const CLOSING: u8 = TcpState::Closing.raw();
        if layout!(sock.net_tw_count) == 0 || !matches!(self.state(), FIN_WAIT2 | CLOSING) {
            return false;
        }
        // SAFETY: a pointer of the type that the verifier knows, or any address with `Probe`.
        let (count, limit): (u32, u32) = unsafe {
            let net: *const u8 = A::read(self.sk, SKC_NET, ptr::null());
            (
                A::read(net, layout!(sock.net_tw_count) as usize, 0),
                A::read(net, layout!(sock.net_tw_limit) as usize, 0),
            )
        };
        u64::from(count) + u64::from(MARGIN) >= u64::from(limit)
    }

    /// Writes both ends; `local_port` comes from the caller, because each kind of socket keeps it
    /// elsewhere.
    #[inline(always)]
    pub fn write_endpoints(&self, to: &mut RawEndpoints, local_port: u16) {
        if self.family() == FAMILY_INET6 {
            to.remote_address = self.read_address(SKC_V6_DADDR);
            to.local_address = self.read_address(SKC_V6_RCV_SADDR);
        } else {
            to.remote_address = v4(self.read(SKC_DADDR, 0));
            to.local_address = v4(self.read(SKC_RCV_SADDR, 0));
        }
        to.local_port = local_port;
        to.remote_port = self.remote_port();
        self.write_netns(to);
        to.interface = self.read(SKC_BOUND_DEV_IF, 0);
    }

    /// `skc_dport`, host order.
    #[inline(always)]
    pub fn remote_port(&self) -> u16 {
        u16::from_be(self.read(SKC_DPORT, 0))
    }

    /// `inet_timewait_sock.tw_substate`.
    #[inline(always)]
    pub fn substate(&self) -> u8 {
        self.field(layout!(request.tw_substate), 0)
    }

    /// Whether a timewait socket is no longer in the kernel's table.
    #[inline(always)]
    pub fn is_unhashed(&self) -> bool {
        self.field(layout!(request.tw_pprev), 0_u64) == 0
    }

    #[inline(always)]
    fn read_address(&self, offset: usize) -> [u8; 16] {
        let halves: [u64; 2] = [self.read(offset, 0), self.read(offset + 8, 0)];
        // SAFETY: 16 bytes either way.
        unsafe { core::mem::transmute(halves) }
    }

    /// Whether a SYN was once about to leave (`sk_set_txhash`).
    #[inline(always)]
    pub fn has_tried_to_connect(&self) -> bool {
        self.field(layout!(sock.sk_txhash), 1_u32) != 0
    }

    /// `skc_num`: the local port in host order; 0 after an auto-bound socket was unhashed.
    #[inline(always)]
    pub fn num(&self) -> u16 {
        self.read(SKC_NUM, 0)
    }
}

/// The record of the classic tracepoint: all there is without BTF.
pub struct Record<'a> {
    ctx: &'a TracePointContext,
    socket: u64,
    old: u8,
    new: u8,
    protocol: u16,
    family: u16,
}

impl<'a> Record<'a> {
    #[inline(always)]
    pub fn read(ctx: &'a TracePointContext) -> Option<Self> {
        let at = |offset: u32| offset as usize;
        // SAFETY: probe reads; the offsets come from the tracepoint's own format.
        unsafe {
            let protocol = if layout!(record.protocol_size) == 2 {
                ctx.read_at::<u16>(at(layout!(record.protocol))).ok()?
            } else {
                u16::from(ctx.read_at::<u8>(at(layout!(record.protocol))).ok()?)
            };
            Some(Self {
                socket: ctx.read_at(at(layout!(record.skaddr))).ok()?,
                old: ctx.read_at::<i32>(at(layout!(record.oldstate))).ok()? as u8,
                new: ctx.read_at::<i32>(at(layout!(record.newstate))).ok()? as u8,
                family: ctx.read_at(at(layout!(record.family))).ok()?,
                protocol,
                ctx,
            })
        }
    }

    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.protocol == IPPROTO_TCP
    }

    #[inline(always)]
    pub fn socket(&self) -> *const u8 {
        self.socket as *const u8
    }

    #[inline(always)]
    pub fn old(&self) -> u8 {
        self.old
    }

    #[inline(always)]
    pub fn new(&self) -> u8 {
        self.new
    }

    #[inline(always)]
    pub fn family(&self) -> u16 {
        self.family
    }

    /// Writes both ends as the record has them, without the namespace.
    #[inline(always)]
    pub fn write_endpoints(&self, to: &mut RawEndpoints) {
        let read4 = |offset: u32| v4(self.field(offset, 0_u32));
        let read16 = |offset: u32| self.field(offset, [0_u8; 16]);
        if self.family == FAMILY_INET {
            to.local_address = read4(layout!(record.saddr));
            to.remote_address = read4(layout!(record.daddr));
        } else {
            to.local_address = read16(layout!(record.saddr_v6));
            to.remote_address = read16(layout!(record.daddr_v6));
        }
        // The record has its ports in host order already (ntohs in its TP_fast_assign).
        to.local_port = self.field(layout!(record.sport), 0);
        to.remote_port = self.field(layout!(record.dport), 0);
        to.netns = 0;
        to.interface = 0;
        to.netns_cookie = 0;
    }

    #[inline(always)]
    fn field<T: Copy>(&self, offset: u32, zero: T) -> T {
        // SAFETY: a probe read of the record.
        unsafe { self.ctx.read_at(offset as usize) }.unwrap_or(zero)
    }
}

/// An IPv4 address in network order, as 16 bytes.
#[inline(always)]
fn v4(address: u32) -> [u8; 16] {
    let halves = [u64::from(address), 0];
    // SAFETY: 16 bytes either way; little-endian hosts only, as is the object.
    unsafe { core::mem::transmute(halves) }
}

/// Returns the id of a `struct cgroup`; 0 if it cannot be read.
#[inline(always)]
pub fn cgroup_id(cgroup: *const u8) -> u64 {
    // SAFETY: probe reads take any address.
    unsafe {
        let kn: u64 = Probe::read(cgroup, layout!(sock.cgroup_kn) as usize, 0);
        Probe::read(kn as *const u8, layout!(sock.kernfs_node_id) as usize, 0)
    }
}
