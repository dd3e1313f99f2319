//! Durations: handshakes, lives, half-closed phases, round trips.

use super::family::Family;
use crate::{
    metrics::{
        cells::{SCOPES, SIDES, role_index},
        scrape::Scrape,
    },
    probe::Hook,
    tracker::Role,
};

pub(super) fn families(scrape: &Scrape) -> Vec<Family> {
    let mut families = vec![handshakes(scrape), lives(scrape), half_closed(scrape)];
    if scrape.source(Hook::Accept).is_some() {
        families.push(accept_waits(scrape));
    }
    if scrape.reads_sockets() {
        families.push(round_trips(scrape));
    }
    families
}

fn handshakes(scrape: &Scrape) -> Family {
    let mut handshakes = Family::histogram(
        "tcptrace_handshake_duration_seconds",
        &["role", "port", "scope"],
        "How long the three-way handshake took, SYN retransmits included. active: connect() to the SYN-ACK. \
         passive: the SYN-ACK (or the SYN) to its ACK, if known. \
         scope=\"loopback\" when both ends are this host's loopback.",
    );
    scrape.for_each_port(|at| {
        for (scope, histogram) in SCOPES.into_iter().zip(&at.cells.handshake) {
            if histogram.count() > 0 {
                handshakes.add_histogram(&[at.role.name(), at.port, scope], histogram);
            }
        }
    });
    handshakes
}

fn accept_waits(scrape: &Scrape) -> Family {
    let mut waits = Family::histogram(
        "tcptrace_accept_wait_duration_seconds",
        &["port"],
        "How long established connections waited for accept(); 0 for those that accept() returned earlier.",
    );
    scrape.for_each_port(|at| {
        if at.role == Role::Passive && at.cells.accept_wait.count() > 0 {
            waits.add_histogram(&[at.port], &at.cells.accept_wait);
        }
    });
    waits
}

fn lives(scrape: &Scrape) -> Family {
    let mut lives = Family::histogram(
        "tcptrace_connection_duration_seconds",
        &["role"],
        "How long established connections lived, from their first transition to CLOSE, without those first seen after their handshake.",
    );
    for &role in Role::ALL {
        let histogram = &scrape.cells.duration[role_index(role)];
        let always = match role {
            Role::Active | Role::Passive => true,
            Role::Simultaneous | Role::Unknown => false,
        };
        if always || histogram.count() > 0 {
            lives.add_histogram(&[role.name()], histogram);
        }
    }
    lives
}

fn half_closed(scrape: &Scrape) -> Family {
    let mut half_closed = Family::histogram(
        "tcptrace_half_closed_duration_seconds",
        &["side"],
        "How long one direction was closed and the other still open; side is whose FIN came first. \
         Phases whose end was not seen are not counted.",
    );
    for (side, histogram) in SIDES.into_iter().zip(&scrape.cells.half_closed) {
        half_closed.add_histogram(&[side.name()], histogram);
    }
    half_closed
}

fn round_trips(scrape: &Scrape) -> Family {
    let mut round_trips = Family::histogram(
        "tcptrace_rtt_seconds",
        &["scope"],
        "The kernel's smoothed round-trip time of established connections when they ended.",
    );
    for (scope, histogram) in SCOPES.into_iter().zip(&scrape.cells.rtt) {
        round_trips.add_histogram(&[scope], histogram);
    }
    round_trips
}
