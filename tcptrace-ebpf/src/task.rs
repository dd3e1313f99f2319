//! Reading the current task: its process, not its thread.

use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task};
use tcptrace_common::{FIELDS_KTHREAD, FIELDS_TASK, LAYOUT_TASK, LISTENER_SLOTS, Task};

use crate::{
    access::{Access, Probe},
    maps::{LISTENER_PROCESSES, has, layout},
};

/// `PF_KTHREAD` (`include/linux/sched.h`).
const PF_KTHREAD: u32 = 0x0020_0000;

/// Writes the current task and answers the `FIELDS_*` bits that this earns.
#[inline(always)]
pub fn write_current(to: &mut Task) -> u8 {
    to.pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    to.reserved = 0;
    if !has(LAYOUT_TASK) {
        to.comm = bpf_get_current_comm().unwrap_or([0; 16]);
        return 0;
    }
    // SAFETY: a helper without arguments, and probe reads from what it gives.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let leader: u64 = Probe::read(task, layout!(task.group_leader) as usize, 0);
        to.comm = Probe::read(leader as *const u8, layout!(task.comm) as usize, [0; 16]);
        let flags: u32 = Probe::read(task, layout!(task.flags) as usize, 0);
        if flags & PF_KTHREAD == 0 {
            FIELDS_TASK
        } else {
            FIELDS_TASK | FIELDS_KTHREAD
        }
    }
}

/// The current process's place in [`LISTENER_PROCESSES`].
#[inline(always)]
fn listener_slot() -> Option<*mut u8> {
    let pid = (bpf_get_current_pid_tgid() >> 32) as usize;
    let slots = LISTENER_PROCESSES.get_ptr_mut(0)?.cast::<u8>();
    // SAFETY: within the map's one value.
    Some(unsafe { slots.add(pid & (LISTENER_SLOTS - 1)) })
}

/// The current process listens.
#[inline(always)]
pub fn note_listener() {
    if let Some(slot) = listener_slot() {
        // SAFETY: a map's value; any writer writes the same.
        unsafe { slot.write(1) };
    }
}

/// The current process may be one that listens.
#[inline(always)]
pub fn may_listen() -> bool {
    // SAFETY: a map's value.
    listener_slot().is_some_and(|slot| unsafe { slot.read() } != 0)
}

/// No thread of the current process is left: its last one is on its way out.
#[inline(always)]
pub fn is_over() -> bool {
    // SAFETY: a helper without arguments, and probe reads from what it gives.
    unsafe {
        let task = bpf_get_current_task() as *const u8;
        let signal: u64 = Probe::read(task, layout!(task.signal) as usize, 0);
        let live: i32 = Probe::read(signal as *const u8, layout!(task.signal_live) as usize, 1);
        live <= 0
    }
}
