//! Two copies of one program, so that none of its events is missed.
//!
//! The kernel runs no program within a run of itself: while a softirq interrupts a run, or another
//! task preempts it, every event there is skipped for this program (`bpf_trace_run`). A second copy
//! is skipped only during runs of its own, which are other moments. The first copy marks what it
//! runs for before it does anything else; the second comes after it in the tracepoint's list, and
//! acts only when it does not find this mark.
//!
//! There is one mark for each CPU. Both copies can be interrupted, preempted and moved to another
//! CPU between the mark and the check. A mark that another event has overwritten by then, or that
//! was left on another CPU, is not found: both copies report one event, and user space sees that it
//! repeats the last one of its socket. A mark that was not taken must not hide a later event: every
//! first copy on its CPU overwrites it, and it counts for one jiffy only.

use aya_ebpf::helpers::bpf_jiffies64;
use tcptrace_common::{FIELDS_RECOVERED, RECOVERED_KINDS, RECOVERED_TRANSITION};

use crate::maps::{count_recovered, scratch};

/// Which of the two copies a program is.
pub trait Pass {
    /// Whether it acts only when the other was skipped.
    const SECOND: bool;
    /// The `FIELDS_*` bits of its events.
    const FIELDS: u8;
}

/// The copy that always acts.
pub struct First;

/// The copy that acts when the first was skipped.
pub struct Second;

impl Pass for First {
    const SECOND: bool = false;
    const FIELDS: u8 = 0;
}

impl Pass for Second {
    const SECOND: bool = true;
    const FIELDS: u8 = FIELDS_RECOVERED;
}

/// The cause of a program's run: a socket, and what happens to it.
pub struct Occasion {
    /// The verifier allows comparing a pointer to a socket with a number, and no arithmetic.
    socket: *const u8,
    what: u8,
    kind: usize,
}

impl Occasion {
    /// A transition of a socket.
    #[inline(always)]
    pub fn transition(socket: *const u8, old: u8, new: u8) -> Self {
        Self {
            socket,
            what: old << 4 | new & 15,
            kind: RECOVERED_TRANSITION,
        }
    }

    /// A reset of a socket, by its `RECOVERED_*`.
    #[inline(always)]
    pub fn reset(socket: *const u8, kind: usize) -> Self {
        Self {
            socket,
            what: 0,
            kind,
        }
    }

    /// Whether this copy must act.
    #[inline(always)]
    pub fn is_for<C: Pass>(&self) -> bool {
        let Some(scratch) = scratch() else {
            return true;
        };
        // SAFETY: a map's value, and this CPU's; the kinds are a power of two.
        let mark = unsafe { &raw mut (*scratch).marks[self.kind % RECOVERED_KINDS] };
        // SAFETY: a helper without arguments.
        let jiffies = unsafe { bpf_jiffies64() };
        if !C::SECOND {
            // SAFETY: as above.
            unsafe {
                (&raw mut (*mark).socket).write_volatile(self.socket as u64);
                (&raw mut (*mark).what).write_volatile(jiffies << 8 | u64::from(self.what));
            }
            return true;
        }
        // Volatile, and one after the other: the compiler must not compute with the pointer.
        // SAFETY: as above.
        unsafe {
            let marked = (&raw const (*mark).what).read_volatile();
            let age = (jiffies << 8 | u64::from(self.what)).wrapping_sub(marked);
            if (age == 0 || age == 1 << 8)
                && (&raw const (*mark).socket).read_volatile() == self.socket as u64
            {
                (&raw mut (*mark).socket).write_volatile(0);
                return false;
            }
        }
        count_recovered(self.kind);
        true
    }
}
