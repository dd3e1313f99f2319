//! Two copies of one program, so that none of its events is missed.
//!
//! The kernel runs no program within a run of itself: while a softirq interrupts a run, or another
//! task preempts it, every event there is skipped for this program (`bpf_trace_run`). A second copy
//! is skipped only during runs of its own, which are other moments. The first copy marks what it
//! runs for before it does anything else; the second comes after it in the tracepoint's list, and
//! acts only when it finds no mark.
//!
//! Both can be interrupted, preempted and moved to another CPU between the mark and the check. So
//! all marks of a socket are in one bucket, whatever the CPU, and none overwrites another as long
//! as there is room: a softirq between the two may leave and remove thousands. If a mark is lost
//! all the same, both copies report one event, and user space sees that it repeats the last one of
//! its socket.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_smp_processor_id, bpf_probe_read_kernel},
};
use tcptrace_common::{FIELDS_RECOVERED, MARK_BUCKETS, MARK_WAYS, RECOVERED_TRANSITION};

use crate::maps::{MARKS, count_recovered};

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

/// The cause of a program's run: an object, and what happens to it.
pub struct Occasion {
    /// The object's address; the highest byte is the same for every kernel address.
    object: u64,
    what: u8,
}

impl Occasion {
    /// A transition of the socket in the context's first word.
    #[inline(always)]
    pub fn transition(ctx: &impl EbpfContext, old: u8, new: u8) -> Self {
        Self {
            object: word(ctx, 0),
            what: old << 4 | new & 15,
        }
    }

    /// A reset, by its `RECOVERED_*`; of the segment in the context's second word when there is no
    /// socket.
    #[inline(always)]
    pub fn reset(ctx: &impl EbpfContext, kind: usize) -> Self {
        let socket = word(ctx, 0);
        Self {
            object: if socket == 0 { word(ctx, 1) } else { socket },
            // No transition has this old state.
            what: 0xf0 | kind as u8,
        }
    }

    /// Whether this copy must act.
    #[inline(always)]
    pub fn is_for<C: Pass>(&self) -> bool {
        // The bucket depends on the object alone, whatever happens to it.
        let bucket = self.object.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let Some(bucket) = MARKS.get_ptr_mut(bucket as u32 % MARK_BUCKETS) else {
            return true;
        };
        let mark = self.object << 8 | u64::from(self.what);
        if !C::SECOND {
            // SAFETY: a helper without arguments.
            let own = unsafe { bpf_get_smp_processor_id() } as usize;
            let mut free = own % MARK_WAYS;
            for step in 0..MARK_WAYS {
                let way = (own + step) % MARK_WAYS;
                // SAFETY: a map's value, and a way that it has.
                if unsafe { (&raw const (*bucket)[way]).read_volatile() } == 0 {
                    free = way;
                    break;
                }
            }
            // SAFETY: as above.
            unsafe { (&raw mut (*bucket)[free]).write_volatile(mark) };
            return true;
        }
        let mut found = false;
        for way in 0..MARK_WAYS {
            // SAFETY: a map's value, and a way that it has.
            unsafe {
                let held = &raw mut (*bucket)[way];
                let other = held.read_volatile();
                // An old mark of this object must not be taken for a later one.
                if other >> 8 == mark >> 8 {
                    found |= other == mark;
                    held.write_volatile(0);
                }
            }
        }
        if !found {
            let kind = if self.what >= 0xf0 {
                usize::from(self.what & 15)
            } else {
                RECOVERED_TRANSITION
            };
            count_recovered(kind);
        }
        !found
    }
}

/// Reads a word of the context as a number. By the helper, because the verifier allows no
/// arithmetic with a pointer to a socket.
#[inline(always)]
fn word(ctx: &impl EbpfContext, index: usize) -> u64 {
    let words: *const u64 = ctx.as_ptr().cast();
    // SAFETY: the helper takes any address.
    unsafe { bpf_probe_read_kernel(words.wrapping_add(index)) }.unwrap_or(0)
}
