//! The system calls that threads may make (seccomp(2)).
//!
//! A refused call fails with EPERM, and its number is logged ([`take_refused`]): the filter sends
//! SIGSYS, whose handler notes the number and returns the error in the call's place.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicI64, Ordering},
};

use anyhow::Context as _;
use libc::{c_int, c_void, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// The keeper and the threads that it starts.
    Keeper,
    /// All others. They open no file to write, execute nothing, and make no socket.
    Others,
    /// All others of a process that asks the host's resolver: they connect to it.
    Resolving,
}

/// Of every thread: memory, time, threads, files that are open, files to read, and what a server
/// does with its sockets.
const USUAL: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_clone,
    libc::SYS_clone3,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpeername,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_ioctl,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_tgkill,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
    // Older forms of the above, which a C library may prefer.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getdents,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// Of a resolver.
const RESOLVING: &[i64] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_socket,
];

/// Of the keeper's threads: netlink, network namespaces, cgroups by number, and walks.
const PRIVILEGED: &[i64] = &[
    libc::SYS_bind,
    libc::SYS_bpf,
    libc::SYS_connect,
    libc::SYS_open_by_handle_at,
    libc::SYS_setns,
    libc::SYS_socket,
];

/// The flags that open a file to change it.
const CHANGING: u64 =
    (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND) as u64;

/// The number of a call that was refused, of which the log does not tell yet; otherwise -1.
static REFUSED: AtomicI64 = AtomicI64::new(-1);

/// Returns the number of a system call that was refused since the last time.
pub(super) fn take_refused() -> Option<i64> {
    let number = REFUSED.swap(-1, Ordering::Relaxed);
    (number >= 0).then_some(number)
}

/// Lets the calling thread, and those that it starts, make only the system calls of `room`, for
/// good.
///
/// Fails when the kernel has no seccomp, or the machine is of an architecture that is not known.
pub(super) fn restrict(room: Room) -> anyhow::Result<()> {
    note_refused()?;
    let program = program(room).context("making the filter")?;
    apply_filter(&program).context("installing the filter")
}

fn program(room: Room) -> Result<BpfProgram, seccompiler::BackendError> {
    let more = match room {
        Room::Keeper => PRIVILEGED,
        Room::Others => &[],
        Room::Resolving => RESOLVING,
    };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = USUAL
        .iter()
        .chain(more)
        .map(|&call| (call, vec![]))
        .collect();
    let flags_to_read = |argument| {
        SeccompCondition::new(
            argument,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(CHANGING),
            0,
        )
        .and_then(|condition| SeccompRule::new(vec![condition]))
    };
    rules.insert(libc::SYS_openat, vec![flags_to_read(2)?]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, vec![flags_to_read(1)?]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Trap,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    filter.try_into()
}

/// Handles SIGSYS.
fn note_refused() -> nix::Result<()> {
    let action = SigAction::new(
        SigHandler::SigAction(on_refused),
        SaFlags::SA_ONSTACK,
        SigSet::empty(),
    );
    // SAFETY: the handler only writes an atomic and the context that it is given.
    unsafe { sigaction(Signal::SIGSYS, &action) }.map(drop)
}

/// Makes the refused system call return EPERM.
extern "C" fn on_refused(_: c_int, _: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel passes the thread's context, which nothing else uses until
    // the handler returns.
    let context = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    let error = -i64::from(libc::EPERM);
    #[cfg(target_arch = "x86_64")]
    {
        let register = &mut context.gregs[libc::REG_RAX as usize];
        REFUSED.store(*register, Ordering::Relaxed);
        *register = error;
    }
    #[cfg(target_arch = "aarch64")]
    {
        REFUSED.store(context.regs[8] as i64, Ordering::Relaxed);
        context.regs[0] = error as u64;
    }
}

#[cfg(test)]
mod tests {
    use nix::{
        errno::Errno,
        sys::socket::{AddressFamily, SockFlag, SockType, socket},
    };

    use super::*;

    /// On a thread of its own: a filter stays.
    fn in_room<T: Send>(room: Room, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                restrict(room).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    fn make_socket() -> nix::Result<()> {
        socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::empty(),
            None,
        )
        .map(drop)
    }

    #[test]
    fn a_refused_call_fails_and_its_number_is_told_once() {
        assert_eq!(in_room(Room::Others, make_socket), Err(Errno::EPERM));
        assert_eq!(take_refused(), Some(libc::SYS_socket));
        assert_eq!(take_refused(), None);
        assert_eq!(in_room(Room::Keeper, make_socket), Ok(()));
        assert_eq!(in_room(Room::Resolving, make_socket), Ok(()));
        let written = in_room(Room::Keeper, || std::fs::write("/dev/null", "a"));
        assert_eq!(written.unwrap_err().raw_os_error(), Some(libc::EPERM));
        let read = in_room(Room::Others, || std::fs::read("/dev/null"));
        assert_eq!(read.unwrap(), b"");
        let executed = in_room(Room::Keeper, || {
            std::os::unix::process::CommandExt::exec(&mut std::process::Command::new("true"))
        });
        assert_eq!(executed.raw_os_error(), Some(libc::EPERM));
    }
}
