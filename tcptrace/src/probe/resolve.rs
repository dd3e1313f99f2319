//! Finds each field that the programs read, in groups: a field that a kernel renamed costs what
//! its group is for, and no more.

use tcptrace_common::{
    FileLayout, FunctionLayout, LAYOUT_BIND, LAYOUT_CGROUP, LAYOUT_CGROUP_TYPED, LAYOUT_DEFER,
    LAYOUT_NETNS, LAYOUT_SOCKET, LAYOUT_TASK, LAYOUT_TASK_TYPED, LAYOUT_TCP, LAYOUT_USER, Layout,
    RequestLayout, SockLayout, TaskLayout, TcpLayout, sock_common,
};

use super::btf::{Btf, BtfError};

/// The bit of IP_TRANSPARENT in `inet_sock.inet_flags` (from Linux 6.6), in an unnamed enum.
pub(super) const TRANSPARENT_FLAG: &str = "INET_FLAGS_TRANSPARENT";

/// The function behind `bpf_get_netns_cookie` for sock_ops programs (from Linux 5.15).
pub(super) const SOCK_OPS_COOKIE: &str = "bpf_get_netns_cookie_sock_ops";

/// The function behind the helper of this name (from Linux 5.11).
pub(super) const CURRENT_TASK: &str = "bpf_get_current_task_btf";

/// The function behind `bpf_task_pt_regs` (from Linux 5.15).
pub(super) const TASK_REGISTERS: &str = "bpf_task_pt_regs";

/// Returns the typedef by which a tracepoint's program is loaded.
pub(super) fn typedef(tracepoint: &str) -> String {
    format!("btf_trace_{tracepoint}")
}

/// A group of fields that cannot be read on this kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingGroup {
    /// The group's `LAYOUT_*` bit.
    pub bit: u32,
    /// What the fields tell.
    pub what: &'static str,
    /// What is missing without them.
    pub consequence: &'static str,
    /// Why they cannot be read.
    pub why: String,
}

/// Checks the offsets in `sock_common`, which are compiled into the programs.
pub(super) fn confirm_sock_common(btf: &Btf) -> Result<(), BtfError> {
    for (field, offset, size) in sock_common::ALL {
        let actual = btf.offset("sock_common", field, size)?;
        if actual as usize != offset {
            return Err(BtfError::NoField(
                "sock_common".to_owned(),
                format!("{field} at byte {offset} (it is at {actual})"),
            ));
        }
    }
    Ok(())
}

/// Returns the layout, and the groups of fields that are missing.
pub(super) fn resolve(btf: &Btf) -> Result<(Layout, Vec<MissingGroup>), BtfError> {
    let mut layout = Layout {
        groups: LAYOUT_SOCKET,
        ..Layout::default()
    };
    layout.sock.sk_protocol = btf.offset("sock", "sk_protocol", 2)?;
    layout.sock.inet_sport = btf.offset("inet_sock", "inet_sport", 2)?;
    let mut missing = Vec::new();
    for group in GROUPS {
        let mut with = layout;
        match (group.resolve)(btf, &mut with) {
            Ok(()) => {
                layout = with;
                layout.groups |= group.bit;
            }
            Err(error) => missing.push(MissingGroup {
                bit: group.bit,
                what: group.what,
                consequence: group.consequence,
                why: error.to_string(),
            }),
        }
    }
    Ok((layout, missing))
}

/// Fields that are useful only together.
struct FieldGroup {
    bit: u32,
    what: &'static str,
    consequence: &'static str,
    resolve: fn(&Btf, &mut Layout) -> Result<(), BtfError>,
}

const GROUPS: [FieldGroup; 7] = [
    FieldGroup {
        bit: LAYOUT_TCP,
        what: "the fields of a closing socket",
        consequence: "no verdicts, bytes, segments, retransmits or round trips",
        resolve: resolve_tcp,
    },
    FieldGroup {
        bit: LAYOUT_USER,
        what: "a socket's user",
        consequence: "no uid",
        resolve: |btf, layout| {
            layout.sock.sk_uid = btf.offset("sock", "sk_uid", 4)?;
            Ok(())
        },
    },
    FieldGroup {
        bit: LAYOUT_CGROUP,
        what: "a socket's cgroup",
        consequence: "no cgroup_id",
        resolve: |btf, layout| {
            let (offset, typed) = cgroup_pointer(btf)?;
            layout.sock.sk_cgrp_data = offset;
            layout.groups |= typed;
            layout.sock.cgroup_kn = btf.offset("cgroup", "kn", 8)?;
            layout.sock.kernfs_node_id = btf.offset("kernfs_node", "id", 8)?;
            Ok(())
        },
    },
    FieldGroup {
        bit: LAYOUT_NETNS,
        what: "a socket's network namespace",
        consequence: "no netns: equal connections of two namespaces look alike",
        resolve: |btf, layout| {
            layout.sock.net_ns_inum = btf.offset("net", "ns.inum", 4)?;
            // An atomic64_t before Linux 5.12. Without it a namespace is known by its inode alone.
            layout.sock.net_cookie = btf
                .offset("net", "net_cookie", 8)
                .or_else(|_| btf.offset("net", "net_cookie.counter", 8))
                .unwrap_or(0);
            // A pointer in some kernels: then it is not known how full the table is.
            if let Ok((count, limit)) = resolve_time_wait_limit(btf) {
                layout.sock.net_tw_count = count;
                layout.sock.net_tw_limit = limit;
            }
            Ok(())
        },
    },
    FieldGroup {
        bit: LAYOUT_TASK,
        what: "a task's process",
        consequence: "comm is the thread's name",
        resolve: |btf, layout| {
            if btf.function_id(CURRENT_TASK).is_ok() {
                layout.groups |= LAYOUT_TASK_TYPED;
            }
            layout.task = TaskLayout {
                tgid: btf.offset("task_struct", "tgid", 4)?,
                signal: 0,
                signal_live: 0,
                // Without these, sockets held only by a process elsewhere are not found.
                nsproxy: btf.offset("task_struct", "nsproxy", 8).unwrap_or(0),
                net_ns: btf.offset("nsproxy", "net_ns", 8).unwrap_or(0),
                flags: btf.offset("task_struct", "flags", 4)?,
                group_leader: btf.offset("task_struct", "group_leader", 8)?,
                comm: btf.offset("task_struct", "comm", 16)?,
            };
            Ok(())
        },
    },
    FieldGroup {
        bit: LAYOUT_DEFER,
        what: "a listener's TCP_DEFER_ACCEPT",
        consequence: "passive handshakes are timed only where no data came with the ACK",
        resolve: |btf, layout| {
            let field = "icsk_accept_queue.rskq_defer_accept";
            layout.tcp.rskq_defer_accept = btf.offset("inet_connection_sock", field, 1)?;
            Ok(())
        },
    },
    FieldGroup {
        bit: LAYOUT_BIND,
        what: "who else may listen where a socket does",
        consequence: "no process by the address that a connection came to (pid_source address)",
        resolve: |btf, layout| {
            let sock = &mut layout.sock;
            (sock.reuseport, sock.reuseport_mask) = btf.bit("sock_common", "skc_reuseport")?;
            (sock.ipv6only, sock.ipv6only_mask) = btf.bit("sock_common", "skc_ipv6only")?;
            (sock.transparent, sock.transparent_mask) = transparent(btf)?;
            // NETNS_BPF_SK_LOOKUP is the second of two (include/net/netns/bpf.h).
            sock.net_lookup = btf.offset("net", "bpf.run_array", 16)? + 8;
            Ok(())
        },
    },
];

/// Returns the byte of `inet_sock` that holds IP_TRANSPARENT, and its bit: one of the flags in a
/// word, and before Linux 6.6 a bitfield of its own.
fn transparent(btf: &Btf) -> Result<(u32, u32), BtfError> {
    if let Ok(bit) = btf.bit("inet_sock", "transparent") {
        return Ok(bit);
    }
    let flags = btf.offset("inet_sock", "inet_flags", 8)?;
    let place = btf.enum_value(TRANSPARENT_FLAG)?;
    if place < 64 {
        Ok((flags + place / 8, 1 << (place % 8)))
    } else {
        Err(BtfError::NoField(
            "inet_sock".to_owned(),
            format!("{TRANSPARENT_FLAG} in its flags"),
        ))
    }
}

/// Returns where the number and the limit of a namespace's timewait sockets are.
fn resolve_time_wait_limit(btf: &Btf) -> Result<(u32, u32), BtfError> {
    let death_row = |field: &str| btf.offset("net", &format!("ipv4.tcp_death_row.{field}"), 4);
    // Renamed in Linux 5.17.
    let count = death_row("tw_refcount").or_else(|_| death_row("tw_count"))?;
    Ok((count, death_row("sysctl_max_tw_buckets")?))
}

fn resolve_tcp(btf: &Btf, layout: &mut Layout) -> Result<(), BtfError> {
    let tcp = |field, size| btf.offset("tcp_sock", field, size);
    let bit = |field| btf.bit("tcp_sock", field).unwrap_or((0, 0));
    let fastopen_connect = bit("fastopen_connect");
    let syn_data_acked = bit("syn_data_acked");
    let repair = bit("repair");
    layout.sock.sk_err = btf.offset("sock", "sk_err", 4)?;
    layout.sock.sk_shutdown = btf.offset("sock", "sk_shutdown", 1)?;
    layout.sock.sk_socket = btf.offset("sock", "sk_socket", 8)?;
    // Without it, sockets from before the trace have no process.
    layout.sock.socket_inode = btf
        .offset("socket_alloc", "vfs_inode.i_ino", 8)
        .unwrap_or(0);
    layout.tcp = TcpLayout {
        bytes_sent: tcp("bytes_sent", 8)?,
        bytes_retrans: tcp("bytes_retrans", 8)?,
        bytes_acked: tcp("bytes_acked", 8)?,
        snd_nxt: tcp("snd_nxt", 4)?,
        bytes_received: tcp("bytes_received", 8)?,
        segs_out: tcp("segs_out", 4)?,
        segs_in: tcp("segs_in", 4)?,
        total_retrans: tcp("total_retrans", 4)?,
        srtt_us: tcp("srtt_us", 4)?,
        rcv_nxt: tcp("rcv_nxt", 4)?,
        copied_seq: tcp("copied_seq", 4)?,
        write_seq: tcp("write_seq", 4)?,
        snd_una: tcp("snd_una", 4)?,
        snd_wnd: tcp("snd_wnd", 4)?,
        linger2: tcp("linger2", 4)?,
        icsk_probes_out: btf.offset("inet_connection_sock", "icsk_probes_out", 1)?,
        fastopen_connect: fastopen_connect.0,
        fastopen_connect_mask: fastopen_connect.1,
        syn_data_acked: syn_data_acked.0,
        syn_data_acked_mask: syn_data_acked.1,
        repair: repair.0,
        repair_mask: repair.1,
        ..layout.tcp
    };
    // Without these, a FIN that may have waited has no time.
    if let Ok((sock, tcp)) = resolve_congestion(btf, layout) {
        (layout.sock, layout.tcp) = (sock, tcp);
    }
    Ok(())
}

/// Finds what can hold back a segment.
fn resolve_congestion(btf: &Btf, layout: &Layout) -> Result<(SockLayout, TcpLayout), BtfError> {
    let tcp = |field, size| btf.offset("tcp_sock", field, size);
    let sock = |field, size| btf.offset("sock", field, size);
    Ok((
        SockLayout {
            sk_wmem_alloc: sock("sk_wmem_alloc", 4)?,
            sk_pacing_rate: sock("sk_pacing_rate", 8)?,
            sk_pacing_shift: sock("sk_pacing_shift", 1)?,
            ..layout.sock
        },
        TcpLayout {
            packets_out: tcp("packets_out", 4)?,
            sacked_out: tcp("sacked_out", 4)?,
            lost_out: tcp("lost_out", 4)?,
            retrans_out: tcp("retrans_out", 4)?,
            tcp_wstamp_ns: tcp("tcp_wstamp_ns", 8)?,
            snd_cwnd: tcp("snd_cwnd", 4)?,
            ..layout.tcp
        },
    ))
}

/// Returns the offset of `sk_cgrp_data`'s pointer, named `cgroup`, and [`LAYOUT_CGROUP_TYPED`];
/// before 5.15 that of its word, named `val`, and 0.
fn cgroup_pointer(btf: &Btf) -> Result<(u32, u32), BtfError> {
    match btf.offset("sock", "sk_cgrp_data.cgroup", 8) {
        Ok(offset) => Ok((offset, LAYOUT_CGROUP_TYPED)),
        Err(_) => Ok((btf.offset("sock", "sk_cgrp_data.val", 8)?, 0)),
    }
}

/// Finds the path from a cgroup to the number of its hierarchy.
pub(super) fn resolve_hierarchy(btf: &Btf) -> Result<(u32, u32), BtfError> {
    Ok((
        btf.offset("cgroup", "root", 8)?,
        btf.offset("cgroup_root", "hierarchy_id", 4)?,
    ))
}

pub(super) fn resolve_request(btf: &Btf) -> Result<RequestLayout, BtfError> {
    Ok(RequestLayout {
        snt_synack: btf.offset("tcp_request_sock", "snt_synack", 8)?,
        num_retrans: btf.offset("request_sock", "num_retrans", 1)?,
        skb_head: btf.offset("sk_buff", "head", 8)?,
        skb_transport_header: btf.offset("sk_buff", "transport_header", 2)?,
        tw_substate: 0,
        tw_pprev: 0,
        netns_cookie: btf.function_id(SOCK_OPS_COOKIE).is_ok().into(),
        syn_seed: 0,
    })
}

/// Finds a timewait socket's substate, and the pointer that is NULL once it is out of the kernel's
/// table.
pub(super) fn resolve_timewait(btf: &Btf) -> Result<(u32, u32), BtfError> {
    let timewait = |member, size| btf.offset("inet_timewait_sock", member, size);
    Ok((
        timewait("tw_substate", 1)?,
        timewait("__tw_common.skc_nulls_node.pprev", 8)?,
    ))
}

/// Finds the path from a task to the number of living threads of its process.
pub(super) fn resolve_process(btf: &Btf) -> Result<(u32, u32), BtfError> {
    Ok((
        btf.offset("task_struct", "signal", 8)?,
        btf.offset("signal_struct", "live", 4)?,
    ))
}

pub(super) fn resolve_file(btf: &Btf) -> Result<FileLayout, BtfError> {
    Ok(FileLayout {
        files: btf.offset("task_struct", "files", 8)?,
        fdt: btf.offset("files_struct", "fdt", 8)?,
        fd: btf.offset("fdtable", "fd", 8)?,
        max_fds: btf.offset("fdtable", "max_fds", 4)?,
        private_data: btf.offset("file", "private_data", 8)?,
        socket_file: btf.offset("socket", "file", 8)?,
        socket_sk: btf.offset("socket", "sk", 8)?,
        exit_ret: 0,
        call_first: 0,
        call_second: 0,
    })
}

/// Finds what tells whether a socket has tried to connect, and where the first two arguments of a
/// finished system call are. On arm64 the result overwrites the first argument, which is kept
/// beside them.
pub(super) fn resolve_call(btf: &Btf) -> Result<(u32, u32, u32), String> {
    if btf.function_id(TASK_REGISTERS).is_err() {
        return Err("the kernel has no bpf_task_pt_regs (before Linux 5.15)".to_owned());
    }
    let registers = |name, size| btf.offset("pt_regs", name, size);
    let arguments = if cfg!(target_arch = "aarch64") {
        registers("orig_x0", 8).and_then(|first| Ok((first, registers("regs", 31 * 8)? + 8)))
    } else {
        registers("di", 8).and_then(|first| Ok((first, registers("si", 8)?)))
    };
    let resolved = arguments
        .and_then(|(first, second)| Ok((btf.offset("sock", "sk_txhash", 4)?, first, second)));
    resolved.map_err(|error| error.to_string())
}

/// Counts the parameters of functions. A missing function has none, and its hook is not attached.
pub(super) fn resolve_functions(btf: &Btf) -> FunctionLayout {
    FunctionLayout {
        accept_parameters: btf.function_parameters("inet_csk_accept").unwrap_or(0),
        timewait_parameters: btf
            .function_parameters("tcp_timewait_state_process")
            .unwrap_or(0),
        // (sk, skb), and from Linux 6.10 (sk, skb, reason).
        reset_has_reason: u32::from(
            btf.tracepoint_arguments(&typedef("tcp_send_reset"))
                .is_ok_and(|arguments| arguments >= 3),
        ),
    }
}
