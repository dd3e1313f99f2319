//! Placing events in the ring.

use core::ptr;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use tcptrace_common::{
    CloseEvent, Endpoints, EstablishedEvent, EventHeader, FIELDS_SOCK, FIELDS_TCP, KIND_CLOSE,
    KIND_ESTABLISHED, KIND_OPEN, KIND_PASSIVE_OPEN, KIND_RELEASE, LOST_RESET, LOST_TRANSITION,
    OpenEvent, PassiveOpenEvent, ReleaseEvent, ResetEvent, StepEvent, kind_of_transition,
};

use crate::{
    access::Access,
    maps::{EVENTS, count_loss, count_transition},
    socket::{Record, Socket, Tcp},
    task,
};

/// Reserves room for a `T`, lets `fill` write all of it, and submits; counts what finds no room.
#[inline(always)]
fn emit<T: 'static>(lost: usize, fill: impl FnOnce(*mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count_loss(lost);
        return;
    };
    fill(entry.as_mut_ptr());
    entry.submit(0);
}

/// What the header says besides the time.
struct Head {
    socket: u64,
    cookie: u64,
    kind: u8,
    old: u8,
    new: u8,
    fields: u8,
    family: u16,
}

impl Head {
    #[inline(always)]
    fn write(&self, to: *mut EventHeader) {
        // SAFETY: `to` is reserved room of the right size.
        unsafe {
            to.write(EventHeader {
                // SAFETY: a helper without arguments.
                time_ns: bpf_ktime_get_ns(),
                socket: self.socket,
                cookie: self.cookie,
                kind: self.kind,
                old_state: self.old,
                new_state: self.new,
                fields: self.fields,
                family: self.family,
                reserved: 0,
            });
        }
    }
}

/// One transition of a socket whose fields can be read.
#[inline(always)]
pub fn transition<A: Access>(socket: &Socket<A>, tcp: &Tcp<A>, old: u8, new: u8) {
    count_transition(old, new);
    let kind = kind_of_transition(old, new);
    let head = Head {
        socket: socket.address(),
        cookie: socket.cookie(),
        kind,
        old,
        new,
        fields: FIELDS_SOCK | FIELDS_TCP,
        family: socket.family(),
    };
    // SAFETY (all arms): each pointer is reserved room for the whole event.
    match kind {
        KIND_OPEN => emit(LOST_TRANSITION, |event: *mut OpenEvent| unsafe {
            let fields = task::write_current(&mut (*event).task);
            Head {
                fields: head.fields | fields,
                ..head
            }
            .write(&raw mut (*event).header);
            socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
            (*event).cgroup = socket.cgroup();
            (*event).uid = socket.uid();
            (*event).reserved = 0;
        }),
        KIND_PASSIVE_OPEN => emit(LOST_TRANSITION, |event: *mut PassiveOpenEvent| unsafe {
            head.write(&raw mut (*event).header);
            socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
            (*event).cgroup = socket.cgroup();
            (*event).uid = socket.uid();
            (*event).reserved = 0;
        }),
        KIND_ESTABLISHED => emit(LOST_TRANSITION, |event: *mut EstablishedEvent| unsafe {
            head.write(&raw mut (*event).header);
            socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
            (*event).srtt_us = tcp.srtt_us();
            (*event).retransmits = tcp.retransmits();
        }),
        KIND_RELEASE => emit_release(&head),
        KIND_CLOSE => emit(LOST_TRANSITION, |event: *mut CloseEvent| unsafe {
            head.write(&raw mut (*event).header);
            socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
            tcp.write_close(&mut *event);
        }),
        _ => emit_step(&head),
    }
}

/// One transition of which there is nothing but the classic tracepoint's record.
#[inline(always)]
pub fn transition_of_record(record: &Record<'_>) {
    count_transition(record.old(), record.new());
    let kind = kind_of_transition(record.old(), record.new());
    let head = Head {
        socket: record.socket() as u64,
        cookie: 0,
        kind,
        old: record.old(),
        new: record.new(),
        fields: 0,
        family: record.family(),
    };
    // SAFETY (all arms): each pointer is reserved room for the whole event; zero is a value of
    // every field.
    match kind {
        KIND_OPEN => emit(LOST_TRANSITION, |event: *mut OpenEvent| unsafe {
            ptr::write_bytes(event, 0, 1);
            task::write_current(&mut (*event).task);
            head.write(&raw mut (*event).header);
            record.write_endpoints(&mut (*event).endpoints);
        }),
        KIND_PASSIVE_OPEN => emit(LOST_TRANSITION, |event: *mut PassiveOpenEvent| unsafe {
            ptr::write_bytes(event, 0, 1);
            head.write(&raw mut (*event).header);
            record.write_endpoints(&mut (*event).endpoints);
        }),
        KIND_ESTABLISHED => emit(LOST_TRANSITION, |event: *mut EstablishedEvent| unsafe {
            ptr::write_bytes(event, 0, 1);
            head.write(&raw mut (*event).header);
            record.write_endpoints(&mut (*event).endpoints);
        }),
        KIND_RELEASE => emit_release(&head),
        KIND_CLOSE => emit(LOST_TRANSITION, |event: *mut CloseEvent| unsafe {
            ptr::write_bytes(event, 0, 1);
            head.write(&raw mut (*event).header);
            record.write_endpoints(&mut (*event).endpoints);
        }),
        _ => emit_step(&head),
    }
}

#[inline(always)]
fn emit_release(head: &Head) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_TRANSITION, |event: *mut ReleaseEvent| unsafe {
        let fields = task::write_current(&mut (*event).task);
        Head {
            fields: head.fields | fields,
            ..*head
        }
        .write(&raw mut (*event).header);
    });
}

#[inline(always)]
fn emit_step(head: &Head) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_TRANSITION, |event: *mut StepEvent| unsafe {
        head.write(&raw mut (*event).header);
    });
}

/// A RST, received or sent; for a timewait socket only what `sock_common` has.
#[inline(always)]
pub fn reset<A: Access>(socket: &Socket<A>, kind: u8) {
    let full = socket.is_full();
    if full && !socket.is_tcp() {
        return;
    }
    let state = socket.state();
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_RESET, |event: *mut ResetEvent| unsafe {
        Head {
            socket: socket.address(),
            cookie: if full { socket.cookie() } else { 0 },
            kind,
            old: state,
            new: state,
            fields: if full { FIELDS_SOCK } else { 0 },
            family: socket.family(),
        }
        .write(&raw mut (*event).header);
        let endpoints: *mut Endpoints = &raw mut (*event).endpoints;
        socket.write_endpoints(&mut *endpoints, socket.num());
    });
}
