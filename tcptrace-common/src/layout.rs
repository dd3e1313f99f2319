//! Where fields are in this kernel, resolved by user space and passed in as read-only data.
//!
//! The map behind it is frozen before the programs are loaded, so the verifier knows every value as
//! a constant: an offset becomes a plain load, and a branch on a flag that is 0 is dead code.

/// `groups`: whether a socket is TCP's, and its local port. Without it BTF is of no use.
pub const LAYOUT_SOCKET: u32 = 1;
/// `groups`: the fields of a handshake and of a closing socket.
pub const LAYOUT_TCP: u32 = 2;
/// `groups`: the user that a socket belongs to.
pub const LAYOUT_USER: u32 = 4;
/// `groups`: the cgroup that a socket belongs to.
pub const LAYOUT_CGROUP: u32 = 8;
/// `groups`: the network namespace that a socket is in.
pub const LAYOUT_NETNS: u32 = 16;
/// `groups`: the thread group's name, and whether a task is the kernel's own.
pub const LAYOUT_TASK: u32 = 32;
/// `groups`: whether a listener has TCP_DEFER_ACCEPT.
pub const LAYOUT_DEFER: u32 = 64;
/// `groups`: which other sockets may listen where a socket does.
pub const LAYOUT_BIND: u32 = 128;

/// `groups`: the word of `sk_cgrp_data` is a pointer to a cgroup (from Linux 5.15), and typed loads
/// can follow it.
pub const LAYOUT_CGROUP_TYPED: u32 = 256;
/// `groups`: a program can ask for the current task as a typed pointer
/// (`bpf_get_current_task_btf`, from Linux 5.11).
pub const LAYOUT_TASK_TYPED: u32 = 512;

/// The read-only data of the programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// `LAYOUT_*` bits: which of the offsets below BTF gave. A renamed field costs its group.
    pub groups: u32,
    /// Offsets in `struct sock` and what it points to.
    pub sock: SockLayout,
    /// Offsets in `struct tcp_sock`.
    pub tcp: TcpLayout,
    /// Offsets in `struct task_struct`.
    pub task: TaskLayout,
    /// Offsets in what a handshake leaves behind.
    pub request: RequestLayout,
    /// Offsets on the way from a file descriptor to its socket.
    pub file: FileLayout,
    /// Where functions keep their arguments, and which there are.
    pub function: FunctionLayout,
    /// Offsets in the record of the classic tracepoint.
    pub record: RecordLayout,
}

/// Byte offsets in `struct sock`, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SockLayout {
    /// `sk_protocol`.
    pub sk_protocol: u32,
    /// `sk_err`.
    pub sk_err: u32,
    /// `sk_shutdown`.
    pub sk_shutdown: u32,
    /// `sk_socket`.
    pub sk_socket: u32,
    /// `inode.i_ino` of a socket's file, from the start of its `struct socket`; 0 when not known.
    pub socket_inode: u32,
    /// `sk_uid`.
    pub sk_uid: u32,
    /// `sk_cgrp_data`, whose first 8 bytes are the cgroup's pointer.
    pub sk_cgrp_data: u32,
    /// `inet_sock.inet_sport`.
    pub inet_sport: u32,
    /// `net.ns.inum`, from the start of `struct net`.
    pub net_ns_inum: u32,
    /// `net.net_cookie`, 8 bytes, likewise; 0 when it does not exist (before Linux 5.7).
    pub net_cookie: u32,
    /// `net.ipv4.tcp_death_row.tw_refcount` or `tw_count`, 4 bytes, from the start of `struct net`;
    /// 0 when it does not exist (Linux 5.18 to 6.0).
    pub net_tw_count: u32,
    /// `net.ipv4.tcp_death_row.sysctl_max_tw_buckets`, 4 bytes, likewise.
    pub net_tw_limit: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `kernfs_node.id`.
    pub kernfs_node_id: u32,
    /// `cgroup.root`.
    pub cgroup_root: u32,
    /// `cgroup_root.hierarchy_id`, 4 bytes: 0 for the v2 hierarchy.
    pub hierarchy_id: u32,
    /// The byte that has the bit `skc_reuseport`.
    pub reuseport: u32,
    /// The bit in that byte.
    pub reuseport_mask: u32,
    /// The byte that has the bit `skc_ipv6only`.
    pub ipv6only: u32,
    /// The bit in that byte.
    pub ipv6only_mask: u32,
    /// The byte of `inet_sock` that tells IP_TRANSPARENT.
    pub transparent: u32,
    /// The bit in that byte.
    pub transparent_mask: u32,
    /// `net.bpf.run_array[NETNS_BPF_SK_LOOKUP]`, from the start of `struct net`.
    pub net_lookup: u32,
    /// `sk_txhash`: not 0 once a SYN was about to leave.
    pub sk_txhash: u32,
    /// `sk_wmem_alloc`: bytes that left TCP and were not sent yet.
    pub sk_wmem_alloc: u32,
    /// `sk_pacing_rate`, 8 bytes.
    pub sk_pacing_rate: u32,
    /// `sk_pacing_shift`, 1 byte.
    pub sk_pacing_shift: u32,
}

/// Byte offsets in `struct tcp_sock`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TcpLayout {
    /// `bytes_sent`.
    pub bytes_sent: u32,
    /// `bytes_retrans`.
    pub bytes_retrans: u32,
    /// `bytes_received`.
    pub bytes_received: u32,
    /// `segs_out`.
    pub segs_out: u32,
    /// `segs_in`.
    pub segs_in: u32,
    /// `total_retrans`.
    pub total_retrans: u32,
    /// `srtt_us`, shifted left by 3.
    pub srtt_us: u32,
    /// `rcv_nxt`.
    pub rcv_nxt: u32,
    /// `copied_seq`.
    pub copied_seq: u32,
    /// `write_seq`.
    pub write_seq: u32,
    /// `bytes_acked`.
    pub bytes_acked: u32,
    /// `snd_nxt`.
    pub snd_nxt: u32,
    /// `snd_una`.
    pub snd_una: u32,
    /// `snd_wnd`.
    pub snd_wnd: u32,
    /// `linger2`.
    pub linger2: u32,
    /// `inet_connection_sock.icsk_probes_out`.
    pub icsk_probes_out: u32,
    /// `inet_connection_sock.icsk_accept_queue.rskq_defer_accept`, 1 byte.
    pub rskq_defer_accept: u32,
    /// The byte that has the bit `fastopen_connect`.
    pub fastopen_connect: u32,
    /// The bit in that byte; 0 when there is no such field.
    pub fastopen_connect_mask: u32,
    /// The byte that has the bit `syn_data_acked`.
    pub syn_data_acked: u32,
    /// The bit in that byte; 0 when there is no such field.
    pub syn_data_acked_mask: u32,
    /// The byte that has the bit `repair`.
    pub repair: u32,
    /// The bit in that byte; 0 when there is no such field.
    pub repair_mask: u32,
    /// `packets_out`.
    pub packets_out: u32,
    /// `sacked_out`.
    pub sacked_out: u32,
    /// `lost_out`.
    pub lost_out: u32,
    /// `retrans_out`.
    pub retrans_out: u32,
    /// `snd_cwnd`; 0 when what can hold back a segment is not known.
    pub snd_cwnd: u32,
    /// `tcp_wstamp_ns`, 8 bytes.
    pub tcp_wstamp_ns: u32,
}

/// Byte offsets in `struct tcp_request_sock`, `struct inet_timewait_sock` and `struct sk_buff`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RequestLayout {
    /// `tcp_request_sock.snt_synack`.
    pub snt_synack: u32,
    /// `request_sock.num_retrans`, 1 byte.
    pub num_retrans: u32,
    /// `sk_buff.head`.
    pub skb_head: u32,
    /// `sk_buff.transport_header`, 2 bytes.
    pub skb_transport_header: u32,
    /// `inet_timewait_sock.tw_substate`, 1 byte.
    pub tw_substate: u32,
    /// `inet_timewait_sock.__tw_common.skc_nulls_node.pprev`: NULL once it is out of the table.
    pub tw_pprev: u32,
    /// 1 when sock_ops programs can ask for a namespace's cookie (from Linux 5.15).
    pub netns_cookie: u32,
    /// The seed of a hash: any number.
    pub syn_seed: u32,
}

/// Byte offsets in `struct file`, `struct socket` and what leads there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FileLayout {
    /// `task_struct.files`.
    pub files: u32,
    /// `files_struct.fdt`.
    pub fdt: u32,
    /// `fdtable.fd`.
    pub fd: u32,
    /// `fdtable.max_fds`.
    pub max_fds: u32,
    /// `file.private_data`.
    pub private_data: u32,
    /// `socket.file`.
    pub socket_file: u32,
    /// `socket.sk`.
    pub socket_sk: u32,
    /// `ret` in the record of `syscalls:sys_exit_accept`.
    pub exit_ret: u32,
    /// The first argument of a system call in `struct pt_regs`, which its result does not
    /// overwrite.
    pub call_first: u32,
    /// The second one.
    pub call_second: u32,
}

/// How to read the traced functions of this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct FunctionLayout {
    /// How many parameters `inet_csk_accept` has: 4, and 2 from Linux 6.10.
    pub accept_parameters: u32,
    /// How many parameters `tcp_timewait_state_process` has: 3 to 5.
    pub timewait_parameters: u32,
    /// 1 when `tcp_send_reset` tells a reason (from Linux 6.10).
    pub reset_has_reason: u32,
}

/// Byte offsets in `struct task_struct`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct TaskLayout {
    /// `flags`.
    pub flags: u32,
    /// `group_leader`.
    pub group_leader: u32,
    /// `comm`.
    pub comm: u32,
    /// `tgid`.
    pub tgid: u32,
    /// `signal`.
    pub signal: u32,
    /// `signal_struct.live`: how many threads of the process have not exited.
    pub signal_live: u32,
    /// `nsproxy`; 0 when it is not known.
    pub nsproxy: u32,
    /// `nsproxy.net_ns`.
    pub net_ns: u32,
}

/// Byte offsets in the record of `sock:inet_sock_set_state`, from its tracefs `format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct RecordLayout {
    /// `skaddr`, 8 bytes.
    pub skaddr: u32,
    /// `oldstate`, 4 bytes.
    pub oldstate: u32,
    /// `newstate`, 4 bytes.
    pub newstate: u32,
    /// `sport`, 2 bytes.
    pub sport: u32,
    /// `dport`, 2 bytes.
    pub dport: u32,
    /// `family`, 2 bytes.
    pub family: u32,
    /// `protocol`, [`RecordLayout::protocol_size`] bytes.
    pub protocol: u32,
    /// 2, and 1 before Linux 5.6.
    pub protocol_size: u32,
    /// `saddr`, 4 bytes.
    pub saddr: u32,
    /// `daddr`, 4 bytes.
    pub daddr: u32,
    /// `saddr_v6`, 16 bytes.
    pub saddr_v6: u32,
    /// `daddr_v6`, 16 bytes.
    pub daddr_v6: u32,
}

/// Offsets in `struct sock_common` that have not moved in years. They are compiled in, and user
/// space checks each against BTF before it loads a program.
pub mod sock_common {
    /// `skc_daddr`, 4 bytes; `skc_rcv_saddr` follows it.
    pub const SKC_DADDR: usize = 0;
    /// `skc_rcv_saddr`, 4 bytes.
    pub const SKC_RCV_SADDR: usize = 4;
    /// `skc_dport`, 2 bytes, network order.
    pub const SKC_DPORT: usize = 12;
    /// `skc_num`, 2 bytes, host order.
    pub const SKC_NUM: usize = 14;
    /// `skc_family`, 2 bytes.
    pub const SKC_FAMILY: usize = 16;
    /// `skc_state`, 1 byte.
    pub const SKC_STATE: usize = 18;
    /// `skc_bound_dev_if`, 4 bytes.
    pub const SKC_BOUND_DEV_IF: usize = 20;
    /// `skc_net`, a pointer.
    pub const SKC_NET: usize = 48;
    /// `skc_v6_daddr`, 16 bytes.
    pub const SKC_V6_DADDR: usize = 56;
    /// `skc_v6_rcv_saddr`, 16 bytes.
    pub const SKC_V6_RCV_SADDR: usize = 72;
    /// `skc_cookie`, 8 bytes.
    pub const SKC_COOKIE: usize = 88;
    /// `skc_flags`, 8 bytes.
    pub const SKC_FLAGS: usize = 96;

    /// All of them, by name and with their width in bytes, for that check.
    pub const ALL: [(&str, usize, u32); 12] = [
        ("skc_daddr", SKC_DADDR, 4),
        ("skc_rcv_saddr", SKC_RCV_SADDR, 4),
        ("skc_dport", SKC_DPORT, 2),
        ("skc_num", SKC_NUM, 2),
        ("skc_family", SKC_FAMILY, 2),
        ("skc_state", SKC_STATE, 1),
        ("skc_bound_dev_if", SKC_BOUND_DEV_IF, 4),
        ("skc_net", SKC_NET, 8),
        ("skc_v6_daddr", SKC_V6_DADDR, 16),
        ("skc_v6_rcv_saddr", SKC_V6_RCV_SADDR, 16),
        ("skc_cookie", SKC_COOKIE, 8),
        ("skc_flags", SKC_FLAGS, 8),
    ];
}

const _: () = assert!(size_of::<Layout>() == 4 * (1 + 27 + 29 + 8 + 8 + 10 + 3 + 12));
