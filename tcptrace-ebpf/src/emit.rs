//! Placing events in the ring.

use core::ptr;

use aya_ebpf::helpers::{bpf_ktime_get_ns, generated::bpf_probe_read_kernel_str};
use tcptrace_common::{
    AcceptEvent, CGROUP_PATH, CgroupEvent, CloseEvent, ConnectFailedEvent, EstablishedEvent,
    EventHeader, FIELDS_TASK, KIND_ACCEPT, KIND_CGROUP, KIND_CLOSE, KIND_CONNECT_FAILED,
    KIND_ESTABLISHED, KIND_EXIT, KIND_HELD, KIND_OPEN, KIND_PASSIVE_OPEN, KIND_RELEASE,
    KIND_RENAME, KIND_SEED, KIND_SYNACK_RETRANSMIT, KIND_TIMEWAIT, KIND_TIMEWAIT_STEP, LOST_ACCEPT,
    LOST_CGROUP, LOST_CONNECT, LOST_PROCESS, LOST_RESET, LOST_SEED, LOST_SYNACK_RETRANSMIT,
    LOST_TIMEWAIT, LOST_TRANSITION, OpenEvent, PassiveOpenEvent, PlaceEvent, ProcessEvent,
    RawEndpoints, ReleaseEvent, ResetEvent, SeedEvent, StepEvent, TcpState, TimewaitEvent,
    TimewaitStepEvent, kind_of_transition,
};

use crate::{
    access::Access,
    copies::Pass,
    handshake,
    maps::{EVENTS, count_loss, count_transition},
    socket::{Record, Socket},
    task::{self, Process},
    tcp::Tcp,
};

/// Reserves room for a `T`, lets `fill` write all of it, and submits; counts the event if there is
/// no room.
///
/// What `fill` captures, it owns: a reference to a struct may be the only mention of that struct in
/// BTF, which then names it without describing it, and the linker orders such names by chance.
#[inline(always)]
fn emit<T: 'static>(lost: usize, fill: impl FnOnce(*mut T)) {
    let Some(mut entry) = EVENTS.reserve::<T>(0) else {
        count_loss(lost);
        return;
    };
    fill(entry.as_mut_ptr());
    entry.submit(0);
}

/// The fields of the header, without the time.
#[derive(Clone, Copy)]
struct Head {
    socket: u64,
    cookie: u64,
    kind: u8,
    old: u8,
    new: u8,
    fields: u8,
    family: u16,
}

#[inline(always)]
fn write_header(head: Head, to: *mut EventHeader) {
    // SAFETY: `to` is reserved room of the right size.
    unsafe {
        to.write(EventHeader {
            // SAFETY: a helper without arguments.
            time_ns: bpf_ktime_get_ns(),
            socket: head.socket,
            cookie: head.cookie,
            kind: head.kind,
            old_state: head.old,
            new_state: head.new,
            fields: head.fields,
            family: head.family,
            reserved: 0,
        });
    }
}

/// A transition of a socket whose fields can be read.
#[inline(always)]
pub fn transition<A: Access, C: Pass>(socket: Socket<A>, tcp: Tcp<A>, old: u8, new: u8) {
    count_transition(old, new);
    let kind = kind_of_transition(old, new);
    let head = Head {
        socket: socket.address(),
        cookie: socket.cookie(),
        kind,
        old,
        new,
        fields: Socket::<A>::known_fields() | tcp.unsent(new) | C::FIELDS,
        family: socket.family(),
    };
    // SAFETY (all arms): each pointer is reserved room for the whole event.
    match kind {
        KIND_OPEN => emit(LOST_TRANSITION, move |event: *mut OpenEvent| unsafe {
            let fields = task::write_current(&mut (*event).task);
            let head = Head {
                fields: head.fields | fields,
                ..head
            };
            write_header(head, &raw mut (*event).header);
            socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
            (*event).cgroup = socket.cgroup();
            (*event).uid = socket.uid();
            (*event).bind_flags = tcp.bind_flags();
            if new == TcpState::Listen.raw() {
                task::note_listener();
            }
        }),
        KIND_PASSIVE_OPEN => emit(
            LOST_TRANSITION,
            move |event: *mut PassiveOpenEvent| unsafe {
                write_header(head, &raw mut (*event).header);
                socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
                (*event).cgroup = socket.cgroup();
                (*event).uid = socket.uid();
                handshake::write_request(&mut *event, &tcp);
            },
        ),
        KIND_ESTABLISHED => {
            let (syn_ns, segment) = if old == TcpState::SynRecv.raw() {
                handshake::take_last_segment(&socket)
            } else {
                (0, 0)
            };
            emit(
                LOST_TRANSITION,
                move |event: *mut EstablishedEvent| unsafe {
                    write_header(head, &raw mut (*event).header);
                    socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
                    (*event).srtt_us = tcp.srtt_us();
                    (*event).retransmits = tcp.retransmits();
                    (*event).syn_ns = syn_ns;
                    (*event).handshake_flags = tcp.handshake_flags() | segment;
                    (*event).reserved = 0;
                },
            );
        }
        KIND_RELEASE => emit_release(head),
        KIND_CLOSE => emit(LOST_TRANSITION, move |event: *mut CloseEvent| unsafe {
            write_header(head, &raw mut (*event).header);
            socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
            tcp.write_close(&mut *event);
        }),
        _ => emit_step(head),
    }
}

/// A transition of which only the classic tracepoint's record is known.
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
        KIND_OPEN => emit(LOST_TRANSITION, move |event: *mut OpenEvent| unsafe {
            ptr::write_bytes(event, 0, 1);
            task::write_current(&mut (*event).task);
            write_header(head, &raw mut (*event).header);
            record.write_endpoints(&mut (*event).endpoints);
        }),
        KIND_PASSIVE_OPEN => emit(
            LOST_TRANSITION,
            move |event: *mut PassiveOpenEvent| unsafe {
                ptr::write_bytes(event, 0, 1);
                write_header(head, &raw mut (*event).header);
                record.write_endpoints(&mut (*event).endpoints);
            },
        ),
        KIND_ESTABLISHED => emit(
            LOST_TRANSITION,
            move |event: *mut EstablishedEvent| unsafe {
                ptr::write_bytes(event, 0, 1);
                write_header(head, &raw mut (*event).header);
                record.write_endpoints(&mut (*event).endpoints);
            },
        ),
        KIND_RELEASE => emit_release(head),
        KIND_CLOSE => emit(LOST_TRANSITION, move |event: *mut CloseEvent| unsafe {
            ptr::write_bytes(event, 0, 1);
            write_header(head, &raw mut (*event).header);
            record.write_endpoints(&mut (*event).endpoints);
        }),
        _ => emit_step(head),
    }
}

#[inline(always)]
fn emit_release(head: Head) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_TRANSITION, move |event: *mut ReleaseEvent| unsafe {
        let fields = task::write_current(&mut (*event).task);
        let head = Head {
            fields: head.fields | fields,
            ..head
        };
        write_header(head, &raw mut (*event).header);
    });
}

#[inline(always)]
fn emit_step(head: Head) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_TRANSITION, move |event: *mut StepEvent| unsafe {
        write_header(head, &raw mut (*event).header);
    });
}

/// The header of an event that is no transition: both states are the current one.
#[inline(always)]
fn standing<A: Access>(socket: Socket<A>, kind: u8) -> Head {
    let state = socket.state();
    let full = socket.is_full();
    Head {
        socket: socket.address(),
        cookie: if full { socket.cookie() } else { 0 },
        kind,
        old: state,
        new: state,
        fields: if full { Socket::<A>::known_fields() } else { 0 },
        family: socket.family(),
    }
}

/// A RST, received or sent; for a timewait socket only what `sock_common` has.
#[inline(always)]
pub fn reset<A: Access, C: Pass>(socket: Socket<A>, kind: u8, reason: u32) {
    if socket.is_full() && !socket.is_tcp() {
        return;
    }
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_RESET, move |event: *mut ResetEvent| unsafe {
        let head = standing(socket, kind);
        let head = Head {
            fields: head.fields | C::FIELDS,
            ..head
        };
        write_header(head, &raw mut (*event).header);
        let endpoints: *mut RawEndpoints = &raw mut (*event).endpoints;
        socket.write_endpoints(&mut *endpoints, socket.num());
        (*event).reason = reason;
        (*event).reserved = 0;
    });
}

/// accept() returned a connection to the current task.
#[inline(always)]
pub fn accept<A: Access>(socket: Socket<A>, listener: u64) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_ACCEPT, move |event: *mut AcceptEvent| unsafe {
        let fields = task::write_current(&mut (*event).task);
        let head = standing(socket, KIND_ACCEPT);
        let head = Head {
            fields: head.fields | fields,
            ..head
        };
        write_header(head, &raw mut (*event).header);
        socket.write_endpoints(&mut (*event).endpoints, socket.num());
        (*event).listener = listener;
    });
}

/// The current task's connect() failed; `fill` writes the details.
#[inline(always)]
pub fn connect_failed<A: Access>(socket: Socket<A>, fill: impl FnOnce(&mut ConnectFailedEvent)) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_CONNECT, move |event: *mut ConnectFailedEvent| unsafe {
        let fields = task::write_current(&mut (*event).task);
        let head = standing(socket, KIND_CONNECT_FAILED);
        let head = Head {
            fields: head.fields | fields,
            ..head
        };
        write_header(head, &raw mut (*event).header);
        socket.write_endpoints(&mut (*event).endpoints, socket.num());
        (*event).cgroup = socket.cgroup();
        (*event).uid = socket.uid();
        (*event).reserved = 0;
        fill(&mut *event);
    });
}

/// A process changed its name.
#[inline(always)]
pub fn renamed(process: &Process, comm: *const u8) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_PROCESS, move |event: *mut ProcessEvent| unsafe {
        process.write_as(comm, &mut (*event).task);
        write_header(
            of_process(KIND_RENAME, FIELDS_TASK),
            &raw mut (*event).header,
        );
    });
}

/// The current process exited.
#[inline(always)]
pub fn exited() {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_PROCESS, move |event: *mut ProcessEvent| unsafe {
        let fields = task::write_current(&mut (*event).task);
        write_header(of_process(KIND_EXIT, fields), &raw mut (*event).header);
    });
}

/// A cgroup is created.
#[inline(always)]
pub fn cgroup_made(cgroup: u64, path: *const u8) {
    // SAFETY: the pointer is reserved room for the whole event; the helper takes any address, and
    // writes up to the path's end.
    emit(LOST_CGROUP, move |event: *mut CgroupEvent| unsafe {
        let to = (&raw mut (*event).path).cast();
        let length = bpf_probe_read_kernel_str(to, CGROUP_PATH as u32, path.cast());
        write_header(of_process(KIND_CGROUP, 0), &raw mut (*event).header);
        (*event).cgroup = cgroup;
        // A longer path fills all the room, too.
        (*event).length = if length > 0 && length < CGROUP_PATH as i64 {
            length as u32
        } else {
            0
        };
        (*event).reserved = 0;
    });
}

#[inline(always)]
fn of_process(kind: u8, fields: u8) -> Head {
    Head {
        socket: 0,
        cookie: 0,
        kind,
        old: 0,
        new: 0,
        fields,
        family: 0,
    }
}

/// A timewait socket takes over, or there was no room for one (0).
#[inline(always)]
pub fn timewait<A: Access>(socket: Socket<A>, timewait: u64, substate: u8) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_TIMEWAIT, move |event: *mut TimewaitEvent| unsafe {
        write_header(standing(socket, KIND_TIMEWAIT), &raw mut (*event).header);
        (*event).timewait = timewait;
        (*event).substate = substate;
        (*event).reserved = [0; 7];
    });
}

/// A segment reached a timewait socket and changed it.
#[inline(always)]
pub fn timewait_step<A: Access>(
    socket: Socket<A>,
    before: u8,
    after: u8,
    status: u32,
    reset: bool,
) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_TIMEWAIT, move |event: *mut TimewaitStepEvent| unsafe {
        let head = Head {
            socket: socket.address(),
            cookie: socket.cookie(),
            kind: KIND_TIMEWAIT_STEP,
            old: before,
            new: after,
            fields: 0,
            family: socket.family(),
        };
        write_header(head, &raw mut (*event).header);
        socket.write_endpoints(&mut (*event).endpoints, socket.num());
        (*event).status = status;
        (*event).reset = u32::from(reset);
    });
}

/// A SYN-ACK of a listener is retransmitted.
#[inline(always)]
pub fn synack_retransmit<A: Access>(socket: Socket<A>) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(
        LOST_SYNACK_RETRANSMIT,
        move |event: *mut PlaceEvent| unsafe {
            write_header(
                standing(socket, KIND_SYNACK_RETRANSMIT),
                &raw mut (*event).header,
            );
            socket.write_endpoints(&mut (*event).endpoints, socket.num());
        },
    );
}

/// A process holds a socket.
#[inline(always)]
pub fn held<A: Access>(socket: Socket<A>) {
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_SEED, move |event: *mut PlaceEvent| unsafe {
        write_header(standing(socket, KIND_HELD), &raw mut (*event).header);
        socket.write_endpoints(&mut (*event).endpoints, socket.num());
    });
}

/// A socket found by a walk.
#[inline(always)]
pub fn seed<A: Access>(tcp: Tcp<A>) {
    let socket = *tcp.socket();
    // SAFETY: the pointer is reserved room for the whole event.
    emit(LOST_SEED, move |event: *mut SeedEvent| unsafe {
        write_header(standing(socket, KIND_SEED), &raw mut (*event).header);
        socket.write_endpoints(&mut (*event).endpoints, tcp.local_port());
        (*event).cgroup = socket.cgroup();
        (*event).uid = socket.uid();
        (*event).bind_flags = tcp.bind_flags();
        (*event).inode = socket.inode();
    });
}
