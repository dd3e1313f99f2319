//! The tracker, fed with events that no kernel need make.
//!
//! `story` makes events, `recording` keeps what the tracker says; each of the others is about
//! one noun.

mod bursts;
mod connection;
mod connects;
mod copies;
mod generations;
mod grace;
mod handshakes;
mod listeners;
mod lives;
mod loss;
mod model;
mod names;
mod passive_opens;
mod properties;
mod recording;
mod releases;
mod resync;
mod silence;
mod story;
mod table;
mod time_waits;
mod verdict_space;
mod verdicts;

use tcptrace_common::TcpState::{self, *};

use self::{
    recording::{Recording, play, record_of, tracker},
    story::{CLIENT, MS, SERVER, SOCKET, START, Story, closing, ends, orphan, released, unserved},
};
use super::lifecycle::can_lead_to;
use super::*;
use crate::feed::event::{
    Body, CloseFields, ConnectFailure, Details, Endpoints, Event, HandshakeFields, NetnsId,
    SocketOwner, Task, Transition,
};
