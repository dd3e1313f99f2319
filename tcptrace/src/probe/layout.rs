//! Where this kernel keeps what the programs read.

use std::{collections::BTreeMap, path::Path};

use tcptrace_common::{LAYOUT_CGROUP, LAYOUT_TASK, Layout};

use super::{
    btf::{self, Btf, BtfError, NamedKind, NamedType, only_named},
    resolve::{
        CURRENT_TASK, MissingGroup, SOCK_OPS_COOKIE, TASK_REGISTERS, TRANSPARENT_FLAG,
        confirm_sock_common, resolve, resolve_call, resolve_file, resolve_functions,
        resolve_hierarchy, resolve_process, resolve_request, resolve_timewait, typedef,
    },
};

pub const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

const TYPES: [&str; 28] = [
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
    CURRENT_TASK,
    TRANSPARENT_FLAG,
    RESET_REASONS,
    SOCK_OPS_COOKIE,
];

const RESET_REASONS: &str = "sk_rst_reason";
const RESET_REASON_PREFIX: &str = "SK_RST_REASON_";

/// What BTF tells: the layout, and which tracepoints and functions exist.
pub struct KernelTypes {
    /// The layout, without the record's, which tracefs tells.
    pub layout: Layout,
    /// Tracepoints' typedefs and functions, with their numbers.
    named: Vec<NamedType>,
    /// Names of `enum sk_rst_reason`, without their common prefix.
    reset_reasons: BTreeMap<u32, String>,
    missing: Vec<MissingGroup>,
    /// Why the fields of a request cannot be read.
    request: Result<(), String>,
    /// Why a timewait socket's state cannot be read.
    timewait: Result<(), String>,
    /// Why a descriptor's socket cannot be found.
    file: Result<(), String>,
    /// Why a process's exit cannot be seen.
    process: Result<(), String>,
    /// Why the arguments of a finished system call cannot be read.
    call: Result<(), String>,
    /// Why a cgroup's hierarchy is not known.
    cgroup: Result<(), String>,
}

impl KernelTypes {
    /// Reads `path` once and keeps what the programs need, with `tracepoints` and `functions`.
    ///
    /// Fails without BTF, or when a socket's protocol, endpoints or state cannot be read; the error
    /// names the field. Any other group of fields may be missing.
    pub fn read(path: &Path, tracepoints: &[&str], functions: &[&str]) -> Result<Self, BtfError> {
        Self::parse(btf::read(path)?, tracepoints, functions)
    }

    /// The same, of BTF that was read.
    pub fn parse(
        data: Vec<u8>,
        tracepoints: &[&str],
        functions: &[&str],
    ) -> Result<Self, BtfError> {
        let typedefs: Vec<String> = tracepoints.iter().map(|name| typedef(name)).collect();
        let mut wanted: Vec<&str> = TYPES.to_vec();
        wanted.extend(typedefs.iter().map(String::as_str));
        wanted.extend(functions);
        let btf = Btf::parse(data, &wanted)?;
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

    /// Returns BTF with only these tracepoints and functions.
    pub fn named_only(&self) -> Vec<u8> {
        only_named(&self.named)
    }

    /// Returns the kernel's names of its reset reasons, by number.
    pub const fn reset_reasons(&self) -> &BTreeMap<u32, String> {
        &self.reset_reasons
    }

    /// Returns the groups of fields that cannot be read.
    pub fn missing(&self) -> &[MissingGroup] {
        &self.missing
    }

    /// Whether the fields of a request can be read.
    pub fn request(&self) -> Result<(), String> {
        self.request.clone()
    }

    /// Whether a timewait socket's state can be read, and what the kernel does to it.
    pub fn timewait(&self) -> Result<(), String> {
        self.timewait.clone()?;
        match self.layout.function.timewait_parameters {
            3..=5 => Ok(()),
            other => Err(format!(
                "tcp_timewait_state_process has {other} parameters in this kernel's BTF"
            )),
        }
    }

    /// Whether the value that accept() returns inside the kernel can be read.
    pub fn accept(&self) -> Result<(), String> {
        match self.layout.function.accept_parameters {
            2 | 4 => Ok(()),
            other => Err(format!(
                "inet_csk_accept has {other} parameters in this kernel's BTF"
            )),
        }
    }

    /// Whether a process's exit and its name can be seen.
    pub fn process(&self) -> Result<(), String> {
        if self.layout.groups & LAYOUT_TASK == 0 {
            return Err("a task's process cannot be read".to_owned());
        }
        self.process.clone()
    }

    /// Whether the arguments of a finished connect() can be read, and how far its socket had got
    /// before.
    pub fn call(&self) -> Result<(), String> {
        self.file.clone()?;
        self.call.clone()
    }

    /// Whether a cgroup's id and hierarchy can be read.
    pub fn cgroup(&self) -> Result<(), String> {
        if self.layout.groups & LAYOUT_CGROUP == 0 {
            return Err("a cgroup's id cannot be read".to_owned());
        }
        self.cgroup.clone()
    }

    /// Whether the socket behind a descriptor can be found.
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
