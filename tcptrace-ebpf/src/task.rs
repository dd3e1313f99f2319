//! Reads the current task: its process, not its thread.

use core::ptr;

use aya_ebpf::helpers::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf,
    bpf_probe_read_kernel_str_bytes,
};
use tcptrace_common::{
    FIELDS_KTHREAD, FIELDS_TASK, LAYOUT_TASK, LAYOUT_TASK_TYPED, LISTENER_SLOTS, RawTask,
};

use crate::{
    access::{Access, Direct, Probe},
    maps::{LISTENER_PROCESSES, has, layout},
};

/// `PF_KTHREAD` (`include/linux/sched.h`).
const PF_KTHREAD: u32 = 0x0020_0000;

/// Writes the current task and returns the `FIELDS_*` bits for it.
#[inline(always)]
pub fn write_current(to: &mut RawTask) -> u8 {
    to.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    to.reserved = 0;
    if !has(LAYOUT_TASK) {
        to.comm = bpf_get_current_comm().unwrap_or([0; 16]);
        return 0;
    }
    // SAFETY: helpers without arguments: the first gives a pointer of a type that the verifier
    // knows, the second one for probe reads.
    let flags = unsafe {
        if has(LAYOUT_TASK_TYPED) {
            write_comm::<Direct>(bpf_get_current_task_btf().cast_const().cast(), to)
        } else {
            write_comm::<Probe>(bpf_get_current_task() as *const u8, to)
        }
    };
    if flags & PF_KTHREAD == 0 {
        FIELDS_TASK
    } else {
        FIELDS_TASK | FIELDS_KTHREAD
    }
}

/// Writes the name of a task's process and returns the task's flags.
#[inline(always)]
unsafe fn write_comm<A: Access>(task: *const u8, to: &mut RawTask) -> u32 {
    // SAFETY: the caller's pointer; 16 bytes, aligned to 8, for two words.
    unsafe {
        let leader: *const u8 = A::read(task, layout!(task.group_leader) as usize, ptr::null());
        let comm = layout!(task.comm) as usize;
        let halves = (&raw mut to.comm).cast::<u64>();
        halves.write(A::read(leader, comm, 0));
        halves.add(1).write(A::read(leader, comm + 8, 0));
        A::read(task, layout!(task.flags) as usize, 0)
    }
}

/// Notes that the current process listens.
#[inline(always)]
pub fn note_listener() {
    if let Some(slot) = slot((bpf_get_current_pid_tgid() >> 32) as u32) {
        // SAFETY: a map's value; any writer writes the same.
        unsafe { slot.write(1) };
    }
}

/// Returns a process's slot in [`LISTENER_PROCESSES`].
#[inline(always)]
fn slot(pid: u32) -> Option<*mut u8> {
    let slots = LISTENER_PROCESSES.get_ptr_mut(0)?.cast::<u8>();
    // SAFETY: within the map's one value.
    Some(unsafe { slots.add(pid as usize & (LISTENER_SLOTS - 1)) })
}

/// The process of a task.
pub struct Process {
    task: *const u8,
    pid: u32,
}

impl Process {
    #[inline(always)]
    pub fn read(task: *const u8) -> Self {
        // SAFETY: probe reads take any address.
        let pid = unsafe { Probe::read(task, layout!(task.tgid) as usize, 0) };
        Self { task, pid }
    }

    #[inline(always)]
    fn pointer(&self, offset: u32) -> u64 {
        // SAFETY: probe reads take any address.
        unsafe { Probe::read(self.task, offset as usize, 0) }
    }

    /// Whether the task is the thread group leader, whose name the process has.
    #[inline(always)]
    pub fn is_leader(&self) -> bool {
        self.pointer(layout!(task.group_leader)) == self.task as u64
    }

    /// Whether it may listen.
    #[inline(always)]
    pub fn may_listen(&self) -> bool {
        // SAFETY: a map's value.
        slot(self.pid).is_some_and(|slot| unsafe { slot.read() } != 0)
    }

    /// Whether no thread of it is left: the last one is exiting.
    #[inline(always)]
    pub fn is_over(&self) -> bool {
        let signal = self.pointer(layout!(task.signal)) as *const u8;
        // SAFETY: probe reads take any address.
        let live: i32 = unsafe { Probe::read(signal, layout!(task.signal_live) as usize, 1) };
        live <= 0
    }

    /// Writes it with another name.
    #[inline(always)]
    pub fn write_as(&self, comm: *const u8, to: &mut RawTask) {
        to.pid = self.pid;
        to.reserved = 0;
        to.comm = [0; 16];
        // SAFETY: the helper takes any address, and writes up to the name's end.
        let _length = unsafe { bpf_probe_read_kernel_str_bytes(comm, &mut to.comm) };
    }
}
