//! Where this kernel keeps what the programs read.

use std::{collections::BTreeMap, path::Path};

use tcptrace_common::{
    FileLayout, FunctionLayout, LAYOUT_BIND, LAYOUT_CGROUP, LAYOUT_DEFER, LAYOUT_NETNS,
    LAYOUT_SOCKET, LAYOUT_TASK, LAYOUT_TCP, LAYOUT_USER, Layout, RequestLayout, SockLayout,
    TaskLayout, TcpLayout, sock_common,
};

use super::btf::{Btf, BtfError, Named, NamedKind, only_named};

/// Where the running kernel shows its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const TYPES: [&str; 27] = [
    "sock",
    "sock_common",
    "inet_sock",
    "inet_connection_sock",
    "tcp_sock",
    "net",
    "cgroup",
    "cgroup_root",
    "kernfs_node",
    "task_struct",
    "tcp_request_sock",
    "request_sock",
    "sk_buff",
    "inet_timewait_sock",
    "files_struct",
    "fdtable",
    "file",
    "socket",
    "socket_alloc",
    "inode",
    "signal_struct",
    "nsproxy",
    "pt_regs",
    TASK_REGISTERS,
    TRANSPARENT_FLAG,
    RESET_REASONS,
    SOCK_OPS_COOKIE,
];

/// Why the kernel sends a RST (from Linux 6.10).
const RESET_REASONS: &str = "sk_rst_reason";
const RESET_REASON_PREFIX: &str = "SK_RST_REASON_";

/// The place of IP_TRANSPARENT in `inet_sock.inet_flags` (from Linux 6.6), in an enum without a name.
const TRANSPARENT_FLAG: &str = "INET_FLAGS_TRANSPARENT";

/// The function behind `bpf_get_netns_cookie` for sock_ops programs (from Linux 5.15).
const SOCK_OPS_COOKIE: &str = "bpf_get_netns_cookie_sock_ops";

/// The function behind `bpf_task_pt_regs` (from Linux 5.15).
const TASK_REGISTERS: &str = "bpf_task_pt_regs";

/// The typedef that a tracepoint's program is loaded by.
fn typedef(tracepoint: &str) -> String {
    format!("btf_trace_{tracepoint}")
}

/// Fields that this kernel does not have where they could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingGroup {
    /// Its `LAYOUT_*` bit.
    pub bit: u32,
    /// What they tell.
    pub what: &'static str,
    /// What is missing without them.
    pub consequence: &'static str,
    /// Why they cannot be read.
    pub why: String,
}

/// What BTF told: the layout, and the tracepoints and functions that there are.
pub struct KernelTypes {
    /// With no record layout yet: that one comes from tracefs.
    pub layout: Layout,
    /// Tracepoints' typedefs and functions, and their numbers.
    named: Vec<Named>,
    /// Names of `enum sk_rst_reason`, without what all begin with.
    reset_reasons: BTreeMap<u32, String>,
    /// The groups of fields that cannot be read.
    missing: Vec<MissingGroup>,
    /// Why the fields of a request cannot be read.
    request: Result<(), String>,
    /// Why a timewait socket's state cannot be read.
    timewait: Result<(), String>,
    /// Why a descriptor's socket cannot be found.
    file: Result<(), String>,
    /// Why it cannot be told whether a process is over.
    process: Result<(), String>,
    /// Why the arguments of a system call that is over cannot be read.
    call: Result<(), String>,
    /// Why it cannot be told of which hierarchy a cgroup is.
    cgroup: Result<(), String>,
}

impl KernelTypes {
    /// Reads `path` once and keeps what the programs need, for `tracepoints` and `functions` too.
    ///
    /// Fails when there is no BTF, or a socket's own kind, ends or state are not where they can be read; the error names the field. Of everything else a group of fields may be missing.
    pub fn read(path: &Path, tracepoints: &[&str], functions: &[&str]) -> Result<Self, BtfError> {
        let typedefs: Vec<String> = tracepoints.iter().map(|name| typedef(name)).collect();
        let mut wanted: Vec<&str> = TYPES.to_vec();
        wanted.extend(typedefs.iter().map(String::as_str));
        wanted.extend(functions);
        let btf = Btf::read(path, &wanted)?;
        confirm_sock_common(&btf)?;
        let (mut layout, missing) = resolve(&btf)?;
        let take = |resolved: Result<(), BtfError>| resolved.map_err(|error| error.to_string());
        let request = take(resolve_request(&btf).map(|request| layout.request = request));
        let timewait = take(resolve_timewait(&btf).map(|(substate, pprev)| {
            layout.request.tw_substate = substate;
            layout.request.tw_pprev = pprev;
        }));
        let file = take(resolve_file(&btf).map(|file| layout.file = file));
        let process = take(resolve_process(&btf).map(|(signal, live)| {
            layout.task.signal = signal;
            layout.task.signal_live = live;
        }));
        let cgroup = take(resolve_hierarchy(&btf).map(|(root, id)| {
            layout.sock.cgroup_root = root;
            layout.sock.hierarchy_id = id;
        }));
        let call = resolve_call(&btf).map(|(txhash, first, second)| {
            layout.sock.sk_txhash = txhash;
            layout.file.call_first = first;
            layout.file.call_second = second;
        });
        layout.function = resolve_functions(&btf);
        let typedefs = typedefs
            .into_iter()
            .filter_map(|name| Some((btf.typedef_id(&name).ok()?, NamedKind::Typedef, name)));
        let functions = functions.iter().filter_map(|&name| {
            Some((
                btf.function_id(name).ok()?,
                NamedKind::Function,
                name.to_owned(),
            ))
        });
        Ok(Self {
            layout,
            named: typedefs.chain(functions).collect(),
            reset_reasons: reset_reasons(&btf).unwrap_or_default(),
            missing,
            request,
            timewait,
            file,
            process,
            call,
            cgroup,
        })
    }

    #[cfg(test)]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        let name = typedef(name);
        self.named
            .iter()
            .any(|(_, kind, known)| *kind == NamedKind::Typedef && *known == name)
    }

    /// BTF with these tracepoints and functions, and nothing else.
    pub fn named_only(&self) -> Vec<u8> {
        only_named(&self.named)
    }

    /// The kernel's names of the reasons for which it sends a RST, by number.
    pub const fn reset_reasons(&self) -> &BTreeMap<u32, String> {
        &self.reset_reasons
    }

    /// The groups of fields that cannot be read.
    pub fn missing(&self) -> &[MissingGroup] {
        &self.missing
    }

    /// What a request knows can be read.
    pub fn request(&self) -> Result<(), String> {
        self.request.clone()
    }

    /// A timewait socket's state can be read, and what the kernel does to it.
    pub fn timewait(&self) -> Result<(), String> {
        self.timewait.clone()?;
        match self.layout.function.timewait_parameters {
            3..=5 => Ok(()),
            other => Err(format!(
                "tcp_timewait_state_process has {other} parameters in this kernel's BTF"
            )),
        }
    }

    /// The value that accept() returns inside the kernel can be read.
    pub fn accept(&self) -> Result<(), String> {
        match self.layout.function.accept_parameters {
            2 | 4 => Ok(()),
            other => Err(format!(
                "inet_csk_accept has {other} parameters in this kernel's BTF"
            )),
        }
    }

    /// Whether a process is over can be told, and its name.
    pub fn process(&self) -> Result<(), String> {
        if self.layout.groups & LAYOUT_TASK == 0 {
            return Err("a task's process cannot be read".to_owned());
        }
        self.process.clone()
    }

    /// The arguments of a connect() that is over can be read, and whether its socket had got further
    /// before.
    pub fn call(&self) -> Result<(), String> {
        self.file.clone()?;
        self.call.clone()
    }

    /// A cgroup's id can be read, and of which hierarchy it is.
    pub fn cgroup(&self) -> Result<(), String> {
        if self.layout.groups & LAYOUT_CGROUP == 0 {
            return Err("a cgroup's id cannot be read".to_owned());
        }
        self.cgroup.clone()
    }

    /// The socket behind a descriptor can be found.
    pub fn file(&self) -> Result<(), String> {
        self.file.clone()
    }
}

fn reset_reasons(btf: &Btf) -> Result<BTreeMap<u32, String>, BtfError> {
    Ok(btf
        .enum_names(RESET_REASONS)?
        .into_iter()
        .map(|(value, name)| {
            let short = name.strip_prefix(RESET_REASON_PREFIX);
            (value, short.map_or(name.clone(), str::to_owned))
        })
        .collect())
}

/// The offsets in `sock_common` are compiled into the programs.
fn confirm_sock_common(btf: &Btf) -> Result<(), BtfError> {
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

/// Where the fields lie, and which groups of them do not: a field that a kernel renamed costs what
/// it is for, and no more.
fn resolve(btf: &Btf) -> Result<(Layout, Vec<MissingGroup>), BtfError> {
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

/// Fields that are of use together only.
struct Group {
    bit: u32,
    what: &'static str,
    consequence: &'static str,
    resolve: fn(&Btf, &mut Layout) -> Result<(), BtfError>,
}

const GROUPS: [Group; 7] = [
    Group {
        bit: LAYOUT_TCP,
        what: "the fields of a closing socket",
        consequence: "no verdicts, bytes, segments, retransmits or round trips",
        resolve: resolve_tcp,
    },
    Group {
        bit: LAYOUT_USER,
        what: "a socket's user",
        consequence: "no uid",
        resolve: |btf, layout| {
            layout.sock.sk_uid = btf.offset("sock", "sk_uid", 4)?;
            Ok(())
        },
    },
    Group {
        bit: LAYOUT_CGROUP,
        what: "a socket's cgroup",
        consequence: "no cgroup_id",
        resolve: |btf, layout| {
            layout.sock.sk_cgrp_data = cgroup_pointer(btf)?;
            layout.sock.cgroup_kn = btf.offset("cgroup", "kn", 8)?;
            layout.sock.kernfs_node_id = btf.offset("kernfs_node", "id", 8)?;
            Ok(())
        },
    },
    Group {
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
            // A pointer in some kernels: then it is not known how full it is.
            if let Ok((count, limit)) = resolve_time_wait_limit(btf) {
                layout.sock.net_tw_count = count;
                layout.sock.net_tw_limit = limit;
            }
            Ok(())
        },
    },
    Group {
        bit: LAYOUT_TASK,
        what: "a task's process",
        consequence: "comm is the thread's name",
        resolve: |btf, layout| {
            layout.task = TaskLayout {
                tgid: btf.offset("task_struct", "tgid", 4)?,
                signal: 0,
                signal_live: 0,
                // Without them no socket is found that only a process elsewhere holds.
                nsproxy: btf.offset("task_struct", "nsproxy", 8).unwrap_or(0),
                net_ns: btf.offset("nsproxy", "net_ns", 8).unwrap_or(0),
                flags: btf.offset("task_struct", "flags", 4)?,
                group_leader: btf.offset("task_struct", "group_leader", 8)?,
                comm: btf.offset("task_struct", "comm", 16)?,
            };
            Ok(())
        },
    },
    Group {
        bit: LAYOUT_DEFER,
        what: "a listener's TCP_DEFER_ACCEPT",
        consequence: "passive handshakes are timed only where no data came with the ACK",
        resolve: |btf, layout| {
            let field = "icsk_accept_queue.rskq_defer_accept";
            layout.tcp.rskq_defer_accept = btf.offset("inet_connection_sock", field, 1)?;
            Ok(())
        },
    },
    Group {
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

/// The byte of `inet_sock` that tells IP_TRANSPARENT, and its bit: of the flags in one word, and
/// before Linux 6.6 a bit of its own.
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

/// How many timewait sockets a namespace has, and may have.
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
    // Without it nobody is named who had a socket before.
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
    // Without it no FIN is dated that need not have left at once.
    if let Ok((sock, tcp)) = resolve_congestion(btf, layout) {
        (layout.sock, layout.tcp) = (sock, tcp);
    }
    Ok(())
}

/// What can hold back a segment.
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

/// `sk_cgrp_data` holds a pointer named `cgroup`, before 5.15 a word named `val`.
fn cgroup_pointer(btf: &Btf) -> Result<u32, BtfError> {
    btf.offset("sock", "sk_cgrp_data.cgroup", 8)
        .or_else(|_| btf.offset("sock", "sk_cgrp_data.val", 8))
}

/// What leads from a cgroup to the number of its hierarchy.
fn resolve_hierarchy(btf: &Btf) -> Result<(u32, u32), BtfError> {
    Ok((
        btf.offset("cgroup", "root", 8)?,
        btf.offset("cgroup_root", "hierarchy_id", 4)?,
    ))
}

fn resolve_request(btf: &Btf) -> Result<RequestLayout, BtfError> {
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

/// Of a timewait socket: its substate, and what is NULL once it is out of the kernel's table.
fn resolve_timewait(btf: &Btf) -> Result<(u32, u32), BtfError> {
    let timewait = |member, size| btf.offset("inet_timewait_sock", member, size);
    Ok((
        timewait("tw_substate", 1)?,
        timewait("__tw_common.skc_nulls_node.pprev", 8)?,
    ))
}

/// What leads from a task to how many threads of its process are left.
fn resolve_process(btf: &Btf) -> Result<(u32, u32), BtfError> {
    Ok((
        btf.offset("task_struct", "signal", 8)?,
        btf.offset("signal_struct", "live", 4)?,
    ))
}

fn resolve_file(btf: &Btf) -> Result<FileLayout, BtfError> {
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

/// What tells whether a socket has tried to connect, and where the first two arguments of a system call are
/// once it is over. On arm64 its result has overwritten the first, which is kept beside them.
fn resolve_call(btf: &Btf) -> Result<(u32, u32, u32), String> {
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

/// A function that is not there has no parameters, and its hook is not attached.
fn resolve_functions(btf: &Btf) -> FunctionLayout {
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
