//! Where this kernel keeps what the programs read.

use std::{collections::BTreeMap, path::Path};

use tcptrace_common::{LAYOUT_CGROUP, LAYOUT_TASK, Layout};

use super::{
    btf::{Btf, BtfError, Named, NamedKind, only_named},
    resolve::{
        MissingGroup, SOCK_OPS_COOKIE, TASK_REGISTERS, TRANSPARENT_FLAG, confirm_sock_common,
        resolve, resolve_call, resolve_file, resolve_functions, resolve_hierarchy, resolve_process,
        resolve_request, resolve_timewait, typedef,
    },
};

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
