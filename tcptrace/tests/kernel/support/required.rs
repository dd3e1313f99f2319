//! What every test needs: root, network namespaces and eBPF. Asked of the kernel itself, for
//! `tcptrace check` is one of the things under test.

use std::{io, sync::OnceLock};

use super::{
    bpf, ignored,
    namespace::Namespace,
    program::{Running, tcptrace},
};

/// Set to `required` where they are known to be there (the virtual machines): then their absence
/// is a failure, and not a reason to ignore every test.
const REQUIRED: &str = "TCPTRACE_KERNEL_TESTS";

/// Everything is there.
pub(super) fn met() -> anyhow::Result<()> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    match MISSING.get_or_init(missing) {
        None => Ok(()),
        Some(why) if is_required() => {
            anyhow::bail!("no test can run here, but {REQUIRED} says they must: {why}")
        }
        Some(why) => Err(ignored(why)),
    }
}

/// Functions of the kernel can be traced, which some hosts forbid: ignored without, unless they
/// are known to allow it.
pub(crate) fn functions_can_be_traced() -> anyhow::Result<()> {
    static REFUSED: OnceLock<Result<Option<String>, String>> = OnceLock::new();
    let refused = REFUSED.get_or_init(|| {
        let report =
            Running::to_end(&mut tcptrace(&["check"])).map_err(|error| format!("{error:#}"))?;
        let line = report
            .stdout
            .lines()
            .find(|line| line.starts_with("inet_twsk_alloc "))
            .ok_or_else(|| format!("no line about inet_twsk_alloc in:\n{}", report.stdout))?;
        let allowed = line.contains(" ok ");
        Ok((!allowed).then(|| format!("no function of this kernel can be traced: {line}")))
    });
    match refused {
        Ok(None) => Ok(()),
        Ok(Some(why)) if is_required() => anyhow::bail!("{why}"),
        Ok(Some(why)) => Err(ignored(why.clone())),
        Err(why) => anyhow::bail!("{why}"),
    }
}

fn is_required() -> bool {
    std::env::var_os(REQUIRED).is_some_and(|value| value == "required")
}

fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not root".to_owned());
    }
    if let Err(error) = load_trivial_program() {
        return Some(format!("the kernel refuses eBPF programs: {error}"));
    }
    Namespace::new().err().map(|error| format!("{error:#}"))
}

/// Loads `r0 = 0; exit` as a tracepoint's program and lets it go.
fn load_trivial_program() -> io::Result<()> {
    bpf::load(bpf::TRACEPOINT, &[0xb7, 0x95]).map(drop)
}
