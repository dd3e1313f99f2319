//! Where this kernel keeps what the programs read.

use std::path::Path;

use tcptrace_common::{Layout, SockLayout, TaskLayout, TcpLayout, sock_common};

use super::btf::{Btf, BtfError, only_typedefs};

/// Where the running kernel shows its BTF.
pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const STRUCTS: [&str; 9] = [
    "sock",
    "sock_common",
    "inet_sock",
    "inet_connection_sock",
    "tcp_sock",
    "net",
    "cgroup",
    "kernfs_node",
    "task_struct",
];

/// What BTF told: the layout, and the tracepoints that there are.
pub struct KernelTypes {
    /// With no record layout yet: that one comes from tracefs.
    pub layout: Layout,
    /// Tracepoints and the numbers of their typedefs.
    tracepoints: Vec<(u32, String)>,
}

impl KernelTypes {
    /// Reads `path` once and keeps what the programs need, for `tracepoints` too.
    ///
    /// # Errors
    ///
    /// When there is no BTF, or a field is not where it can be read; the error names it.
    pub fn read(path: &Path, tracepoints: &[&str]) -> Result<Self, BtfError> {
        let typedefs: Vec<String> = tracepoints
            .iter()
            .map(|name| format!("btf_trace_{name}"))
            .collect();
        let mut wanted: Vec<&str> = STRUCTS.to_vec();
        wanted.extend(typedefs.iter().map(String::as_str));
        let btf = Btf::read(path, &wanted)?;
        confirm_sock_common(&btf)?;
        Ok(Self {
            layout: resolve(&btf)?,
            tracepoints: typedefs
                .iter()
                .filter_map(|name| Some((btf.typedef_id(name).ok()?, name.clone())))
                .collect(),
        })
    }

    /// This kernel has the tracepoint.
    #[must_use]
    pub fn has_tracepoint(&self, name: &str) -> bool {
        let name = format!("btf_trace_{name}");
        self.tracepoints.iter().any(|(_, known)| *known == name)
    }

    /// BTF with these tracepoints and nothing else.
    #[must_use]
    pub fn tracepoints_only(&self) -> Vec<u8> {
        only_typedefs(&self.tracepoints)
    }
}

/// The offsets in `sock_common` are compiled into the programs.
fn confirm_sock_common(btf: &Btf) -> Result<(), BtfError> {
    for (field, offset) in sock_common::ALL {
        let size = match field {
            "skc_state" => 1,
            "skc_dport" | "skc_num" | "skc_family" => 2,
            "skc_daddr" | "skc_rcv_saddr" => 4,
            "skc_v6_daddr" | "skc_v6_rcv_saddr" => 16,
            _ => 8,
        };
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

fn resolve(btf: &Btf) -> Result<Layout, BtfError> {
    let sock = |field, size| btf.offset("sock", field, size);
    let tcp = |field, size| btf.offset("tcp_sock", field, size);
    Ok(Layout {
        resolved: 1,
        sock: SockLayout {
            sk_protocol: sock("sk_protocol", 2)?,
            sk_err: sock("sk_err", 4)?,
            sk_shutdown: sock("sk_shutdown", 1)?,
            sk_socket: sock("sk_socket", 8)?,
            sk_uid: sock("sk_uid", 4)?,
            sk_cgrp_data: cgroup_pointer(btf)?,
            inet_sport: btf.offset("inet_sock", "inet_sport", 2)?,
            net_ns_inum: btf.offset("net", "ns.inum", 4)?,
            cgroup_kn: btf.offset("cgroup", "kn", 8)?,
            kernfs_node_id: btf.offset("kernfs_node", "id", 8)?,
        },
        tcp: TcpLayout {
            bytes_sent: tcp("bytes_sent", 8)?,
            bytes_retrans: tcp("bytes_retrans", 8)?,
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
        },
        task: TaskLayout {
            flags: btf.offset("task_struct", "flags", 4)?,
            group_leader: btf.offset("task_struct", "group_leader", 8)?,
            comm: btf.offset("task_struct", "comm", 16)?,
        },
        ..Layout::default()
    })
}

/// `sk_cgrp_data` holds a pointer named `cgroup`, before 5.15 a word named `val`.
fn cgroup_pointer(btf: &Btf) -> Result<u32, BtfError> {
    btf.offset("sock", "sk_cgrp_data.cgroup", 8)
        .or_else(|_| btf.offset("sock", "sk_cgrp_data.val", 8))
}
